"""Turns of the threads of one process that write to the same session.

The server alone decides which writer succeeds. A turn only saves commands, as the slower one of two
writers has to repeat its own. So a turn is taken without permission after a short wait: neither an
interrupted call nor a slow one stops the others.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from threading import Lock, get_ident
from typing import TypeVar

T = TypeVar("T")

# Seconds: for one call that has the turn, and for all that have it one after another.
_LONGEST_TURN, _LONGEST_WAIT = 1.0, 15.0


class _Turn:
    """Lives as long as the call that has it."""

    __slots__ = ("__weakref__", "over", "thread")

    def __init__(self) -> None:
        self.thread = get_ident()
        self.over = Lock()
        self.over.acquire()


class Turns:
    def __init__(self) -> None:
        # Each step on this dict is atomic, so no lock is needed that an interrupt could leave
        # locked.
        self._current: dict[str, weakref.ref[_Turn]] = {}

    def run(self, key: str, work: Callable[[], T]) -> T:
        """Run `work` when no other thread has the turn for this key, or soon."""
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
