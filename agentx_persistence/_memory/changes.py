"""Changes in memory that an exception at any moment cannot leave half done.

A change is first planned as a list of steps, each of which may run twice without harm. One
assignment stores the plan; then the steps run. An exception (Ctrl-C, or one from a signal handler)
leaves either no change or a stored plan, which the next call finishes. The same holds for a fork: a
child finishes the plan of a thread that exists only in its parent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import RLock
from typing import NoReturn, TypeVar

from agentx_persistence._unlocking import raise_unless_unlocked
from agentx_persistence.errors import BackendError, PersistenceClosedError
from agentx_persistence.storage._forking import ForkAware, renew_after_fork

T = TypeVar("T")
Step = Callable[[], object]


class Changes(ForkAware):
    """Runs one call at a time."""

    def __init__(self) -> None:
        self._closed = False
        # Reentrant because a signal handler may call the storage inside another call of the same
        # thread. With a plain lock it would wait for itself; now it finds `busy` and raises.
        #
        # On CPython 3.14 and newer, an exception from a signal handler can come between a `with`'s
        # `__enter__` and its block. So `acquire` is called inside of a `try`; `release` raises in a
        # thread that does not have the lock.
        self.lock = RLock()
        self.busy = False
        self._plan: Sequence[Step] = ()
        renew_after_fork(self)

    def after_fork(self) -> None:
        self.lock, self.busy = RLock(), False

    def run(self, work: Callable[[], T]) -> T:
        """Run `work`, which either reads or makes one change by calling `do`."""
        lock = self.lock
        try:
            lock.acquire()
            if self.busy:
                self.refuse_nested()
            try:
                self.busy = True
                self.begin()
                return work()
            finally:
                self.busy = False
        finally:
            try:
                lock.release()
            except RuntimeError as error:  # an exception came before this thread had it
                raise_unless_unlocked(error)

    def refuse_nested(self) -> NoReturn:
        raise BackendError(
            "memory",
            "a signal's handler or a finalizer cannot call this storage inside another "
            "call of the same thread; set a flag there, and call it afterwards",
        )

    def begin(self) -> None:
        """Finish a change that was interrupted."""
        if self._closed:
            raise PersistenceClosedError
        if self._plan:
            self._finish()

    def do(self, plan: Sequence[Step]) -> None:
        self._plan = plan  # from here on, this or the next call completes the change
        self._finish()

    def _finish(self) -> None:
        for step in self._plan:
            step()
        self._plan = ()

    def close(self) -> None:
        self._closed = True
