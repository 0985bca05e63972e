"""The SQL tables.

`body` is the text that a storage was given, exactly as it is given back. It is text, not JSONB and
not MySQL's JSON, as both change the order of keys and numbers
(https://www.postgresql.org/docs/current/datatype-json.html). The other columns repeat the fields
that are searched, counted and joined on.

A session or image whose `revision` is empty is being deleted: only its deletion still sees it.

No foreign key connects the tables: sharded and multi-primary engines refuse cascades. A message
belongs to its session if the session exists, is not being deleted, and has a `message_count` of at
least the message's `position`. All other messages are leftovers of large cuts and deletions. They
are removed while the session's row is locked, and before that row is removed.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Computed,
    Dialect,
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

from agentx_persistence.storage import CONTAINERS, IMAGES, ITEMS, SESSIONS, Kind

_MYSQL = ("mysql", "mariadb")


def _text(length: int) -> String:
    # Compared and ordered by code point everywhere, whatever the database's own collation is:
    # no id equals another in a different case or accent, and all backends list in the same order.
    return (
        String(length)
        .with_variant(String(length, collation="C"), "postgresql")
        .with_variant(String(length, collation="utf8mb4_bin"), *_MYSQL)
    )


def _ascii(length: int) -> String:
    return String(length).with_variant(String(length, collation="ascii_bin"), *_MYSQL)


IdText = _text(255)
# An index entry holds 3,072 bytes on MySQL, of which a key may take 1,020.
Namespace = _text(508)
# Names, and pairs of ids, are looked up by a digest. Together with an id they would exceed the size
# of an index entry (PostgreSQL 2,704 bytes), and MySQL's binary collations treat trailing spaces
# differently from MariaDB's.
Digest = _ascii(32)
Token = _ascii(100)


class LongText(TypeDecorator[str]):
    """Text of any length."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name not in _MYSQL:
            return super().load_dialect_impl(dialect)
        # Imported here because only MySQL needs it and it takes half as long as pydantic's import.
        from sqlalchemy.dialects import mysql

        # MySQL's TEXT ends at 64 KB.
        return dialect.type_descriptor(mysql.LONGTEXT(collation="utf8mb4_bin"))


METADATA = MetaData(
    # Must not change after the first migration. SQLite's tables can only be migrated if their
    # constraints have names.
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _document() -> list[Column[Any]]:
    """Return the columns that every kind of document has."""
    return [
        Column("created_at", BigInteger, nullable=False),
        Column("updated_at", BigInteger, nullable=False),
        # The order is newest first, then by id ascending. With the time negated both ascend, so
        # that one index gives the order and the place where a page starts, on MariaDB 10.6, too,
        # which has no descending indexes (https://mariadb.com/kb/en/create-index/).
        # Nullable, because MariaDB accepts no NOT NULL for a generated column.
        Column("newest", BigInteger, Computed("-created_at", persisted=True)),
        Column("revision", Token, nullable=False),
        Column("body", LongText, nullable=False),
    ]


containers = Table(
    "agentx_containers",
    METADATA,
    Column("container_id", IdText, primary_key=True),
    *_document(),
    Index(None, "newest", "container_id"),
)

images = Table(
    "agentx_images",
    METADATA,
    Column("image_id", IdText, primary_key=True),
    Column("container_id", IdText),
    Column("session_id", IdText),
    Column("name", LongText),
    Column("name_digest", Digest),
    Column("role_id", IdText),
    Column("os_id", IdText),
    Column("model", LongText),
    Column("thinking", LongText),
    Column("prototype_id", IdText),
    Column("parent_image_id", IdText),
    *_document(),
    Index(None, "newest", "image_id"),
    Index(None, "container_id", "newest", "image_id"),
    Index(None, "name_digest", "newest", "image_id"),
    Index(None, "container_id", "name_digest", "newest", "image_id"),
)

sessions = Table(
    "agentx_sessions",
    METADATA,
    Column("session_id", IdText, primary_key=True),
    Column("container_id", IdText),
    Column("image_id", IdText),
    # Digest of `container_id` and `image_id`, for listings by both.
    Column("owners_digest", Digest),
    # The position of the last message. Under this row's lock it gives the next one.
    Column("message_count", Integer, nullable=False, server_default="0"),
    # The token of the last cut or replacement of messages.
    Column("generation", Token, nullable=False),
    # `updated_at` in seconds, negated like `newest`. As it changes at most once a second, most
    # appends write no index entry: PostgreSQL can make heap-only updates
    # (https://www.postgresql.org/docs/current/storage-hot.html).
    Column("latest", BigInteger, nullable=False),
    *_document(),
    Index(None, "newest", "session_id"),
    Index(None, "container_id", "newest", "session_id"),
    Index(None, "image_id", "newest", "session_id"),
    Index(None, "owners_digest", "newest", "session_id"),
    Index(None, "container_id", "latest", "session_id"),
)

messages = Table(
    "agentx_messages",
    METADATA,
    Column("session_id", IdText, primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("message_id", IdText, nullable=False),
    # The first 255 characters of each.
    Column("role", IdText),
    Column("subtype", IdText),
    Column("timestamp", BigInteger),
    # The size of the body in bytes, so that sizes can be summed without reading the bodies.
    Column("size", Integer, nullable=False),
    Column("body", LongText, nullable=False),
    UniqueConstraint("session_id", "message_id"),
)

items = Table(
    "agentx_items",
    METADATA,
    # The elements of the namespace, each followed by U+001F.
    Column("namespace", Namespace, primary_key=True),
    Column("key", IdText, primary_key=True),
    *_document(),
    Index(None, "namespace", "newest", "key"),
)


def latest(at: int) -> int:
    """Return the value of the column `latest` for this time in milliseconds."""
    return -(at // 1000)


TABLES: dict[Kind, Table] = {
    CONTAINERS: containers,
    IMAGES: images,
    SESSIONS: sessions,
    ITEMS: items,
}
