"""The five tables.

Revision ID: agentx_0001
Revises:
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import sqlalchemy as sa
from alembic.operations import Operations
from sqlalchemy.dialects import mysql

from agentx_persistence.errors import SchemaError

revision = "agentx_0001"
down_revision = None
branch_labels = None
depends_on = None

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


_VERSION_TABLE = "agentx_alembic_version"


def upgrade(op: Operations) -> None:
    tables = _tables()
    there = {name: _indexes(op, name, table.parts) for name, table in tables.items()}
    _add_oldest(op)
    for name, table in tables.items():
        # MySQL commits each of these statements by itself: after an interruption some are there.
        op.create_table(
            name,
            *table.parts,
            schema=_place(op),
            if_not_exists=True,
            mysql_engine="InnoDB",
        )
        for columns in table.indexes:
            index = f"ix_{name}_{'_'.join(columns)}"
            if index not in there[name]:
                op.create_index(index, name, list(columns), schema=_place(op))
    context = op.get_context()
    if context.dialect.name == "postgresql":
        # Room for new versions of a row on its own page, which PostgreSQL needs to leave the
        # indexes as they are. SQLAlchemy's tables have no option for it before 2.1.
        sessions = _quoted([_place(op), "agentx_sessions"])
        op.execute(sa.DDL(f"ALTER TABLE {sessions} SET (fillfactor = 70)"))
        # If most sessions have one message, its id and its position look equally selective, and
        # PostgreSQL may search all messages of a long session for some positions. So it is told
        # that a session has 50 messages.
        messages = _quoted([_place(op), "agentx_messages"])
        op.execute(
            sa.DDL(f"ALTER TABLE {messages} ALTER COLUMN session_id SET (n_distinct = -0.02)")
        )


def _quoted(names: Sequence[str | None]) -> str:
    """Return the name of a table for `sa.DDL`, which replaces what follows a single %."""
    doubled = [name.replace('"', '""').replace("%", "%%") for name in names if name]
    return ".".join(f'"{name}"' for name in doubled)


def downgrade(op: Operations) -> None:
    tables = _tables()
    for name, table in tables.items():
        _indexes(op, name, table.parts)
    for name in reversed(tables):
        op.drop_table(name, schema=_place(op), if_exists=True)


def _place(op: Operations) -> str | None:
    """Return the schema, which each operation has to be given."""
    place: str | None = op.get_context().opts.get("version_table_schema")
    return place


def _add_oldest(op: Operations) -> None:
    """Add the oldest revision whose code can use the schema. Later migrations raise it."""
    if not op.get_context().as_sql:
        columns = sa.inspect(op.get_bind()).get_columns(_VERSION_TABLE, schema=_place(op))
        if any(column["name"] == "oldest" for column in columns):
            return
    oldest = sa.Column("oldest", sa.String(32), server_default=revision, nullable=False)
    op.add_column(_VERSION_TABLE, oldest, schema=_place(op))


def _indexes(op: Operations, name: str, parts: Sequence[sa.schema.SchemaItem]) -> set[str | None]:
    """Return the names of the table's indexes, as far as it is there.

    :raises SchemaError: if it has other columns, and so is not of this package
    """
    if op.get_context().as_sql:
        return set()
    inspector = sa.inspect(op.get_bind())
    if not inspector.has_table(name, schema=_place(op)):
        return set()
    found = {column["name"] for column in inspector.get_columns(name, schema=_place(op))}
    if found != {part.name for part in parts if isinstance(part, sa.Column)}:
        raise SchemaError(
            f"the database has a table {name} that this package did not make",
            "rename or remove it",
        )
    return {index["name"] for index in inspector.get_indexes(name, schema=_place(op))}


class _Table(NamedTuple):
    parts: Sequence[sa.schema.SchemaItem]
    indexes: Sequence[tuple[str, ...]] = ()


def _tables() -> dict[str, _Table]:
    return {
        "agentx_containers": _Table(
            [
                sa.Column("container_id", _ID, nullable=False),
                *_document(),
                sa.PrimaryKeyConstraint("container_id", name="pk_agentx_containers"),
            ],
            indexes=[("newest", "container_id")],
        ),
        "agentx_images": _Table(
            [
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
            ],
            indexes=[
                ("newest", "image_id"),
                ("container_id", "newest", "image_id"),
                ("name_digest", "newest", "image_id"),
                ("container_id", "name_digest", "newest", "image_id"),
            ],
        ),
        "agentx_sessions": _Table(
            [
                sa.Column("session_id", _ID, nullable=False),
                sa.Column("container_id", _ID),
                sa.Column("image_id", _ID),
                sa.Column("owners_digest", _DIGEST),
                sa.Column("message_count", sa.Integer(), server_default="0", nullable=False),
                sa.Column("generation", _TOKEN, nullable=False),
                sa.Column("latest", sa.BigInteger(), nullable=False),
                *_document(),
                sa.PrimaryKeyConstraint("session_id", name="pk_agentx_sessions"),
            ],
            indexes=[
                ("newest", "session_id"),
                ("container_id", "newest", "session_id"),
                ("image_id", "newest", "session_id"),
                ("owners_digest", "newest", "session_id"),
                ("container_id", "latest", "session_id"),
            ],
        ),
        "agentx_messages": _Table(
            [
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
            ]
        ),
        "agentx_items": _Table(
            [
                sa.Column("namespace", _text(508), nullable=False),
                sa.Column("key", _ID, nullable=False),
                *_document(),
                sa.PrimaryKeyConstraint("namespace", "key", name="pk_agentx_items"),
            ],
            indexes=[("namespace", "newest", "key")],
        ),
    }


def _document() -> list[sa.Column[object]]:
    return [
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("newest", sa.BigInteger(), sa.Computed("-created_at", persisted=True)),
        sa.Column("revision", _TOKEN, nullable=False),
        sa.Column("body", _TEXT, nullable=False),
    ]
