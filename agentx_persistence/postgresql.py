"""The PostgreSQL backend: PostgreSQL 13 and newer, directly or behind a pooler."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from agentx_persistence.errors import MissingDependencyError, RecordNotFoundError
from agentx_persistence.persistence import PersistenceDriver

try:
    import psycopg
except ModuleNotFoundError as error:
    raise MissingDependencyError("postgresql", "psycopg") from error

try:
    from sqlalchemy import (
        URL,
        Engine,
        Table,
        Text,
        bindparam,
        create_engine,
        func,
        select,
        true,
        update,
    )
    from sqlalchemy.dialects.postgresql import ARRAY, insert
    from sqlalchemy.engine.interfaces import DBAPICursor as Cursor
    from sqlalchemy.sql import ClauseElement
    from sqlalchemy.sql.dml import Insert
except ModuleNotFoundError as error:
    raise MissingDependencyError("postgresql", "sqlalchemy") from error

from agentx_persistence._sql import tables
from agentx_persistence._sql.appending import COLUMNS, Appending, IdAndBody
from agentx_persistence._sql.flavour import Flavour, replacement
from agentx_persistence._sql.server import ServerDriver, server_url


def postgresql_driver(
    url: str | URL | None = None,
    *,
    host: str = "localhost",
    port: int = 5432,
    user: str | None = None,
    password: str | None = None,
    database: str | None = None,
    migrate: bool = False,
    pool_size: int = 5,
    max_overflow: int = 10,
    pool_timeout: float = 30.0,
    pool_recycle: int = 1800,
    connect_timeout: int = 3,
    prepare_threshold: int | None = 5,
    connect_args: Mapping[str, Any] | None = None,
    engine: Engine | None = None,
) -> PersistenceDriver:
    """Return the driver of a PostgreSQL database, which must be in UTF-8.

    :param url: ``postgresql://user:password@host:port/database?sslmode=verify-full``, in which
        special characters are percent-encoded; or the parts as arguments, in which they are not
    :param migrate: whether to bring the schema up to date on opening, which takes a role that may
        create tables
    :param pool_size: how many connections are kept; `max_overflow` more are opened when these are
        in use, then a call waits `pool_timeout` seconds for one
    :param pool_recycle: seconds after which a connection is replaced
    :param connect_timeout: seconds
    :param prepare_threshold: after how many executions on a connection a statement is prepared;
        ``None`` for never, as PgBouncer needs before its version 1.21 or with its
        ``max_prepared_statements = 0``
    :param connect_args: further arguments of ``psycopg.connect``, such as ``sslmode``, see
        https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
    :param engine: the caller's own engine, on psycopg, instead of all that; it is never closed
    """
    address = server_url(("postgresql+psycopg",), engine, url, host, port, user, password, database)
    options = {
        "pool_size": pool_size,
        "max_overflow": max_overflow,
        "pool_timeout": pool_timeout,
        "pool_recycle": pool_recycle,
    }
    defaults = {
        "connect_timeout": connect_timeout,
        # A host that vanished is noticed within a minute, not after hours.
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "tcp_user_timeout": 60_000,
    }
    arguments = {
        **{name: value for name, value in defaults.items() if name not in address.query},
        "prepare_threshold": prepare_threshold,
        **(connect_args or {}),
        # What the role or the environment say otherwise could not hold every character.
        "client_encoding": "utf8",
    }
    return _PostgresqlDriver(address, engine, migrate, {**options, "connect_args": arguments})


class _PostgresqlAppending(Appending):
    """One statement, which is one round trip and, by itself, one transaction."""

    def append_new(self, session_id: str, messages: Sequence[IdAndBody], at: int) -> int:
        values: dict[str, Any] = {"session": session_id, "added": len(messages), "at": at}
        if len(messages) == 1:
            statement = self.database.statement("append one", _append_one)
            values["message_id"], values["body"] = messages[0]
        else:
            statement = self.database.statement("append many", _append_many)
            values["ids"] = [id for id, _ in messages]
            values["bodies"] = [body for _, body in messages]

        positions = self.database.fetch(statement.sql, statement.bind(values))
        if not positions:
            raise RecordNotFoundError("session", session_id)
        return max(int(position) for (position,) in positions)


class _PostgresqlFlavour(Flavour):
    backend = "postgresql"

    def begin(self, connection: Any, cursor: Cursor) -> None:
        cursor.execute("BEGIN ISOLATION LEVEL READ COMMITTED")

    def upsert(self, table: Table, columns: Collection[str]) -> Insert:
        statement = insert(table)
        return statement.on_conflict_do_update(
            index_elements=list(table.primary_key),
            set_=replacement(table, columns, statement.excluded),
        )

    def is_transient(self, error: BaseException) -> bool:
        # serialization_failure, deadlock_detected, lock_not_available
        # (https://www.postgresql.org/docs/current/errcodes-appendix.html)
        return getattr(error, "sqlstate", None) in {"40001", "40P01", "55P03"}

    def is_missing_table(self, error: BaseException) -> bool:
        return isinstance(error, psycopg.errors.UndefinedTable)


class _PostgresqlDriver(ServerDriver):
    backend = "postgresql"
    flavour = _PostgresqlFlavour
    appending = _PostgresqlAppending

    def create_engine(self) -> Engine:
        return create_engine(
            self.url,
            module=psycopg,
            # Each statement is a transaction of its own, and takes one round trip instead of
            # three, unless a transaction is begun.
            isolation_level="AUTOCOMMIT",
            # Whatever this package begins it ends itself, or else it invalidates the connection.
            pool_reset_on_return=None,
            use_native_hstore=False,  # spares a question on the first connection
            **self.options,
        )


def _reserved() -> Any:
    return (
        update(tables.sessions)
        .where(tables.sessions.c.session_id == bindparam("session"))
        .values(
            message_count=tables.sessions.c.message_count + bindparam("added"),
            updated_at=bindparam("at"),
        )
        .returning(tables.sessions.c.session_id, tables.sessions.c.message_count)
        .cte("reserved")
    )


def _append_one() -> ClauseElement:
    reserved = _reserved()
    row = select(
        reserved.c.session_id,
        reserved.c.message_count,
        bindparam("message_id", type_=tables.IdText),
        bindparam("body", type_=Text),
    )
    return insert(tables.messages).from_select(COLUMNS, row).returning(tables.messages.c.position)


def _append_many() -> ClauseElement:
    reserved = _reserved()
    texts = ARRAY(Text)
    new = (
        func.unnest(bindparam("ids", type_=texts), bindparam("bodies", type_=texts))
        .table_valued("message_id", "body", with_ordinality="number", name="new")
        .render_derived()
    )
    rows = select(
        reserved.c.session_id,
        reserved.c.message_count - bindparam("added") + new.c.number,
        new.c.message_id,
        new.c.body,
    ).select_from(reserved.join(new, true()))
    return insert(tables.messages).from_select(COLUMNS, rows).returning(tables.messages.c.position)
