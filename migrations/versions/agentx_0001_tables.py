"""The five tables.

Revision ID: agentx_0001
Revises:
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from agentx_persistence.errors import SchemaError

revision = "agentx_0001"
down_revision = None
branch_labels = None
depends_on = None

_TABLES = ("containers", "images", "sessions", "messages", "items")
_BINARY = {"charset": "utf8mb4", "collation": "utf8mb4_bin"}
_ASCII = {"charset": "ascii", "collation": "ascii_bin"}


def _text(length: int) -> sa.String:
    return (
        sa.String(length)
        .with_variant(sa.String(length, collation="C"), "postgresql")
        .with_variant(mysql.VARCHAR(length, **_BINARY), "mysql", "mariadb")
    )


def _ascii(length: int) -> sa.String:
    return sa.String(length).with_variant(mysql.VARCHAR(length, **_ASCII), "mysql", "mariadb")


_ID = _text(255)
_TEXT = sa.Text().with_variant(mysql.LONGTEXT(**_BINARY), "mysql", "mariadb")
_DIGEST = _ascii(32)
_TOKEN = _ascii(100)


def upgrade() -> None:
    _table(
        "containers",
        sa.Column("container_id", _ID, nullable=False),
        *_document(),
        sa.PrimaryKeyConstraint("container_id", name="pk_agentx_containers"),
        indexes=[("newest", "container_id")],
    )
    _table(
        "images",
        sa.Column("image_id", _ID, nullable=False),
        sa.Column("container_id", _ID),
        sa.Column("session_id", _ID),
        sa.Column("name", _TEXT),
        sa.Column("name_digest", _DIGEST),
        sa.Column("role_id", _ID),
        sa.Column("os_id", _ID),
        sa.Column("model", _TEXT),
        sa.Column("thinking", _TEXT),
        sa.Column("prototype_id", _ID),
        sa.Column("parent_image_id", _ID),
        *_document(),
        sa.PrimaryKeyConstraint("image_id", name="pk_agentx_images"),
        indexes=[
            ("newest", "image_id"),
            ("container_id", "newest", "image_id"),
            ("name_digest", "newest", "image_id"),
            ("container_id", "name_digest", "newest", "image_id"),
        ],
    )
    _table(
        "sessions",
        sa.Column("session_id", _ID, nullable=False),
        sa.Column("container_id", _ID),
        sa.Column("image_id", _ID),
        sa.Column("owners_digest", _DIGEST),
        sa.Column("message_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("generation", _TOKEN, nullable=False),
        sa.Column("latest", sa.BigInteger(), nullable=False),
        *_document(),
        sa.PrimaryKeyConstraint("session_id", name="pk_agentx_sessions"),
        indexes=[
            ("newest", "session_id"),
            ("container_id", "newest", "session_id"),
            ("image_id", "newest", "session_id"),
            ("owners_digest", "newest", "session_id"),
            ("container_id", "latest", "session_id"),
        ],
        postgresql_with={"fillfactor": 70},
    )
    _table(
        "messages",
        sa.Column("session_id", _ID, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("message_id", _ID, nullable=False),
        sa.Column("role", _ID),
        sa.Column("subtype", _ID),
        sa.Column("timestamp", sa.BigInteger()),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("body", _TEXT, nullable=False),
        sa.PrimaryKeyConstraint("session_id", "position", name="pk_agentx_messages"),
        sa.UniqueConstraint(
            "session_id", "message_id", name="uq_agentx_messages_session_id_message_id"
        ),
    )
    _table(
        "items",
        sa.Column("namespace", _text(508), nullable=False),
        sa.Column("key", _ID, nullable=False),
        *_document(),
        sa.PrimaryKeyConstraint("namespace", "key", name="pk_agentx_items"),
        indexes=[("namespace", "newest", "key")],
    )


def downgrade() -> None:
    for table in reversed(_TABLES):
        op.drop_table(f"agentx_{table}", if_exists=True)


def _document() -> list[sa.Column[object]]:
    return [
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("newest", sa.BigInteger(), sa.Computed("-created_at", persisted=True)),
        sa.Column("revision", _TOKEN, nullable=False),
        sa.Column("body", _TEXT, nullable=False),
    ]


def _table(
    name: str,
    *parts: sa.schema.SchemaItem,
    indexes: Sequence[tuple[str, ...]] = (),
    **options: object,
) -> None:
    name = f"agentx_{name}"
    there: set[str | None] = set()
    if not op.get_context().as_sql:
        inspector = sa.inspect(op.get_bind())
        place = op.get_context().opts.get("version_table_schema")
        if inspector.has_table(name, schema=place):
            found = {column["name"] for column in inspector.get_columns(name, schema=place)}
            ours = {part.name for part in parts if isinstance(part, sa.Column)}
            if found != ours:
                raise SchemaError(
                    f"the database has a table {name} that this package did not make",
                    "rename or remove it",
                )
            there = {index["name"] for index in inspector.get_indexes(name, schema=place)}
    # MySQL commits each of these statements by itself: after an interruption some are there.
    op.create_table(name, *parts, if_not_exists=True, mysql_engine="InnoDB", **options)
    for columns in indexes:
        index = f"ix_{name}_{'_'.join(columns)}"
        if index not in there:
            op.create_index(index, name, list(columns))
