"""The clients of one storage, and what becomes of them after an interrupt.

An exception that a signal's handler raises inside pymongo can leave a lock of its pool locked, a
place in the pool taken, or a connection with half an answer on it. So an interrupted client is not
used again: the next call gets a new one. Signals' handlers run in the main thread only. So the main
thread has a client of its own, and no other thread waits for a lock that an interrupt left locked.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from _thread import start_new_thread
from collections.abc import Callable
from threading import get_ident
from typing import Any, TypeVar

import pymongo
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.errors import PyMongoError
from pymongo.synchronous.pool import Pool

from agentx_persistence.errors import BackendError, PersistenceError

Client = MongoClient[dict[str, Any]]
Rows = Collection[dict[str, Any]]
T = TypeVar("T")

# So many seconds an interrupted client gets to say goodbye to the server. pymongo holds a pool's
# lock for microseconds: what is locked for longer is locked for ever.
_GOODBYE, _LONGEST_HOLD = 1.0, 0.5


class TooLargeForTransactionError(Exception):
    """The work has to be done step by step."""


class SafePool(Pool):
    """A pool whose conditions an interrupt cannot leave locked.

    `Condition.__enter__` is Python, so an interrupt can come when the lock is taken, but before the
    `with` statement knows. pymongo then waits for that lock itself, while it cleans up.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        methods = {"__enter__": self.lock.__enter__, "__exit__": self.lock.__exit__}
        condition = type("SafeCondition", (threading.Condition,), methods)
        self.size_cond = condition(self.lock)
        self._max_connecting_cond = condition(self.lock)


class UsedClient:
    """A client with its collections; calls of several threads may use it at once."""

    __slots__ = ("client", "interrupted", "rows")

    def __init__(self, client: Client) -> None:
        self.client, self.interrupted = client, False
        self.rows: dict[tuple[str, bool], Rows] = {}

    def end(self) -> None:
        """Close the client, also when an interrupt left a lock of a pool locked."""
        if not self.interrupted:
            self.client.close()
            return
        for server in list(self.client._topology._servers.values()):
            server.pool.lock.acquire(timeout=_LONGEST_HOLD)
            server.pool.lock.release()
        with pymongo.timeout(_GOODBYE):
            self.client.close()


class Clients:
    def __init__(self, connect: Callable[[], Client], given: Client | None) -> None:
        """:param given: the caller's own; without it, `connect` makes them"""
        self._connect, self.given = connect, given
        self._given = UsedClient(given) if given is not None else None
        # By whether it is the client of the main thread.
        self._current: dict[bool, UsedClient] = {}
        # By the thread that is in a call. Each thread adds and removes itself, in one step and
        # without a lock.
        self._in_call: dict[int, UsedClient] = {}
        self._replaced: set[UsedClient] = set()
        self._inherited: list[UsedClient] = []
        self._make_locks()

    def _make_locks(self) -> None:
        # A finalizer may call while its thread replaces a client.
        self._replacing, self._ending = threading.RLock(), threading.Lock()

    def run(self, work: Callable[[], T]) -> T:
        """Run `work`, in which `mine` is the client to use."""
        me = get_ident()
        if me in self._in_call:
            # pymongo may hold a lock that it would wait for.
            raise BackendError(
                "mongodb",
                "a signal's handler or a finalizer cannot call this storage inside another call of "
                "the same thread; set a flag there, and call it afterwards",
            )
        if self._replaced:
            self._end_in_background()
        handled = sys.exception()
        used = None
        try:
            while used is None or used.interrupted:
                used = self._in_call[me] = self._choose(me)
            return work()
        except (PyMongoError, PersistenceError, TooLargeForTransactionError):
            raise
        except BaseException as error:
            # No call comes before the next statement, so no other interrupt can.
            if used is not None and used is not self._given:
                used.interrupted = True
            if isinstance(error, RuntimeError) and (interrupt := _hidden_by(error, handled)):
                raise interrupt from None
            if isinstance(error, SystemError):
                # `_cbson._batched_op_msg` forgets an exception that was raised in a property that
                # it asks for.
                raise BackendError(
                    "mongodb", "pymongo lost an interrupt; see if it is due"
                ) from error
            raise
        finally:
            self._in_call.pop(me, None)

    @property
    def mine(self) -> UsedClient:
        """The client of the call that this thread is in."""
        return self._in_call[get_ident()]

    def _choose(self, thread: int) -> UsedClient:
        if self._given is not None:
            return self._given
        main = thread == threading.main_thread().ident
        used = self._current.get(main)
        if used is not None and not used.interrupted:
            return used
        with self._replacing:
            used = self._current.get(main)
            if used is not None and used.interrupted:
                self._replaced.add(used)
            if used is None or used.interrupted:
                used = self._current[main] = UsedClient(self._connect())
            return used

    def _unused(self) -> list[UsedClient]:
        # A call that comes now sees that the client was interrupted.
        in_use = list(self._in_call.values())
        return [used for used in list(self._replaced) if used not in in_use]

    def _end_in_background(self) -> None:
        if not self._unused() or self._ending.locked():
            return
        # If no thread can be started, `close` ends them.
        with contextlib.suppress(RuntimeError):
            # `threading.Thread.start` can be interrupted halfway.
            start_new_thread(self._end_unused, ())

    def _end_unused(self) -> None:
        if self._ending.acquire(blocking=False):
            try:
                for used in self._unused():
                    used.end()
                    self._replaced.discard(used)
            finally:
                self._ending.release()

    def close(self) -> None:
        """Close all clients but the caller's own."""
        for used in {*list(self._replaced), *list(self._current.values())}:
            used.end()
            self._replaced.discard(used)

    def after_fork(self) -> None:
        # The parent goes on using its connections. They are kept here, unused: collected, they
        # would be reported as never closed; closed, they would end the parent's sessions.
        self._inherited += [*self._current.values(), *self._replaced]
        self._current, self._in_call, self._replaced = {}, {}, set()
        self._make_locks()


def _hidden_by(error: BaseException, handled: BaseException | None) -> BaseException | None:
    """Return the interrupt, if this is a failure to clean up after it.

    :param handled: what the caller was handling already
    """
    cause = error.__context__
    while isinstance(cause, Exception) and cause is not handled:
        cause = cause.__context__
    return None if cause is handled else cause
