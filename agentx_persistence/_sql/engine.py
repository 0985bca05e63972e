"""Transactions, retries, and the one place where SQLAlchemy's and the driver's errors end."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import nullcontext
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Engine, exc
from sqlalchemy.engine.interfaces import DBAPICursor as Cursor
from sqlalchemy.sql import ClauseElement

from agentx_persistence._sql.connections import Connections
from agentx_persistence._sql.flavour import Flavour
from agentx_persistence._sql.leases import Lease, LostConnectionError, NoConnectionError
from agentx_persistence._sql.statements import Statement
from agentx_persistence.errors import (
    BackendError,
    BackendUnavailableError,
    PersistenceClosedError,
    PersistenceError,
    SchemaError,
)
from agentx_persistence.storage._forking import ForkAware, renew_after_fork

if TYPE_CHECKING:
    from sqlalchemy import orm

T = TypeVar("T")
W = TypeVar("W")

# Seconds before each further attempt; every write is idempotent, so that it can be repeated.
_PAUSES = (0.0, 0.05, 0.2, 0.5, 1.0)
# Seconds after which a server that lets a connection wait is not tried again by the same call.
_PATIENCE = 2.0


class DuplicateError(BackendError):
    """A key is taken. `Appending` knows what that means; nothing else meets it."""


class Database(ForkAware):
    """A pool of connections. Every access is one function that can be run again from its start."""

    def __init__(
        self, engine: Engine, flavour: Flavour, *, owned: bool, recycle: float | None = None
    ) -> None:
        """:param recycle: seconds after which a connection is replaced, if ever"""
        self.engine = engine
        self.flavour = flavour
        self._closed = False
        self._connections = Connections(engine, flavour, owned=owned, recycle=recycle)
        self._dbapi = engine.dialect.loaded_dbapi
        self._new_lock()
        self._statements: dict[Hashable, Statement] = {}
        renew_after_fork(self)

    def statement(
        self,
        name: Hashable,
        build: Callable[[], ClauseElement],
        columns: Iterable[str] | None = None,
    ) -> Statement:
        """Return the statement of this name, which is built and compiled only the first time."""
        try:
            return self._statements[name]
        except KeyError:
            statement = Statement(build(), self.engine.dialect, columns)
            self._statements[name] = statement
            return statement

    def _new_lock(self) -> None:
        self._writing: Lock | nullcontext[None] = (
            Lock() if self.flavour.in_process else nullcontext()
        )

    def before_fork(self) -> None:
        if self.flavour.in_process:
            self._connections.shut()
            if not self.flavour.in_memory:
                self.engine.dispose()

    def after_fork_in_parent(self) -> None:
        if self.flavour.in_process:
            self._connections.reopen()

    def after_fork(self) -> None:
        self._connections.restart_in_child(forget=not self.flavour.in_process)
        self._new_lock()

    def close(self) -> None:
        self._closed = True
        self._connections.close()

    def fetch(self, sql: str, parameters: Any = ()) -> list[Sequence[Any]]:
        """Return the rows of one statement, which is a transaction of its own.

        :raises DuplicateError: if it met a key that is taken
        """
        return self._attempt(self._fetch, (sql, parameters))

    def execute(self, sql: str, parameters: Any) -> None:
        """Run one writing statement, which is a transaction of its own."""
        self._attempt(self._execute, (sql, parameters))

    def write(self, work: Callable[[Cursor], T]) -> T:
        """Run `work` in one transaction.

        :raises DuplicateError: if it met a key that is taken
        """
        return self._attempt(self._write, work)

    def unit(self, work: Callable[[orm.Session], T]) -> T:
        """Run `work` in one unit of work, which is one transaction."""
        return self._attempt(self._unit, work)

    def migrate(self, upgrade: Callable[[Engine], None], engine: Engine | None = None) -> None:
        """Run `upgrade` with this engine, else with the own one, in transactions."""
        level = self.flavour.unit_isolation
        if engine is None:
            engine = self.engine.execution_options(isolation_level=level)
        with self._connections.left_to_engine():
            self._attempt(upgrade, engine)

    def _attempt(self, run: Callable[[W], T], work: W) -> T:
        attempt = 0
        started = time.monotonic()
        while True:
            if self._closed:
                raise PersistenceClosedError
            try:
                return run(work)
            except (LostConnectionError, self._dbapi.Error, exc.SQLAlchemyError) as error:
                failure, passing = self._classify(error)
                # A database in this process has waited for its lock already, for far longer.
                slow = self.flavour.in_process or isinstance(error, NoConnectionError)
                tired = slow and time.monotonic() - started > _PATIENCE
                if attempt == len(_PAUSES) or tired or not passing:
                    raise failure from failure.__cause__
            time.sleep(_PAUSES[attempt] * random.uniform(0.5, 1.5))
            attempt += 1

    def _fetch(self, statement: tuple[str, Any]) -> list[Sequence[Any]]:
        lease = self._connections.take()
        try:
            self.flavour.autocommit(lease.connection)
            cursor = lease.connection.cursor()
            try:
                cursor.execute(*statement)
                rows: list[Sequence[Any]] = cursor.fetchall()
            finally:
                cursor.close()  # or what failed half-way holds SQLite's snapshot
        except BaseException as error:
            self._connections.give_up(lease, error)
            raise
        self._connections.give_back(lease)
        return rows

    def _execute(self, statement: tuple[str, Any]) -> None:
        with self._writing:
            lease = self._connections.take()
            try:
                self.flavour.autocommit(lease.connection)
                lease.connection.cursor().execute(*statement)
            except BaseException as error:
                self._connections.give_up(lease, error)
                raise
            self._connections.give_back(lease)

    def _write(self, work: Callable[[Cursor], T]) -> T:
        with self._writing:
            lease = self._connections.take()
            try:
                cursor = lease.connection.cursor()
                self.flavour.begin(lease.connection, cursor)
                result = work(cursor)
                lease.connection.commit()
            except BaseException as error:
                self._roll_back(lease, error)
                raise
            self._connections.give_back(lease)
            return result

    def _roll_back(self, lease: Lease, error: BaseException) -> None:
        if self._connections.is_usable(lease, error):
            try:
                lease.connection.rollback()
            except BaseException as failure:  # an interruption, too: the transaction is still open
                error = failure
        self._connections.give_up(lease, error)
        if not isinstance(error, Exception):
            raise error

    def _unit(self, work: Callable[[orm.Session], T]) -> T:
        with self._writing, self._connections.unit() as unit:
            return work(unit)

    def _classify(self, error: BaseException) -> tuple[PersistenceError, bool]:
        """Return the error to raise, with its cause, and whether trying again may help."""
        lost = isinstance(error, LostConnectionError) or getattr(
            error, "connection_invalidated", False
        )
        if isinstance(error, LostConnectionError) and error.__cause__:
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
