"""The tables.

`body` is a record's wire form, exactly as it is given back. It is text, not JSONB and not MySQL's
JSON, as both change the order of keys and numbers
(https://www.postgresql.org/docs/current/datatype-json.html). The other columns say the same of the
fields that are searched, counted and joined on; texts of any length are only in the body.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Computed,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.types import TypeEngine

_MYSQL = ("mysql", "mariadb")

# Ids are compared and ordered by code point everywhere, whatever the database's own collation is:
# no id equals another in a different case or accent, and all backends list in the same order.
IdText = (
    String(255)
    .with_variant(String(255, collation="C"), "postgresql")
    .with_variant(String(255, collation="utf8mb4_bin"), *_MYSQL)
)
# Names are looked up by a digest: 500 characters beside two ids would exceed what an index entry
# may hold (PostgreSQL 2,704 bytes, MySQL 3,072), and MySQL's binary collations ignore trailing
# spaces, in another way than MariaDB's.
Digest = String(32).with_variant(String(32, collation="ascii_bin"), *_MYSQL)


class LongText(TypeDecorator[str]):
    """Text of any length."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name not in _MYSQL:
            return super().load_dialect_impl(dialect)
        # Not imported by those who use another database: it takes half as long as pydantic.
        from sqlalchemy.dialects import mysql

        # MySQL's TEXT ends at 64 KB.
        return dialect.type_descriptor(mysql.LONGTEXT(collation="utf8mb4_bin"))


METADATA = MetaData(
    # Fixed from the first migration on: without names, SQLite's tables cannot be migrated.
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _listed() -> list[Column[Any]]:
    """Return what every record has, and what its listings are ordered by."""
    return [
        Column("created_at", BigInteger, nullable=False),
        Column("updated_at", BigInteger, nullable=False),
        # The order is newest first, then by id ascending. With the time negated both ascend, so
        # that one index gives the order and the place where a page starts, on MariaDB 10.6, too,
        # which has no descending indexes (https://mariadb.com/kb/en/create-index/).
        # MariaDB takes no NOT NULL for a generated column, which this can do without.
        Column("newest", BigInteger, Computed("-created_at", persisted=True)),
        Column("body", LongText, nullable=False),
    ]


containers = Table(
    "containers",
    METADATA,
    Column("container_id", IdText, primary_key=True),
    *_listed(),
    Index(None, "newest", "container_id"),
)

images = Table(
    "images",
    METADATA,
    Column("image_id", IdText, primary_key=True),
    Column("container_id", IdText, nullable=False),
    Column("session_id", IdText, nullable=False),
    Column("name", LongText),
    Column("name_digest", Digest),
    Column("role_id", IdText),
    Column("os_id", IdText),
    Column("model", LongText),
    Column("thinking", String(16)),
    Column("prototype_id", IdText),
    Column("parent_image_id", IdText),
    *_listed(),
    Index(None, "newest", "image_id"),
    Index(None, "container_id", "newest", "image_id"),
    Index(None, "name_digest", "newest", "image_id"),
    Index(None, "container_id", "name_digest", "newest", "image_id"),
)

sessions = Table(
    "sessions",
    METADATA,
    Column("session_id", IdText, primary_key=True),
    Column("image_id", IdText, nullable=False),
    Column("container_id", IdText, nullable=False),
    # The position of the last message. Under this row's lock it gives the next one.
    Column("message_count", Integer, nullable=False, server_default="0"),
    *_listed(),
    Index(None, "newest", "session_id"),
    Index(None, "container_id", "newest", "session_id"),
    Index(None, "image_id", "newest", "session_id"),
)

messages = Table(
    "messages",
    METADATA,
    Column(
        "session_id",
        IdText,
        ForeignKey("sessions.session_id", ondelete="CASCADE"),
        primary_key=True,
    ),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("message_id", IdText, nullable=False),
    Column("body", LongText, nullable=False),
    UniqueConstraint("session_id", "message_id"),
)
