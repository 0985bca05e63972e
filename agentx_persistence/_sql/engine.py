"""Transactions, retries, and the one place where SQLAlchemy's and the driver's errors end."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from threading import Lock
from typing import Any, TypeVar

from sqlalchemy import Engine, PoolProxiedConnection, exc, orm
from sqlalchemy.engine.interfaces import DBAPICursor as Cursor
from sqlalchemy.sql import ClauseElement

from agentx_persistence._sql.flavour import Flavour
from agentx_persistence._sql.statements import Statement
from agentx_persistence.errors import (
    BackendError,
    BackendUnavailableError,
    PersistenceClosedError,
    PersistenceError,
    SchemaError,
)
from agentx_persistence.forking import ForkAware, ForkGate, renew_after_fork

T = TypeVar("T")

# Seconds before each further attempt; every write is idempotent, so that it can be repeated.
_PAUSES = (0.0, 0.05, 0.2, 0.5, 1.0)
# Seconds after which a server that lets a connection wait is not tried again by the same call.
_PATIENCE = 2.0

_GENERATION = "agentx_persistence.generation"


class DuplicateError(BackendError):
    """A key is taken. `Appending` knows what that means; nothing else meets it."""


class _LostConnectionError(Exception):
    """There is not any more a connection. The driver's error is its cause."""


class _NoConnectionError(_LostConnectionError):
    """There was none to begin with."""


class Database(ForkAware):
    """A pool of connections. Every access is one function that can be run again from its start."""

    def __init__(self, engine: Engine, flavour: Flavour, *, owned: bool) -> None:
        self.engine = engine
        self.flavour = flavour
        self._owned = owned
        self._closed = False
        # All connections of one generation are given up when the first of them turns out to be
        # lost: a server that was restarted has ended all that idle in the pool.
        self._generation = object()
        # A caller's engine may be in any mode: SQLAlchemy sets that of a connection when it hands
        # it out, and puts it back afterwards.
        self._callers = None if owned else engine.execution_options(isolation_level="AUTOCOMMIT")
        self._units = flavour.unit_engine(engine)
        self._dbapi = engine.dialect.loaded_dbapi
        self._new_locks()
        self._statements: dict[Hashable, Statement] = {}
        renew_after_fork(self)

    def statement(
        self,
        name: Hashable,
        build: Callable[[], ClauseElement],
        columns: Sequence[str] | None = None,
    ) -> Statement:
        """Return the statement of this name, which is built and compiled only the first time."""
        try:
            return self._statements[name]
        except KeyError:
            statement = Statement(build(), self.engine.dialect, columns)
            self._statements[name] = statement
            return statement

    def _new_locks(self) -> None:
        local = self.flavour.in_process
        self._gate: ForkGate | nullcontext[None] = ForkGate() if local else nullcontext()
        self._writing: Lock | nullcontext[None] = Lock() if local else nullcontext()

    def before_fork(self) -> None:
        if isinstance(self._gate, ForkGate):
            self._gate.shut()
            if not self.flavour.in_memory:
                self.engine.dispose()

    def after_fork_in_parent(self) -> None:
        if isinstance(self._gate, ForkGate):
            self._gate.reopen()

    def after_fork(self) -> None:
        if not self.flavour.in_memory:
            # The parent goes on using the connections: they are forgotten here, not closed.
            self.engine.dispose(close=False)
        self._new_locks()

    def close(self) -> None:
        self._closed = True
        if self._owned:
            self.engine.dispose()

    def read(self, work: Callable[[Cursor], T]) -> T:
        """Run `work` on a cursor where each statement is a transaction of its own."""
        return self._attempt(self._read, work)

    def write(self, work: Callable[[Cursor], T]) -> T:
        """Run `work` in one transaction.

        :raises DuplicateError: if it met a key that is taken
        """
        return self._attempt(self._write, work)

    def unit(self, work: Callable[[orm.Session], T]) -> T:
        """Run `work` in one unit of work, which is one transaction."""
        return self._attempt(self._unit, work)

    def _attempt(self, run: Callable[[Callable[[Any], T]], T], work: Callable[[Any], T]) -> T:
        attempt = 0
        while True:
            if self._closed:
                raise PersistenceClosedError
            try:
                with self._gate:
                    return run(work)
            except (_LostConnectionError, self._dbapi.Error, exc.SQLAlchemyError) as error:
                failure, passing = self._classify(error)
                if attempt == len(_PAUSES) or not passing:
                    raise failure from failure.__cause__
            time.sleep(_PAUSES[attempt] * random.uniform(0.5, 1.5))
            attempt += 1

    def _read(self, work: Callable[[Cursor], T]) -> T:
        with self._connection() as connection:
            self.flavour.autocommit(connection)
            return work(connection.cursor())

    def _write(self, work: Callable[[Cursor], T]) -> T:
        with self._writing, self._connection() as connection:
            cursor = connection.cursor()
            self.flavour.begin(connection, cursor)
            try:
                result = work(cursor)
                connection.commit()
            except Exception as error:
                self._undo(connection, error)
                raise
            except BaseException:
                # Broken off in the middle of a conversation, such as by Ctrl-C.
                connection.invalidate()
                raise
            return result

    def _undo(self, connection: PoolProxiedConnection, error: Exception) -> None:
        if not self._is_lost(connection, error):
            connection.rollback()

    def _unit(self, work: Callable[[orm.Session], T]) -> T:
        with self._writing, orm.Session(self._units) as unit, unit.begin():
            return work(unit)

    @contextmanager
    def _connection(self) -> Iterator[PoolProxiedConnection]:
        try:
            connection = self.engine.raw_connection()
        except exc.DBAPIError as error:
            raise _LostConnectionError from error
        try:
            yield connection
        except self._dbapi.Error as error:
            raw = connection.driver_connection
            if not self.engine.dialect.is_disconnect(error, raw, None):
                raise
            connection.invalidate(error)
            raise _LostConnectionError from error
        finally:
            connection.close()

    def _classify(self, error: BaseException) -> tuple[PersistenceError, bool]:
        """Return the error to raise, with its cause, and whether trying again may help."""
        lost = isinstance(error, _LostConnectionError) or getattr(
            error, "connection_invalidated", False
        )
        if isinstance(error, _LostConnectionError) and error.__cause__:
            error = error.__cause__
        cause: BaseException = getattr(error, "orig", None) or error
        if isinstance(cause, self._dbapi.IntegrityError):
            failure: PersistenceError = DuplicateError(self.flavour.backend, str(cause))
        elif self.flavour.is_missing_table(cause):
            failure = SchemaError(
                f"{self.flavour.place}: {cause}", "run: python -m agentx_persistence upgrade URL"
            )
        else:
            passing = self.flavour.is_transient(cause)
            kind = BackendUnavailableError if lost or passing else BackendError
            failure = kind(self.flavour.backend, f"{self.flavour.place}: {cause}")
        failure.__cause__ = cause
        return failure, (lost and not self.flavour.in_process) or self.flavour.is_transient(cause)
