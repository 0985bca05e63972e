"""SQLAlchemy's pool, made safe against interrupts."""

from __future__ import annotations

import queue
from typing import Any

from sqlalchemy import pool
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.util import queue as sqlalchemy_queue

# Set in a connection's `info` when it goes back after a regular use.
WHOLE = "agentx_persistence.whole"


class ServerPool(pool.QueuePool):
    """A `QueuePool` that does not lend a connection again whose use was interrupted."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._pool: _Queue = self._pool

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        # What was interrupted comes back without the mark, perhaps from the garbage collector.
        if not record.info.pop(WHOLE, False):
            record.invalidate()
        super()._do_return_conn(record)

    def retire(self) -> None:
        """Close what is idle, and the other connections when they come back."""
        self._pool.retired = True
        self.dispose()
        self._pool.dismiss()


class _Queue:
    """What is idle in a pool.

    SQLAlchemy's own queue can be interrupted in `Condition.__enter__`, after it has locked.
    """

    def __init__(self, maxsize: int = 0, use_lifo: bool = False) -> None:
        self.maxsize, self.use_lifo = maxsize, use_lifo
        self.retired = False
        self._idle: queue.SimpleQueue[ConnectionPoolEntry | None] = queue.SimpleQueue()
        self._waiting: set[object] = set()

    def qsize(self) -> int:
        return self._idle.qsize()

    def put(self, entry: ConnectionPoolEntry, block: bool = True) -> None:
        surplus = self.maxsize and self._idle.qsize() >= self.maxsize and not self._waiting
        if surplus or self.retired:
            raise sqlalchemy_queue.Full
        self._idle.put(entry)

    def get(self, block: bool = True, timeout: float | None = None) -> ConnectionPoolEntry:
        me = object()
        entry = None
        try:
            if block:
                # In this order: `retire` sets its flag before it looks for those who wait.
                self._waiting.add(me)
            entry = self._idle.get(block and not self.retired, timeout)
        except queue.Empty:
            pass
        finally:
            self._waiting.discard(me)
        if entry is None:
            raise sqlalchemy_queue.Empty
        return entry

    def dismiss(self) -> None:
        """Let those who wait find nothing."""
        for _ in range(len(self._waiting)):
            self._idle.put(None)


ServerPool._queue_class = _Queue  # type: ignore[assignment]
