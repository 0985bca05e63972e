"""Runs and repeats statements, and translates errors of SQLAlchemy and the client library."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Any, TypeVar

from sqlalchemy import Dialect, Engine, exc
from sqlalchemy.engine.interfaces import DBAPICursor as Cursor
from sqlalchemy.sql import ClauseElement

from agentx_persistence._sql.connections import NESTED, Connections, LostConnectionError, Rows
from agentx_persistence._sql.flavour import Flavour
from agentx_persistence._sql.statements import Statement
from agentx_persistence.errors import (
    BackendError,
    BackendUnavailableError,
    ConfigurationError,
    PersistenceClosedError,
    PersistenceError,
    SchemaError,
)
from agentx_persistence.storage._forking import ForkAware, renew_after_fork
from agentx_persistence.storage._retrying import Retries

T = TypeVar("T")

# For how many seconds opening a storage is repeated since a server last answered. It is short, so
# that an application that cannot start reports it soon.
_OPENING = 2.0
# By how many seconds at most a long first attempt, such as connecting to a silent server, extends
# `_OPENING`, so that there is a second attempt.
_CONNECTING = 3.0


class DuplicateError(BackendError):
    """A key is taken. `SqlStorage` handles this error, and never passes it on to its caller."""


class Database(ForkAware):
    """Runs statements. Each call is a transaction, which is repeated after errors that may pass."""

    # Whether a change must read messages with locks, as its transaction may have a snapshot.
    reads_with_locks = False
    # Whether a row must be locked before it is inserted, as the transaction may have a snapshot in
    # which others have deleted it. The lock then fails.
    locks_first = False
    # How often a call tries to create what is refused as a duplicate, though nothing has its key.
    attempts = 100

    def __init__(
        self,
        engine: Engine,
        flavour: Flavour,
        connections: Connections,
        *,
        retry_seconds: float = 12.0,
    ) -> None:
        """:param retry_seconds: how long after its start a call that failed is repeated"""
        self.engine = engine
        self.flavour = flavour
        self._connections = connections
        self._retry_seconds = retry_seconds
        self._closed = False
        self._opening: float | None = None
        self._writing: set[int] = set()
        self._dbapi = engine.dialect.loaded_dbapi
        self._statements: dict[Hashable, Statement] = {}
        # Those of callers' transactions with other styles.
        self._compiled: dict[tuple[str, ...], dict[Hashable, Statement]] = {}
        renew_after_fork(self)

    @property
    def dialect(self) -> Dialect:
        return self.engine.dialect

    def statements_of(self, dialect: Dialect) -> dict[Hashable, Statement]:
        """Return the statements that were compiled for dialects of this one's style."""
        style = _style(dialect)
        if style == _style(self.dialect):
            return self._statements
        return self._compiled.setdefault(style, {})

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
            statement = Statement(build(), self.dialect, columns, self.flavour.schema)
            self._statements[name] = statement
            return statement

    def fetch(self, sql: str, parameters: Any = ()) -> Rows:
        """Return the rows of one statement, which is a transaction of its own.

        :raises DuplicateError: if a key is taken
        """
        if self._writing:
            self._refuse_nested()
        return self._attempt(self._connections.fetch, sql, parameters)

    def execute(self, sql: str, parameters: Any = ()) -> int:
        """Run one writing statement, which is a transaction of its own; return how many rows it
        matched.

        :raises DuplicateError: if a key is taken
        """
        if self._writing:
            self._refuse_nested()
        return self._attempt(self._connections.execute, sql, parameters)

    def write(self, work: Callable[[Cursor], T], undone: Callable[[], None] | None = None) -> T:
        """Run `work` in one transaction. If that is repeated, `work` runs again from its start.

        :param undone: is called before a repetition if no attempt can have taken effect
        :raises DuplicateError: if a key is taken
        """
        if self._writing:
            self._refuse_nested()
        me = get_ident()
        try:
            self._writing.add(me)
            result: T = self._attempt(self._connections.write, work, undone=undone)
            return result
        finally:
            self._writing.discard(me)

    def _refuse_nested(self) -> None:
        # A signal handler or finalizer in the middle of `write` would wait for the locks of its own
        # thread.
        if get_ident() in self._writing:
            raise BackendError(self.flavour.backend, NESTED)

    @contextmanager
    def opening(self, deadline: float) -> Iterator[None]:
        """Limit how long calls are repeated in this context, in which a storage is opened.

        :param deadline: the time of `time.monotonic()` up to which they are repeated while the
            server answers but has no free connection, as when many processes open at once, or is
            starting. If no server answers, they are repeated for `_OPENING`
        """
        self._opening = deadline
        try:
            yield
        finally:
            self._opening = None

    def attempt(
        self, run: Callable[[Connections], T], undone: Callable[[], None] | None = None
    ) -> T:
        """Call `run`, which makes one transaction with the connections it is given.

        :param undone: as for `write`
        :raises DuplicateError: if a key is taken
        """
        if self._writing:
            self._refuse_nested()
        return self._attempt(run, self._connections, undone=undone)

    def migrate(self, upgrade: Callable[[Engine], None], engine: Engine | None = None) -> None:
        """Call `upgrade` with `engine`, or with this database's engine, whose statements then run
        in transactions."""
        if engine is None:
            level = self.flavour.unit_isolation
            engine = self.engine.execution_options(isolation_level=level)
        self._attempt(self._connections.run, lambda: upgrade(engine))

    def refused(self, noun: str, id: str) -> PersistenceError:
        """Return the error for what is still refused as a duplicate after all attempts."""
        return ConfigurationError(
            self.flavour.backend,
            f"the database refuses the {noun} {id!r} as a duplicate, but no {noun} has this id;"
            " remove the unique index that was added to the tables of this package",
        )

    def before_fork(self, deadline: float) -> None:
        self._connections.before_fork(deadline)

    def after_fork(self) -> None:
        # The child's new threads may have the ids of its parent's.
        self._writing &= {get_ident()}
        self._connections.after_fork()

    def close(self) -> None:
        self._closed = True
        self._connections.close()

    def _attempt(
        self, run: Callable[..., T], *arguments: Any, undone: Callable[[], None] | None = None
    ) -> T:
        started, retries, certain, heard = time.monotonic(), None, True, 0.0
        while True:
            if self._closed:
                raise PersistenceClosedError
            try:
                return run(*arguments)
            except (LostConnectionError, self._dbapi.Error, exc.SQLAlchemyError) as error:
                failure, passing = self.translate(error)
                if not passing:
                    raise failure from failure.__cause__
                cause = failure.__cause__
                certain = certain and cause is not None and self.flavour.is_undone(cause)
                if undone and certain:
                    undone()
                retries = retries or Retries(self.flavour.backend, started + self._retry_seconds)
                if self._opening is not None:
                    now = time.monotonic()
                    answers = cause is not None and self.flavour.is_transient(cause)
                    heard = now if answers else heard or min(now, started + _CONNECTING)
                    silent = heard + min(_OPENING, self._retry_seconds)
                    retries.deadline = self._opening if answers else silent
            if not retries.pause(failure):
                raise failure from failure.__cause__

    def translate(self, error: BaseException) -> tuple[PersistenceError, bool]:
        """Return the error to raise, with its cause, and whether trying again may help."""
        lost = isinstance(error, LostConnectionError) or getattr(
            error, "connection_invalidated", False
        )
        if isinstance(error, LostConnectionError) and error.__cause__ is not None:
            error = error.__cause__
        if isinstance(error, PersistenceError):  # raised while connecting
            return error, False
        cause: BaseException = getattr(error, "orig", None) or error
        backend, flavour = self.flavour.backend, self.flavour
        failure: PersistenceError
        passing = False
        reason = f"{flavour.place}: {str(cause).strip()}"
        if isinstance(error, exc.TimeoutError):
            failure = BackendUnavailableError(
                backend, f"{reason}; raise pool_size, max_overflow or pool_timeout"
            )
        elif isinstance(cause, self._dbapi.IntegrityError):
            failure = DuplicateError(backend, str(cause))
        elif flavour.is_missing_table(cause):
            failure = SchemaError(reason, "run: python -m agentx_persistence upgrade URL")
        elif hint := flavour.misconfigured(cause):
            failure = ConfigurationError(backend, f"{reason}; {hint}")
        elif lost or flavour.is_transient(cause) or flavour.is_lost(cause):
            failure = BackendUnavailableError(backend, reason)
            passing = not flavour.in_process  # SQLite has already waited for its locks
        else:
            failure = BackendError(backend, reason)
        failure.__cause__ = cause
        return failure, passing


def _style(dialect: Dialect) -> tuple[str, ...]:
    """Return the client library, the style of parameters, and the quote of names, which is another
    one in MySQL's mode ANSI_QUOTES."""
    return dialect.driver, dialect.paramstyle, dialect.identifier_preparer.initial_quote
