"""SQLite's connections: one writes, the others read, and all stay open between the calls.

Opening a connection, or even taking one from a pool, takes longer than reading a row from SQLite.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from threading import TIMEOUT_MAX, RLock, get_ident
from typing import Any, TypeVar

from sqlalchemy import Engine, PoolProxiedConnection
from sqlalchemy.engine.interfaces import DBAPICursor as Cursor

from agentx_persistence._sql.connections import NESTED, Connections, Rows, forgotten
from agentx_persistence._sql.flavour import Flavour
from agentx_persistence._unlocking import raise_unless_unlocked
from agentx_persistence.errors import BackendError, BackendUnavailableError
from agentx_persistence.storage._forking import forking, outlasting, wait_for_fork

T = TypeVar("T")

# Seconds between two attempts to write. The pauses of SQLite's own busy handler grow to 100 times
# this, and the threads that wait for the writer would pause with it.
_PAUSE = 0.001
# Seconds between two checks whether the file was deleted or replaced.
_LOOK = 1.0


class KeptConnections(Connections):
    def __init__(self, engine: Engine, flavour: Flavour, *, path: str | None, timeout: float):
        """:param engine: its pool keeps no connections to a file

        :param path: the file, or ``None`` for a database in memory, which has one connection
        :param timeout: how many seconds a call waits for the other writers
        """
        self._engine, self._flavour = engine, flavour
        self._dbapi = engine.dialect.loaded_dbapi
        # Python's locks refuse longer times, such as `math.inf`.
        self._path, self._timeout = path, min(timeout, TIMEOUT_MAX / 2)
        self._identity: tuple[int, int] | None = None
        self._looked = 0.0
        self._closed = self._torn = False
        self._readers: list[Any] = []
        self._writer: PoolProxiedConnection | None = None
        # Held by the thread whose turn it is to write. It is an RLock because that knows its owner:
        # `release` raises in a thread whose `acquire` was interrupted before it succeeded.
        self._turn = RLock()
        self._writing = False
        # The threads that write or wait for their turn.
        self._writers: set[int] = set()
        # The calls under way, and their threads. A fork waits for them.
        self._inside: dict[object, int] = {}

    def fetch(self, sql: str, parameters: Any) -> Rows:
        if self._path is None or not sql.startswith("SELECT"):
            return self._write(lambda cursor: _fetch(cursor, sql, parameters), begin=False)
        call = object()
        try:
            self._inside[call] = get_ident()
            if forking:
                self._wait_for_fork(call)
            self._look()
            try:
                reader = self._readers.pop()
            except IndexError:
                reader = self._connect()
            try:
                # Fetching all rows ends the statement.
                rows: Rows = reader.dbapi_connection.execute(sql, parameters).fetchall()
            except BaseException:
                reader.invalidate()  # an unfinished statement would keep reading an old snapshot
                raise
            self._readers.append(reader)
        finally:
            self._inside.pop(call, None)
        if self._closed:
            self.close()
        return rows

    def execute(self, sql: str, parameters: Any) -> int:
        return self._write(lambda cursor: _execute(cursor, sql, parameters), begin=False)

    def write(self, work: Callable[[Cursor], T]) -> T:
        return self._write(work, begin=True)

    def _write(self, work: Callable[[Cursor], T], *, begin: bool) -> T:
        me, deadline = get_ident(), time.monotonic() + self._timeout
        if me in self._writers:
            raise BackendError(self._flavour.backend, NESTED)
        # Each `finally` has one call, so that a second interrupt cannot prevent another one.
        try:
            self._writers.add(me)
            while True:
                try:
                    return self._write_once(work, begin, deadline)
                except self._dbapi.OperationalError as error:
                    # The turn is given back between two attempts, so that other threads and a fork
                    # do not wait for this call.
                    if not self._flavour.is_transient(error) or time.monotonic() > deadline:
                        raise
                time.sleep(_PAUSE * random.uniform(0.5, 1.5))
        finally:
            self._writers.discard(me)

    def _write_once(self, work: Callable[[Cursor], T], begin: bool, deadline: float) -> T:
        call = object()
        try:
            self._inside[call] = get_ident()
            if forking:
                self._wait_for_fork(call)
            try:
                if not self._turn.acquire(timeout=max(0.0, deadline - time.monotonic())):
                    seconds = f"{self._timeout:g} s"
                    reason = f"other threads of this process have been writing for {seconds}"
                    raise BackendUnavailableError(self._flavour.backend, reason)
                result = self._write_alone(work, begin)
            finally:
                try:
                    self._turn.release()
                except RuntimeError as error:  # this thread does not hold it
                    raise_unless_unlocked(error)
        finally:
            self._inside.pop(call, None)
        return result

    def _write_alone(self, work: Callable[[Cursor], T], begin: bool) -> T:
        try:
            self._writing = True
            self._look()
            if self._writer is None:
                writer = self._connect()
                if self._path is not None:
                    _fetch(_cursor(writer), "PRAGMA busy_timeout = 0", ())
                self._writer = writer
            connection: Any = self._writer.dbapi_connection
            cursor = connection.cursor()
            try:
                if begin:
                    self._flavour.begin(connection, cursor)
                result = work(cursor)
                connection.commit()
            finally:
                # The traceback of an error keeps the cursor alive. Another thread could free it at
                # any time. SQLite takes locks for that, and a fork would not wait for them.
                cursor.close()
        except BaseException:
            # No other call precedes the rollback, so that a second interrupt cannot prevent it.
            if self._writer is not None:
                self._writer.dbapi_connection.rollback()  # type: ignore[union-attr]
            raise
        finally:
            self._writing = False
            if self._closed:
                self._close_idle()
        return result

    def _connect(self) -> PoolProxiedConnection:
        if self._torn:
            raise BackendError(
                self._flavour.backend,
                "the process forked in the middle of a call; open the database anew in the child",
            )
        pooled = self._engine.raw_connection()
        if self._path is not None and self._identity is None:
            self._identity = _identity(self._path)
        return pooled

    def _look(self) -> None:
        """Raise if the file was deleted or replaced.

        SQLite would go on writing to the deleted file, and what it writes would be lost.
        """
        now = time.monotonic()
        if now - self._looked < _LOOK or self._path is None:
            return
        if self._identity is not None and _identity(self._path) != self._identity:
            raise BackendError(
                self._flavour.backend,
                f"{self._path} was deleted or replaced while it was open; open it anew",
            )
        self._looked = now

    def run(self, work: Callable[[], T]) -> T:
        call = object()
        try:
            self._inside[call] = get_ident()
            if forking:
                self._wait_for_fork(call)
            return work()
        finally:
            self._inside.pop(call, None)

    def close(self) -> None:
        self._closed = True
        self.run(self._close)

    def _close(self) -> None:
        # A write that is under way closes its connection at its end.
        mine = get_ident() in self._writers
        if self._turn.acquire(timeout=0.0 if mine else self._timeout):
            try:
                self._close_idle()
            finally:
                self._turn.release()

    def _close_idle(self) -> None:
        while self._readers:
            self._readers.pop().invalidate()
        if self._writer is not None and not self._writing:
            self._writer.invalidate()
            self._writer = None

    def _wait_for_fork(self, call: object) -> None:
        if get_ident() in forking:
            raise BackendError(
                self._flavour.backend,
                "a signal handler called the storage while its thread was forking; let it make that"
                " call later, or in another thread",
            )
        while forking:
            self._inside.pop(call, None)
            wait_for_fork(self._flavour.backend)
            self._inside[call] = get_ident()

    # SQLite records the file locks of its process in memory. A child that inherits a connection and
    # opens the same file would believe that it holds the locks of its parent
    # (https://www.sqlite.org/howtocorrupt.html#_carrying_an_open_database_across_a_fork_).

    def before_fork(self, deadline: float) -> None:
        # A fork adds its thread to `forking`, then reads `_inside`. A call adds itself to
        # `_inside`, then reads `forking`. So at least one of the two notices the other.
        # A call that comes later adds itself, too, but then waits for the fork.
        while True:
            # Copied, because on a free-threaded Python other threads can change it during a loop.
            inside = self._inside.copy()
            if not set(inside.values()) - {get_ident()} or time.monotonic() > deadline:
                break
            time.sleep(0.001)
        if not inside and self._path is not None:
            closing = object()
            try:
                # From here on, a fork by a signal handler leaves a call under way.
                self._inside[closing] = get_ident()
                self._close_idle()
            finally:
                self._inside.pop(closing, None)
        outlasting[id(self)] = bool(inside)

    def after_fork(self) -> None:
        # A call may have outlasted the wait, and a signal handler may have forked inside a call, or
        # interrupted `before_fork`.
        inside = outlasting.get(id(self), bool(self._inside))
        used = inside or (self._path is not None and (self._readers or self._writer))
        self._torn = self._torn or bool(used)
        self._turn, self._writing, self._writers = RLock(), False, set()
        if self._path is not None or self._torn:
            forgotten.extend([self._writer, self._readers])
            self._readers, self._writer = [], None
        self._inside = {}


def _cursor(pooled: PoolProxiedConnection) -> Cursor:
    return pooled.dbapi_connection.cursor()  # type: ignore[union-attr]


def _fetch(cursor: Cursor, sql: str, parameters: Any) -> Rows:
    try:
        cursor.execute(sql, parameters)
        rows = cursor.fetchall()
    finally:
        cursor.close()
    return rows


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _execute(cursor: Cursor, sql: str, parameters: Any) -> int:
    cursor.execute(sql, parameters)
    met = cursor.rowcount
    cursor.close()
    return met
