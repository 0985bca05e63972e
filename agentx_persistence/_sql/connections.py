"""How a `Database` uses connections: the interface, and pooled connections to a server."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from threading import get_ident
from typing import Any, TypeVar

from sqlalchemy import Engine, exc
from sqlalchemy.engine.interfaces import DBAPICursor as Cursor
from sqlalchemy.pool import ConnectionPoolEntry

from agentx_persistence._sql.flavour import Flavour
from agentx_persistence._sql.pool import ServerPool
from agentx_persistence.errors import BackendUnavailableError, PersistenceError

T = TypeVar("T")
Rows = Sequence[Sequence[Any]]
NESTED = (
    "a signal handler or finalizer called the storage inside a writing call of the same thread;"
    " let it make that call later, or in another thread"
)

# Connections that a child process inherited. Closing them would end the sessions of its parent, so
# they are kept here, out of the garbage collector's reach.
forgotten: list[object] = []


class LostConnectionError(Exception):
    """The connection was lost or could not be opened. Its cause is the client library's error."""


class Connections(ABC):
    """`fetch`, `execute` and `write` each make one transaction."""

    @abstractmethod
    def fetch(self, sql: str, parameters: Any) -> Rows:
        """Return the rows of a statement."""

    @abstractmethod
    def execute(self, sql: str, parameters: Any) -> int:
        """Run a statement; return how many rows it matched."""

    @abstractmethod
    def write(self, work: Callable[[Cursor], T]) -> T:
        """Return what `work` returns. All of its statements take effect, or none."""

    def run(self, work: Callable[[], T]) -> T:
        """Return what `work` returns, which uses connections of its own."""
        return work()

    @abstractmethod
    def close(self) -> None:
        """Close the idle connections, and each of the others when its call ends."""

    def before_fork(self, deadline: float) -> None:  # noqa: B027
        """See `ForkAware`."""

    @abstractmethod
    def after_fork(self) -> None:
        """See `ForkAware`."""


class PooledConnections(Connections):
    """Connections of an engine that this package created for a server.

    Calls use the cursors of the client library, not SQLAlchemy's connections.
    """

    def __init__(self, engine: Engine, flavour: Flavour) -> None:
        """:param engine: its pool is a `ServerPool`"""
        self._engine, self._flavour = engine, flavour
        self._dbapi = engine.dialect.loaded_dbapi
        self._known = (self._dbapi.Error, exc.SQLAlchemyError, PersistenceError)
        # A pool that was interrupted while it lent or took back a connection.
        self._torn: ServerPool | None = None
        # The calls under way, and their threads.
        self._inside: dict[object, int] = {}

    def fetch(self, sql: str, parameters: Any) -> Rows:
        return self._use(self._fetch, sql, parameters)

    def execute(self, sql: str, parameters: Any) -> int:
        return self._use(self._execute, sql, parameters)

    def write(self, work: Callable[[Cursor], T]) -> T:
        result: T = self._use(self._write, work)
        return result

    def _fetch(self, connection: Any, sql: str, parameters: Any) -> Rows:
        self._flavour.autocommit(connection)
        cursor = connection.cursor()
        cursor.execute(sql, parameters)
        rows: Rows = cursor.fetchall()
        return rows

    def _execute(self, connection: Any, sql: str, parameters: Any) -> int:
        self._flavour.autocommit(connection)
        cursor = connection.cursor()
        cursor.execute(sql, parameters)
        return int(cursor.rowcount)

    def _write(self, connection: Any, work: Callable[[Cursor], T]) -> T:
        cursor = connection.cursor()
        self._flavour.begin(connection, cursor)
        try:
            result = work(cursor)
            connection.commit()
        except self._known as error:
            if not self._is_lost(connection, error):
                connection.rollback()
            raise
        return result

    def _use(self, use: Callable[..., T], *arguments: Any) -> T:
        call, me = object(), get_ident()
        if self._inside and list(self._inside.values()).count(me) >= self._pool().most:
            raise BackendUnavailableError(
                self._flavour.backend,
                "this call is inside other calls of its thread, which use all connections;"
                " make it after those, or raise pool_size",
            )
        try:
            self._inside[call] = me
            return self._use_connection(use, *arguments)
        finally:
            self._inside.pop(call, None)

    def _use_connection(self, use: Callable[..., T], *arguments: Any) -> T:
        if self._torn is not None:
            self._replace_pool()
        used = self._pool()
        try:
            entry = used.take()
        except self._known as error:
            raise LostConnectionError from error
        except BaseException:
            self._torn = used
            self._replace_pool()
            raise
        connection, busy, given = entry.dbapi_connection, True, False
        try:
            try:
                result = use(connection, *arguments)
                busy = False
                used.give(entry)
                given = True
            except BaseException as error:
                if not busy:
                    raise
                lost = self._give_up(entry, used, error)
                given = True
                if lost:
                    raise LostConnectionError from error
                raise
        finally:
            # Here, an interrupt came during `give`, or a second one during `_give_up`. Nothing that
            # could be interrupted precedes the assignment.
            if not given:
                self._torn = used
                if busy:
                    # A traceback can keep the connection alive, and the locks of its transaction.
                    self._flavour.cut(connection)
                self._replace_pool()
        return result

    def _give_up(self, entry: ConnectionPoolEntry, used: ServerPool, error: BaseException) -> bool:
        """Return a connection to the pool after an error; return whether it was lost."""
        lost = False
        if not isinstance(error, self._known):
            # After Ctrl-C, for example, the server's answer may still arrive on this connection.
            entry.invalidate(error)
        elif lost := self._is_lost(entry.dbapi_connection, error):
            used.invalidate_generation(entry, error)
        used.give(entry)
        return lost

    def _is_lost(self, connection: Any, error: BaseException) -> bool:
        return isinstance(error, self._dbapi.Error) and (
            self._flavour.is_lost(error)
            or self._engine.dialect.is_disconnect(error, connection, None)
        )

    def _replace_pool(self) -> None:
        """Replace a pool that was interrupted while it lent or took back a connection.

        It may count a connection that no call uses, and so lend one less than its limit.
        """
        torn = self._torn
        if torn is not None:
            if torn is self._engine.pool:
                self._engine.pool = torn.successor()
            torn.retire()
        self._torn = None

    def close(self) -> None:
        self._pool().retire()

    def after_fork(self) -> None:
        forgotten.append(self._engine.pool)
        self._engine.pool = self._pool().successor()
        self._inside = {}

    def _pool(self) -> ServerPool:
        pool = self._engine.pool
        assert isinstance(pool, ServerPool)
        return pool
