"""SQLAlchemy's pool, made safe against interrupts."""

from __future__ import annotations

import queue
import time
from collections import deque
from contextlib import suppress
from copy import copy
from math import inf
from threading import Lock
from typing import Any

from sqlalchemy import pool
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.util import queue as sqlalchemy_queue


class ServerPool(pool.QueuePool):
    """A `QueuePool` that never lends a connection again after its use was interrupted.

    `take` and `give` are used instead of SQLAlchemy's `connect`. That creates an object which
    returns the connection when it is garbage-collected, and looks for event listeners. Neither is
    needed here, and both take as long as the rest of the work.
    """

    @property
    def most(self) -> float:
        """How many connections can be lent at the same time."""
        return inf if self._max_overflow < 0 else self.size() + self._max_overflow

    def take(self) -> ConnectionPoolEntry:
        """Lend a connection, which `give` takes back."""
        entry: Any = self._do_get()
        try:
            entry.get_connection()
        except BaseException as error:
            entry.invalidate(error)
            self.give(entry)
            raise
        return entry  # type: ignore[no-any-return]

    def give(self, entry: ConnectionPoolEntry) -> None:
        """Take back a connection that was not interrupted, or was invalidated."""
        super()._do_return_conn(entry)

    def invalidate_generation(self, entry: Any, error: BaseException) -> None:
        """Close a lost connection, and mark all older ones to be replaced before their next use."""
        if self._invalidate_time < entry.starttime:
            self._invalidate_time = time.time()
        entry.invalidate(error)

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        # Called for connections that SQLAlchemy's engine used. The use may have been interrupted,
        # and the garbage collector may have returned the connection.
        record.invalidate()
        super()._do_return_conn(record)

    def successor(self) -> ServerPool:
        """Return a new pool without connections.

        SQLAlchemy's `recreate` takes a lock of `logging`, which an interrupt can leave locked.
        """
        new = copy(self)
        new._pool = _Queue(self._pool.maxsize, self._pool.use_lifo)
        new._overflow = -self._pool.maxsize
        new._overflow_lock = Lock()
        return new

    def retire(self) -> None:
        """Close the idle connections, and each of the others when it is returned."""
        connections: Any = self._pool
        connections.retired = True
        self.dispose()
        connections.dismiss()


class _Queue(sqlalchemy_queue.QueueCommon[ConnectionPoolEntry]):
    """The idle connections of a pool. Threads that wait for one get it in their order of arrival.

    SQLAlchemy's own queue is not fair, and an interrupt in `Condition.__enter__` can leave it
    locked forever. This one uses no lock: each operation on a deque is atomic.
    """

    def __init__(self, maxsize: int = 0, use_lifo: bool = False) -> None:
        self.maxsize, self.use_lifo = maxsize, use_lifo
        self.retired = False
        self._idle: deque[ConnectionPoolEntry] = deque()
        self._waiting: deque[queue.SimpleQueue[ConnectionPoolEntry | None]] = deque()

    def qsize(self) -> int:
        return len(self._idle)

    def put(
        self, item: ConnectionPoolEntry, block: bool = True, timeout: float | None = None
    ) -> None:
        surplus = self.maxsize and len(self._idle) >= self.maxsize and not self._waiting
        if surplus or self.retired:
            raise sqlalchemy_queue.Full
        self._idle.append(item)
        self._hand_over()

    def get(self, block: bool = True, timeout: float | None = None) -> ConnectionPoolEntry:
        try:
            if not self._waiting:
                return self._idle.pop()
        except IndexError:
            pass
        if block and (entry := self._wait(timeout)):
            return entry
        raise sqlalchemy_queue.Empty

    def _wait(self, timeout: float | None) -> ConnectionPoolEntry | None:
        mine: queue.SimpleQueue[ConnectionPoolEntry | None] = queue.SimpleQueue()
        # This adds to `_waiting`, then looks at `_idle` and `retired`; `put` and `retire` do the
        # reverse. So at least one of two threads notices the other.
        self._waiting.append(mine)
        self._hand_over()
        if self.retired:
            self.dismiss()
        with suppress(queue.Empty):
            return mine.get(timeout=timeout)
        with suppress(ValueError):
            self._waiting.remove(mine)
            return None
        with suppress(queue.Empty):
            return mine.get(timeout=1.0)  # another thread has removed `mine` to hand over to it
        return None

    def _hand_over(self) -> None:
        while self._idle and self._waiting:
            try:
                entry = self._idle.pop()
            except IndexError:
                return
            try:
                mine = self._waiting.popleft()
            except IndexError:
                self._idle.append(entry)
            else:
                mine.put(entry)

    def dismiss(self) -> None:
        """Wake all waiting threads without a connection."""
        with suppress(IndexError):
            while True:
                self._waiting.popleft().put(None)


ServerPool._queue_class = _Queue
