"""Turns: the threads of one process write to the same session one after another.

The server alone decides which of two writers succeeds. Turns only save commands that the slower
writer would have to repeat. So a thread waits for its turn only for a short time, then goes ahead
without it. Neither an interrupted call nor a slow one stops the others.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from threading import Lock, get_ident
from typing import TypeVar

T = TypeVar("T")

# How many seconds a call waits for one call that has the turn, and for all such calls in total.
_LONGEST_TURN, _LONGEST_WAIT = 1.0, 15.0


class _Turn:
    """The turn of one call. It exists as long as the call; `over` is locked until the call ends."""

    __slots__ = ("__weakref__", "over", "thread")

    def __init__(self) -> None:
        self.thread = get_ident()
        self.over = Lock()
        self.over.acquire()


class Turns:
    def __init__(self) -> None:
        # No lock protects this dict, as an interrupt could leave it locked. Each operation on the
        # dict is atomic.
        self._current: dict[str, weakref.ref[_Turn]] = {}

    def run(self, key: str, work: Callable[[], T]) -> T:
        """Run `work` once no other thread has the turn for this key, or after the longest wait."""
        mine = _Turn()
        entry = weakref.ref(mine)
        end = time.monotonic() + _LONGEST_WAIT
        deadline, former = end, entry
        while True:
            found = self._current.setdefault(key, entry)
            if found is not former:
                deadline, former = min(end, time.monotonic() + _LONGEST_TURN), found
            holder = found()
            # A call from a signal handler runs inside the call that has the turn.
            if holder is mine or (holder is not None and holder.thread == mine.thread):
                break
            wait = deadline - time.monotonic()
            if holder is None or wait <= 0:
                self._current[key] = entry
                break
            if holder.over.acquire(timeout=wait):
                holder.over.release()
            holder = None
        try:
            return work()
        finally:
            if self._current.get(key) is entry:
                self._current.pop(key, None)
            mine.over.release()
