"""The connection to the index file, its transactions, and what a fork does with it."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from threading import RLock, get_ident
from typing import Any, TypeVar

from agentx_persistence._fs.files import Locks
from agentx_persistence._fs.rebuilding import Scan, rebuild, stamp, witness_of
from agentx_persistence._fs.schema import statements
from agentx_persistence._unlocking import raise_unless_unlocked
from agentx_persistence.errors import BackendError, BackendUnavailableError, PersistenceClosedError
from agentx_persistence.storage._forking import (
    ForkAware,
    forking,
    outlasting,
    renew_after_fork,
    wait_for_fork,
)

T = TypeVar("T")

# A child process must neither use nor close the connections of its parent, so they are kept here.
_of_the_parent: list[sqlite3.Connection] = []


class IndexFile(ForkAware):
    def __init__(
        self,
        base: str,
        locks: Locks,
        timeout: float,
        scan: Scan,
    ) -> None:
        self.path = f"{base}/index.sqlite3"
        self._locks, self._timeout, self._scan = locks, timeout, scan
        self._lock = RLock()
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._closed = self._using = self._torn = False
        renew_after_fork(self)

    # SQLite records the locks of a process in memory. So a child that inherits a connection and
    # opens the file would believe that it holds the locks of its parent; see `KeptConnections`.

    def before_fork(self, deadline: float) -> None:
        # Nothing that an interrupt could end may precede `acquire` inside of the `try`.
        seconds = max(0.0, deadline - time.monotonic())
        try:
            # The lock is released before the fork, which may wait, in a hook of other code, for a
            # thread that wants this lock.
            locked = self._lock.acquire(timeout=seconds)
            # A call that comes later is `_using`, too, but then waits for the fork.
            used = self._using or not locked
            if not used:
                self._use(self._disconnect)
            outlasting[id(self)] = used
        finally:
            try:
                self._lock.release()
            except RuntimeError as error:  # it could not wait longer, or was interrupted
                raise_unless_unlocked(error)

    def after_fork(self) -> None:
        # A call may have outlasted the wait, and a signal handler may have forked inside a call, or
        # interrupted `before_fork`.
        used = outlasting.get(id(self), self._using)
        self._torn = self._torn or used or self._connection is not None
        if self._connection is not None:
            _of_the_parent.append(self._connection)
            self._connection = None
        self._lock, self._using = RLock(), False

    def _use(self, work: Callable[[], T]) -> T:
        """Run `work`, which may use or replace the connection, while no other thread does."""
        lock = self._lock
        try:  # not a `with` block: on CPython 3.14, an interrupt can come before its start
            lock.acquire()
            nested = self._using
            try:
                self._using = True  # from here on, a fork by a signal handler does not disconnect
                return work()
            finally:
                self._using = nested
        finally:
            try:
                lock.release()
            except RuntimeError as error:  # it was interrupted before it had the lock
                raise_unless_unlocked(error)

    def close(self) -> None:
        self._closed = True
        self._use(self._disconnect)

    def _disconnect(self) -> None:
        idle, self._connection = self._connection, None
        if idle is not None:
            idle.close()

    def open(self) -> None:
        """Connect to the index file, and rebuild it if it is unusable.

        Do nothing if this object is connected to the file that has the name now.
        """
        while not self._is_current():
            if self._closed:
                raise PersistenceClosedError
            if self._torn:
                raise BackendError(
                    "fs", "the process forked in the middle of a call; open the store anew"
                )
            if _is_forking():
                wait_for_fork("fs")
            elif not self._use(self._connect):
                self._locks.hold("index", lambda: self._use(self._connect_or_rebuild))

    def _is_current(self) -> bool:
        try:
            return self._connection is not None and os.stat(self.path).st_ino == self._inode
        except FileNotFoundError:
            return False

    def _connect_or_rebuild(self) -> None:
        if not self._connect():
            rebuild(self.path, self._scan)

    def _connect(self) -> bool:
        """Connect, unless another thread forks. Return False if the index is missing, damaged or
        made for other files."""
        if _is_forking():
            return True
        if not (os.path.exists(self.path) and os.path.exists(witness_of(self.path))):
            return False
        connection = sqlite3.connect(
            self.path, timeout=self._timeout, isolation_level=None, check_same_thread=False
        )
        try:
            # All rows are fetched, here and below, because PyPy closes a cursor only then, and an
            # open cursor prevents commits.
            known = connection.execute("SELECT stamp FROM meta").fetchall()
            made = connection.execute("SELECT sql FROM sqlite_master").fetchall()
            inode = os.stat(self.path).st_ino
            if known == [(stamp(self.path),)] and {(sql,) for sql in statements()} <= {*made}:
                connection.execute("PRAGMA fullfsync = 1")
                connection.execute("PRAGMA checkpoint_fullfsync = 1")
                self._connection, self._inode, connection = connection, inode, self._connection
                return True
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError) and "no such table" not in str(error):
                raise
        finally:
            if connection is not None:
                connection.close()
        return False

    def read(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        def fetch() -> list[Any] | None:
            connection = self._connection
            return None if connection is None else connection.execute(statement, values).fetchall()

        while True:
            self.open()
            if (rows := self._use(fetch)) is not None:
                return rows

    def write(
        self,
        work: Callable[[sqlite3.Connection], T],
        *,
        durable: bool = False,
        wait: bool = True,
    ) -> T:
        """Run `work` in a transaction and return its result.

        :param durable: whether a power failure must not undo it
        :param wait: if False and another process is writing, raise `BackendUnavailableError`
        """

        def commit() -> tuple[T] | None:
            connection = self._connection
            if connection is None or not self._is_current():
                return None
            try:
                if connection.in_transaction:  # left open by an interrupt
                    connection.rollback()
                connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                connection.execute("BEGIN IMMEDIATE")
                result = work(connection)
                connection.execute("COMMIT")
                return (result,)
            finally:
                if connection.in_transaction:
                    connection.rollback()

        while True:
            self.open()
            if done := self._locks.hold("index", lambda: self._use(commit), wait=wait):
                return done[0]
            if not wait:
                raise BackendUnavailableError("fs", f"others are writing to {self.path}")


def _is_forking() -> bool:
    """Tell whether other threads fork. A signal handler that connects, in a thread that forks,
    makes the child open the store anew."""
    return bool(forking) and get_ident() not in forking
