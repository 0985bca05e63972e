"""Connections out of SQLAlchemy's pool, for the driver's own cursors and for units of work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from sqlalchemy import Connection, Engine, PoolProxiedConnection, exc, orm

from agentx_persistence._sql.flavour import Flavour

C = TypeVar("C", Connection, PoolProxiedConnection)

_GENERATION = "agentx_persistence.generation"


class LostConnectionError(Exception):
    """The connection is gone. The driver's error is the cause."""


class NoConnectionError(LostConnectionError):
    """There was none to begin with."""


class Connections:
    def __init__(self, engine: Engine, flavour: Flavour, *, owned: bool) -> None:
        self._engine = engine
        self._flavour = flavour
        self._owned = owned
        self._closed = False
        self._dbapi = engine.dialect.loaded_dbapi
        # When one connection turns out to be lost, all of its generation are given up: a server
        # that was restarted has ended every one that idles in the pool.
        self._generation = object()

    @contextmanager
    def raw(self) -> Iterator[PoolProxiedConnection]:
        """Lend a connection in autocommit, whose loss is `LostConnectionError`."""
        if self._owned:
            with self._lend(self._engine.raw_connection) as connection:
                yield connection
        else:
            # A caller's engine may be in any mode. SQLAlchemy puts that back afterwards.
            with self._lend(self._engine.connect) as lent:
                yield lent.execution_options(isolation_level="AUTOCOMMIT").connection

    @contextmanager
    def unit(self) -> Iterator[orm.Session]:
        """Lend a unit of work, which is one transaction."""
        with self._lend(self._engine.connect) as connection:
            if level := self._flavour.unit_isolation:
                connection.execution_options(isolation_level=level)
            with orm.Session(connection) as unit, unit.begin():
                yield unit

    @contextmanager
    def _lend(self, connect: Callable[[], C]) -> Iterator[C]:
        lent, is_new = self._check_out(connect)
        try:
            if is_new:
                self._flavour.welcome(_proxied(lent))
            yield lent
        except (self._dbapi.Error, exc.DBAPIError) as error:
            if not self.is_lost(_proxied(lent), error):
                raise
            self._generation = object()
            lent.invalidate(error)
            raise LostConnectionError from error
        except BaseException as error:
            if not self.is_usable(_proxied(lent), error):
                lent.invalidate()
            raise
        finally:
            lent.close()
            if self._closed:
                self._close_idle()

    def _check_out(self, connect: Callable[[], C]) -> tuple[C, bool]:
        while True:
            try:
                lent = connect()
            except (self._dbapi.Error, exc.DBAPIError) as error:
                raise NoConnectionError from error
            generation = lent.info.setdefault(_GENERATION, None)
            if generation is self._generation:
                return lent, False
            if generation is None:
                lent.info[_GENERATION] = self._generation
                return lent, True
            lent.invalidate()
            lent.close()

    def is_usable(self, connection: PoolProxiedConnection, error: BaseException) -> bool:
        """Tell whether the connection can be used after this error."""
        if self._flavour.in_process:
            return True
        # What is no Exception, such as Ctrl-C, broke off in the middle of a conversation.
        return isinstance(error, Exception) and not self.is_lost(connection, error)

    def is_lost(self, connection: PoolProxiedConnection, error: BaseException) -> bool:
        if isinstance(error, exc.DBAPIError):
            return error.connection_invalidated
        return isinstance(error, self._dbapi.Error) and self._engine.dialect.is_disconnect(
            error, connection.driver_connection, None
        )

    def close(self) -> None:
        """Close what is idle now, and what is lent when it comes back."""
        self._closed = True
        self._close_idle()

    def _close_idle(self) -> None:
        if self._owned:
            # Not the engine's `dispose`: that makes a new pool and leaves what is lent to the old.
            self._engine.pool.dispose()


def _proxied(lent: Connection | PoolProxiedConnection) -> PoolProxiedConnection:
    return lent.connection if isinstance(lent, Connection) else lent
