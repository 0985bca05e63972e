"""The tables.

`body` is a record's wire form, exactly as it is given back. It is text, not JSONB and not MySQL's
JSON, as both change the order of keys and numbers
(https://www.postgresql.org/docs/current/datatype-json.html). The other columns say the same of the
fields that are searched, counted and joined on; texts of any length are only in the body.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from sqlalchemy import (
    BigInteger,
    Computed,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    orm,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.orm import Mapped, declared_attr, mapped_column

# Ids are compared and ordered by code point everywhere, whatever the database's own collation is:
# no id equals another in a different case or accent, and all backends list in the same order.
_BINARY = {"charset": "utf8mb4", "collation": "utf8mb4_bin"}
IdText = (
    String(255)
    .with_variant(String(255, collation="C"), "postgresql")
    .with_variant(mysql.VARCHAR(255, **_BINARY), "mysql", "mariadb")
)
# MySQL's TEXT ends at 64 KB.
LongText = Text().with_variant(mysql.LONGTEXT(**_BINARY), "mysql", "mariadb")
# Names are looked up by a digest: 500 characters beside two ids would exceed what an index entry
# may hold (PostgreSQL 2,704 bytes, MySQL 3,072), and MySQL's binary collations ignore trailing
# spaces, in another way than MariaDB's.
Digest = String(32).with_variant(
    mysql.VARCHAR(32, charset="ascii", collation="ascii_bin"), "mysql", "mariadb"
)


class Row(orm.DeclarativeBase):
    if TYPE_CHECKING:
        __table__: ClassVar[Table]

    # Fixed from the first migration on: without names, SQLite's tables cannot be migrated.
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class _Listed:
    """What every record has, and what its listings are ordered by."""

    created_at: Mapped[int] = mapped_column(BigInteger, sort_order=1)
    updated_at: Mapped[int] = mapped_column(BigInteger, sort_order=1)
    body: Mapped[str] = mapped_column(LongText, sort_order=2)

    @declared_attr
    def newest(cls) -> Mapped[int]:
        # The order is newest first, then by id ascending. With the time negated both ascend, so
        # that one index gives the order and the place where a page starts, on MariaDB 10.6, too,
        # which has no descending indexes (https://mariadb.com/kb/en/create-index/).
        # MariaDB takes no NOT NULL for a generated column, which this can do without.
        formula = Computed("-created_at", persisted=True)
        return mapped_column(BigInteger, formula, nullable=True, sort_order=1)


class ContainerRow(_Listed, Row):
    __tablename__ = "containers"
    __table_args__ = (Index(None, "newest", "container_id"),)

    container_id: Mapped[str] = mapped_column(IdText, primary_key=True)


class ImageRow(_Listed, Row):
    __tablename__ = "images"
    __table_args__ = (
        Index(None, "newest", "image_id"),
        Index(None, "container_id", "newest", "image_id"),
        Index(None, "name_digest", "newest", "image_id"),
        Index(None, "container_id", "name_digest", "newest", "image_id"),
    )

    image_id: Mapped[str] = mapped_column(IdText, primary_key=True)
    container_id: Mapped[str] = mapped_column(IdText)
    session_id: Mapped[str] = mapped_column(IdText)
    name: Mapped[str | None] = mapped_column(LongText)
    name_digest: Mapped[str | None] = mapped_column(Digest)
    role_id: Mapped[str | None] = mapped_column(IdText)
    os_id: Mapped[str | None] = mapped_column(IdText)
    model: Mapped[str | None] = mapped_column(LongText)
    thinking: Mapped[str | None] = mapped_column(String(16))
    prototype_id: Mapped[str | None] = mapped_column(IdText)
    parent_image_id: Mapped[str | None] = mapped_column(IdText)


class SessionRow(_Listed, Row):
    __tablename__ = "sessions"
    __table_args__ = (
        Index(None, "newest", "session_id"),
        Index(None, "container_id", "newest", "session_id"),
        Index(None, "image_id", "newest", "session_id"),
    )

    session_id: Mapped[str] = mapped_column(IdText, primary_key=True)
    image_id: Mapped[str] = mapped_column(IdText)
    container_id: Mapped[str] = mapped_column(IdText)
    # The position of the last message. Under this row's lock it gives the next one.
    message_count: Mapped[int] = mapped_column(Integer, server_default="0")


class MessageRow(Row):
    __tablename__ = "messages"
    __table_args__ = (UniqueConstraint("session_id", "message_id"),)

    session_id: Mapped[str] = mapped_column(
        IdText, ForeignKey("sessions.session_id", ondelete="CASCADE"), primary_key=True
    )
    position: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    message_id: Mapped[str] = mapped_column(IdText)
    body: Mapped[str] = mapped_column(LongText)
