"""Connections out of SQLAlchemy's pool, for the driver's own cursors and for units of work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, PoolProxiedConnection, exc, orm

from agentx_persistence._sql.flavour import Flavour

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
        # A caller's engine may be in any mode: SQLAlchemy sets that of a connection when it hands
        # it out, and puts it back afterwards.
        self._callers = None if owned else engine.execution_options(isolation_level="AUTOCOMMIT")
        self._units = flavour.unit_engine(engine)
        self._dbapi = engine.dialect.loaded_dbapi
        # When one connection turns out to be lost, all of its generation are given up: a server
        # that was restarted has ended every one that idles in the pool.
        self._generation = object()

    @contextmanager
    def raw(self) -> Iterator[PoolProxiedConnection]:
        """Lend a connection, whose loss is `LostConnectionError`."""
        with self._connecting():
            lent, is_new = self._check_out()
        connection = lent.connection if isinstance(lent, Connection) else lent
        try:
            if is_new:
                self._flavour.welcome(connection)
            yield connection
        except self._dbapi.Error as error:
            if not self.is_lost(connection, error):
                raise
            self._generation = object()
            lent.invalidate(error)
            raise LostConnectionError from error
        finally:
            self._give_back(lent)

    @contextmanager
    def unit(self) -> Iterator[orm.Session]:
        """Lend a unit of work, which is one transaction."""
        with self._connecting():
            connection = self._units.connect()
        try:
            with orm.Session(connection) as unit, unit.begin():
                yield unit
        finally:
            self._give_back(connection)

    def close(self) -> None:
        """Close what is idle now, and what is lent when it comes back."""
        self._closed = True
        self._close_idle()

    def _give_back(self, lent: Connection | PoolProxiedConnection) -> None:
        lent.close()
        if self._closed:
            self._close_idle()

    def _close_idle(self) -> None:
        if self._owned:
            # Not the engine's `dispose`: that makes a new pool and leaves what is lent to the old.
            self._engine.pool.dispose()

    def is_lost(self, connection: PoolProxiedConnection, error: Exception) -> bool:
        return isinstance(error, self._dbapi.Error) and self._engine.dialect.is_disconnect(
            error, connection.driver_connection, None
        )

    @contextmanager
    def _connecting(self) -> Iterator[None]:
        try:
            yield
        except (self._dbapi.Error, exc.DBAPIError) as error:
            raise NoConnectionError from error

    def _check_out(self) -> tuple[Connection | PoolProxiedConnection, bool]:
        while True:
            lent = self._callers.connect() if self._callers else self._engine.raw_connection()
            generation = lent.info.setdefault(_GENERATION, None)
            if generation is self._generation:
                return lent, False
            if generation is None:
                lent.info[_GENERATION] = self._generation
                return lent, True
            lent.invalidate()
            lent.close()
