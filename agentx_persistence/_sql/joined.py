"""Connections of the caller's own engine, and transactions of the caller.

Statements run through `Connection.exec_driver_sql`, so that listeners to the engine's events see
them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NoReturn, TypeVar

from sqlalchemy import Connection, CursorResult, Dialect, Engine, PoolProxiedConnection, exc
from sqlalchemy.engine.interfaces import DBAPICursor as Cursor

from agentx_persistence._sql.connections import Connections, Rows, forgotten
from agentx_persistence._sql.engine import Database, DuplicateError
from agentx_persistence._sql.flavour import Flavour
from agentx_persistence.errors import ConfigurationError, PersistenceError, RecordConflictError

T = TypeVar("T")


class ConnectionCursor:
    """The methods of a client library's cursor that this package uses, over a SQLAlchemy
    connection."""

    _result: CursorResult[Any]

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def execute(self, sql: str, parameters: Any = ()) -> None:
        self._result = self._connection.exec_driver_sql(sql, parameters)

    def executemany(self, sql: str, rows: Sequence[Any]) -> None:
        if rows:
            self._result = self._connection.exec_driver_sql(sql, list(rows))

    def fetchone(self) -> Any:
        return self._result.fetchone()

    def fetchall(self) -> list[Any]:
        return list(self._result.fetchall())

    @property
    def rowcount(self) -> int:
        return self._result.rowcount

    @property
    def lastrowid(self) -> int:
        return int(self._result.lastrowid)

    def close(self) -> None:
        """Do nothing: SQLAlchemy closes a cursor after its last row."""


class EngineConnections(Connections):
    """The caller's engine, of any pool. Each call is a transaction in READ COMMITTED."""

    def __init__(self, engine: Engine, flavour: Flavour) -> None:
        # Shares the pool and the events of the engine, whatever its isolation level is.
        self._engine = engine.execution_options(isolation_level=flavour.unit_isolation)
        self._flavour = flavour

    def fetch(self, sql: str, parameters: Any) -> Rows:
        return self.write(lambda cursor: _fetch(cursor, sql, parameters))

    def execute(self, sql: str, parameters: Any) -> int:
        return self.write(lambda cursor: _execute(cursor, sql, parameters))

    def write(self, work: Callable[[Cursor], T]) -> T:
        with self._engine.connect() as connection, connection.begin():
            try:
                return work(ConnectionCursor(connection))  # type: ignore[arg-type]
            except BaseException as error:
                # After another exception, such as Ctrl-C, the server's answer may still arrive on
                # this connection.
                regular = isinstance(error, (exc.SQLAlchemyError, PersistenceError))
                cause = getattr(error, "orig", None)
                if not regular or (cause and self._flavour.is_lost(cause)):
                    connection.invalidate(error)
                raise

    def close(self) -> None:
        """Do nothing: the engine is the caller's."""

    def after_fork(self) -> None:
        forgotten.append(self._engine.pool)
        self._engine.dispose(close=False)


class JoinedConnections(Connections):
    """The transaction that is open on the caller's connection. Nothing here ends it."""

    def __init__(self, connect: Callable[[], Connection], flavour: Flavour) -> None:
        """:param connect: returns the caller's connection; it is called for each call"""
        self._connect, self._flavour = connect, flavour

    def fetch(self, sql: str, parameters: Any) -> Rows:
        if sql.startswith("SELECT"):
            return _fetch(ConnectionCursor(self._connect()), sql, parameters)
        return self.write(lambda cursor: _fetch(cursor, sql, parameters))

    def execute(self, sql: str, parameters: Any) -> int:
        return self.write(lambda cursor: _execute(cursor, sql, parameters))

    def write(self, work: Callable[[Cursor], T]) -> T:
        connection = self._connect()
        self._flavour.begin_joined(connection)
        # Without a savepoint, a failed statement would end the caller's transaction on PostgreSQL.
        with connection.begin_nested() as savepoint:
            try:
                return work(ConnectionCursor(connection))  # type: ignore[arg-type]
            except exc.DBAPIError:
                # A deadlock on MySQL ends the whole transaction, so that no savepoint is left.
                with suppress(exc.DBAPIError):
                    savepoint.rollback()
                raise

    def close(self) -> None:
        """Do nothing: the connection is the caller's."""

    def after_fork(self) -> None:
        """Do nothing: the connection is the caller's."""


class JoinedDatabase(Database):
    """A database within the caller's transaction, which it never ends."""

    # Another attempt helps only if a key became free meanwhile, or if leftovers were in the way.
    attempts = 3

    def __init__(self, database: Database, transaction: Any) -> None:
        """:param transaction: a `Connection` or an ORM session of SQLAlchemy's"""
        connect = _connecting(transaction, database.flavour.backend)
        self.engine, self.flavour = database.engine, database.flavour
        self._connections = JoinedConnections(connect, database.flavour)
        self._dbapi = database._dbapi
        self._dialect = connect().dialect
        ours, theirs = database.dialect, self._dialect
        if ours.name.replace("mariadb", "mysql") != theirs.name.replace("mariadb", "mysql"):
            raise ConfigurationError(
                self.flavour.backend,
                f"within: the transaction belongs to {theirs.name}; give one of {ours.name}",
            )
        self._statements = database.statements_of(theirs)
        self._writing = set()
        self._connect = connect
        self.reads_with_locks = database.flavour.shows_changes_in_snapshots
        self.locks_first = database.flavour.shows_deleted_in_snapshots

    @property
    def dialect(self) -> Dialect:
        return self._dialect

    @property
    def connection(self) -> Connection:
        return self._connect()

    def _attempt(
        self, run: Callable[..., T], *arguments: Any, undone: Callable[[], None] | None = None
    ) -> T:
        try:
            return run(*arguments)
        except exc.IntegrityError as error:
            raise DuplicateError(self.flavour.backend, str(error.orig)) from error.orig

    def refused(self, noun: str, id: str) -> PersistenceError:
        reason = "others created it meanwhile, and your transaction cannot see it; begin a new one"
        return RecordConflictError(noun, id, reason)

    def migrate(self, upgrade: Callable[[Engine], None], engine: Engine | None = None) -> NoReturn:
        raise ConfigurationError(
            self.flavour.backend, "a migration cannot run inside your transaction"
        )

    def close(self) -> None:
        """Do nothing: the transaction is the caller's."""


def _connecting(transaction: Any, backend: str) -> Callable[[], Connection]:
    if isinstance(transaction, Connection):
        return lambda: transaction
    # The `connection` of a raw connection is that of the client library.
    if not isinstance(transaction, PoolProxiedConnection):
        connect: Callable[[], Connection] | None = getattr(transaction, "connection", None)
        if callable(connect) and not hasattr(transaction, "sync_session"):
            return connect
    raise ConfigurationError(
        backend,
        "within: give an open sqlalchemy Connection or orm.Session, "
        f"not {type(transaction).__name__}",
    )


def _fetch(cursor: Any, sql: str, parameters: Any) -> Rows:
    cursor.execute(sql, parameters)
    rows: Rows = cursor.fetchall()
    return rows


def _execute(cursor: Any, sql: str, parameters: Any) -> int:
    cursor.execute(sql, parameters)
    return int(cursor.rowcount)
