"""The clients of one storage, and their replacement after an interrupt.

An interrupt is an exception that a signal handler raises, such as Ctrl-C. Inside pymongo it can
leave a lock of its pool locked, a place in the pool taken, or a connection with half an answer on
it. So an interrupted client is not used again: the next call gets a new one. Signal handlers run in
the main thread only. So the main thread has a client of its own, and no other thread waits for a
lock that an interrupt left locked.
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

# How many seconds an interrupted client may take to end its sessions on the server, and how many
# seconds a call waits for a pool's lock. pymongo holds such a lock for microseconds. The interrupt
# has left it locked if it is locked for longer.
_GOODBYE, _LONGEST_HOLD = 1.0, 0.5


class TooLargeForTransactionError(Exception):
    """The work does not fit into one transaction. The caller does it in several steps instead."""


class SafePool(Pool):
    """A pool whose conditions an interrupt cannot leave locked.

    `Condition.__enter__` is written in Python, so an interrupt can come after the lock is taken and
    before the body of the `with` statement begins. The lock then stays locked, and pymongo waits
    for it while it cleans up. Here `__enter__` is the lock's own method, which is written in C.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        methods = {"__enter__": self.lock.__enter__, "__exit__": self.lock.__exit__}
        condition = type("SafeCondition", (threading.Condition,), methods)
        self.size_cond = condition(self.lock)
        self._max_connecting_cond = condition(self.lock)


class UsedClient:
    """A client and its collections. Calls of several threads may use it at once."""

    __slots__ = ("client", "interrupted", "rows")

    def __init__(self, client: Client) -> None:
        self.client, self.interrupted = client, False
        self.rows: dict[tuple[str, bool], Rows] = {}

    def end(self) -> None:
        """Close the client, even if an interrupt left a lock of a pool locked."""
        if not self.interrupted:
            self.client.close()
            return
        for server in list(self.client._topology._servers.values()):
            server.pool.lock.acquire(timeout=_LONGEST_HOLD)
            with contextlib.suppress(RuntimeError):  # its holder was only slow
                server.pool.lock.release()
        with pymongo.timeout(_GOODBYE):
            self.client.close()


class Clients:
    def __init__(self, connect: Callable[[], Client], given: Client | None) -> None:
        """:param given: the caller's own client; without it, `connect` makes the clients"""
        self._connect, self.given = connect, given
        self._given = UsedClient(given) if given is not None else None
        # The key is True for the client of the main thread, False for that of all other threads.
        self._current: dict[bool, UsedClient] = {}
        # The clients in use, by the id of the thread whose call uses them. Each thread adds and
        # removes its own id, in one step and without a lock.
        self._in_call: dict[int, UsedClient] = {}
        self._replaced: set[UsedClient] = set()
        self._inherited: list[UsedClient] = []
        self._make_locks()

    def _make_locks(self) -> None:
        # Reentrant, because a finalizer may call the storage while its thread replaces a client.
        self._replacing, self._ending = threading.RLock(), threading.Lock()

    def run(self, work: Callable[[], T]) -> T:
        """Run `work`, in which `mine` returns the client to use."""
        me = get_ident()
        if me in self._in_call:
            # The outer call may hold a lock of pymongo for which this one would wait.
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
            # No call precedes the next statement, so that a second interrupt cannot prevent it.
            if used is not None and used is not self._given:
                used.interrupted = True
            if isinstance(error, RuntimeError) and (interrupt := _hidden_by(error, handled)):
                raise interrupt from None
            if isinstance(error, SystemError):
                # If an interrupt comes in a property that `_cbson._batched_op_msg` reads, pymongo
                # loses it and raises a SystemError.
                raise BackendError(
                    "mongodb",
                    "pymongo lost the exception of a signal handler; check whether the signal "
                    "still has to be handled",
                ) from error
            raise
        finally:
            self._in_call.pop(me, None)

    @property
    def mine(self) -> UsedClient:
        """The client that the current call of this thread uses."""
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
        # A call that begins now sees that these clients were interrupted, and takes another one.
        in_use = list(self._in_call.values())
        return [used for used in list(self._replaced) if used not in in_use]

    def _end_in_background(self) -> None:
        if not self._unused() or self._ending.locked():
            return
        # If no thread can be started, `close` ends these clients.
        with contextlib.suppress(RuntimeError):
            # `threading.Thread.start` is not used, because an interrupt can leave it half done.
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
        """Close all clients except the caller's own."""
        for used in {*list(self._replaced), *list(self._current.values())}:
            used.end()
            self._replaced.discard(used)

    def after_fork(self) -> None:
        # The parent goes on using these connections. The child keeps them unused: if they were
        # garbage-collected, Python would warn that they are not closed; if they were closed, the
        # parent's sessions would end.
        self._inherited += [*self._current.values(), *self._replaced]
        self._current, self._in_call, self._replaced = {}, {}, set()
        self._make_locks()


def _hidden_by(error: BaseException, handled: BaseException | None) -> BaseException | None:
    """Return the interrupt, if `error` was raised while pymongo cleaned up after it.

    :param handled: the exception that the caller was already handling before the call
    """
    cause = error.__context__
    while isinstance(cause, Exception) and cause is not handled:
        cause = cause.__context__
    return None if cause is handled else cause
