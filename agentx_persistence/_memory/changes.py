"""Changes in memory that an exception at any moment cannot leave half done.

A change is planned first, as steps that can be done twice without harm. The plan is then set down
in one step, and done. So an exception (Ctrl-C, a signal's handler) leaves either nothing or a plan,
which the next call finishes. A fork copies the same: the child finishes what another thread of its
parent was doing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import RLock
from typing import Any, TypeVar

from agentx_persistence.errors import BackendError, PersistenceClosedError
from agentx_persistence.storage._forking import ForkAware, renew_after_fork

T = TypeVar("T")
Step = Callable[[], object]


class Changes(ForkAware):
    """Runs one call at a time."""

    def __init__(self) -> None:
        self._closed = False
        # Reentrant, so that a call from a signal's handler inside another call of this thread gets
        # as far as `_busy`, and is refused instead of waiting for itself.
        self._lock = RLock()
        self._busy = False
        self._plan: Sequence[Step] = ()
        renew_after_fork(self)

    def after_fork(self) -> None:
        self._lock, self._busy = RLock(), False

    def run(self, work: Callable[..., T], *arguments: Any) -> T:
        """Run `work`, which reads, or plans one change and does it."""
        with self._lock:
            if self._busy:
                raise BackendError(
                    "memory",
                    "a signal's handler or a finalizer cannot call this storage inside another "
                    "call of the same thread; set a flag there, and call it afterwards",
                )
            try:
                self._busy = True
                if self._closed:
                    raise PersistenceClosedError
                if self._plan:
                    self._finish()
                return work(*arguments)
            finally:
                self._busy = False

    def do(self, plan: Sequence[Step]) -> None:
        self._plan = plan  # from here on it will be done
        self._finish()

    def _finish(self) -> None:
        for step in self._plan:
            step()
        self._plan = ()

    def close(self) -> None:
        self._closed = True
