"""The four tables.

Revision ID: 0001
Revises:
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_BINARY = {"charset": "utf8mb4", "collation": "utf8mb4_bin"}
_ID = (
    sa.String(255)
    .with_variant(sa.String(255, collation="C"), "postgresql")
    .with_variant(mysql.VARCHAR(255, **_BINARY), "mysql", "mariadb")
)
_TEXT = sa.Text().with_variant(mysql.LONGTEXT(**_BINARY), "mysql", "mariadb")
_DIGEST = sa.String(32).with_variant(
    mysql.VARCHAR(32, charset="ascii", collation="ascii_bin"), "mysql", "mariadb"
)


def upgrade() -> None:
    _table(
        "containers",
        sa.Column("container_id", _ID, nullable=False),
        *_listed(),
        sa.PrimaryKeyConstraint("container_id", name="pk_containers"),
        indexes=[("newest", "container_id")],
    )
    _table(
        "images",
        sa.Column("image_id", _ID, nullable=False),
        sa.Column("container_id", _ID, nullable=False),
        sa.Column("session_id", _ID, nullable=False),
        sa.Column("name", _TEXT),
        sa.Column("name_digest", _DIGEST),
        sa.Column("role_id", _ID),
        sa.Column("os_id", _ID),
        sa.Column("model", _TEXT),
        sa.Column("thinking", sa.String(16)),
        sa.Column("prototype_id", _ID),
        sa.Column("parent_image_id", _ID),
        *_listed(),
        sa.PrimaryKeyConstraint("image_id", name="pk_images"),
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
        sa.Column("image_id", _ID, nullable=False),
        sa.Column("container_id", _ID, nullable=False),
        sa.Column("message_count", sa.Integer(), server_default="0", nullable=False),
        *_listed(),
        sa.PrimaryKeyConstraint("session_id", name="pk_sessions"),
        indexes=[
            ("newest", "session_id"),
            ("container_id", "newest", "session_id"),
            ("image_id", "newest", "session_id"),
        ],
    )
    _table(
        "messages",
        sa.Column("session_id", _ID, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("message_id", _ID, nullable=False),
        sa.Column("body", _TEXT, nullable=False),
        sa.PrimaryKeyConstraint("session_id", "position", name="pk_messages"),
        sa.UniqueConstraint("session_id", "message_id", name="uq_messages_session_id_message_id"),
        sa.ForeignKeyConstraint(
            ["session_id"],
            ["sessions.session_id"],
            name="fk_messages_session_id_sessions",
            ondelete="CASCADE",
        ),
    )


def downgrade() -> None:
    for table in ("messages", "sessions", "images", "containers"):
        op.drop_table(table, if_exists=True)


def _listed() -> list[sa.Column[object]]:
    return [
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("newest", sa.BigInteger(), sa.Computed("-created_at", persisted=True)),
        sa.Column("body", _TEXT, nullable=False),
    ]


def _table(
    name: str, *parts: sa.schema.SchemaItem, indexes: Sequence[tuple[str, ...]] = ()
) -> None:
    # MySQL commits each of these statements by itself: after an interruption some are there.
    op.create_table(name, *parts, if_not_exists=True, mysql_engine="InnoDB")
    there: set[str | None] = set()
    if not op.get_context().as_sql:
        there = {index["name"] for index in sa.inspect(op.get_bind()).get_indexes(name)}
    for columns in indexes:
        index = f"ix_{name}_{'_'.join(columns)}"
        if index not in there:
            op.create_index(index, name, list(columns))
