"""Hooks around `os.fork` for open connections and locks.

A fork copies connections and locks. A copied connection would be read by two processes, and a lock
that some thread held would stay locked for ever, as that thread is not in the child
(https://docs.python.org/3/library/os.html#os.register_at_fork).
"""

from __future__ import annotations

import os
import time
from functools import partial
from threading import RLock, get_ident
from weakref import WeakValueDictionary

from agentx_persistence._unlocking import raise_unless_unlocked
from agentx_persistence.errors import BackendUnavailableError

# For how many seconds a fork waits for another fork, and then for calls that are under way, in all
# stores together. An opening waits as long for a fork.
_LONGEST = 5.0
# The threads that fork. One is in it twice if its signal handler forks meanwhile.
forking: list[int] = []
# Whether the fork leaves calls under way, by the `id` of each thing that has been prepared for it.
# A thing whose `before_fork` was interrupted or not called is not in it.
outlasting: dict[int, bool] = {}


class ForkAware:
    """An open resource that a child process cannot share with its parent.

    A signal handler may interrupt `before_fork`, or fork in the middle of it.
    """

    # The process in which `after_fork` was called last.
    renewed_in = 0

    def before_fork(self, deadline: float) -> None:
        """Prepare for the fork, in the parent.

        :param deadline: the time of `time.monotonic()` up to which it may wait
        """

    def after_fork(self) -> None:
        """Replace what the child cannot use. This runs before anything else in the child, and again
        if a signal has interrupted it."""


_open: WeakValueDictionary[int, ForkAware] = WeakValueDictionary()
# A signal handler may fork while its thread prepares for a fork, so the lock is reentrant.
_one_thread_at_a_time = RLock()


def _things() -> list[ForkAware]:
    # `valuerefs` makes its list in C code, so other threads may open stores meanwhile.
    return [thing for reference in _open.valuerefs() if (thing := reference()) is not None]


def _before_fork() -> None:
    try:
        # The thread that has the lock may wait, in a call, for this very thread.
        _one_thread_at_a_time.acquire(timeout=_LONGEST)
        deadline = time.monotonic() + _LONGEST
        for thing in _things():
            thing.before_fork(deadline)
    finally:
        try:
            _one_thread_at_a_time.release()
        except RuntimeError as error:  # the wait was too long, or interrupted
            raise_unless_unlocked(error)


def _after_fork() -> None:
    """Renew what is open. This runs three times, as a signal may interrupt it."""
    global _one_thread_at_a_time
    _one_thread_at_a_time = RLock()
    process = os.getpid()
    for thing in _things():
        if thing.renewed_in != process:
            thing.after_fork()
            thing.renewed_in = process


def renew_after_fork(thing: ForkAware) -> None:
    """Prepare `thing` for every fork, for as long as it exists."""
    _open[id(thing)] = thing
    # A fork that has begun before does not prepare it. That fork may wait, in a hook of other code,
    # for this very thread, so the wait has a limit.
    _wait_for_fork(_LONGEST)


def wait_for_fork(backend: str) -> None:
    """Wait until no other thread forks.

    :raises BackendUnavailableError: after 10 s. No hook of this package lets a fork wait longer,
        but one of other code can, and that may wait for the thread that calls this function
    """
    longest = 2 * _LONGEST
    if not _wait_for_fork(longest):
        reason = f"another thread of this process has been forking for {longest:g} s"
        raise BackendUnavailableError(backend, reason)


def _wait_for_fork(longest: float) -> bool:
    me, deadline = get_ident(), time.monotonic() + longest
    while {*forking} - {me}:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(before=_before_fork, after_in_child=forking.clear)
    for _ in range(3):
        os.register_at_fork(after_in_child=_after_fork)
    # No answers of an earlier fork are left. This runs after the next hook, so that no call starts
    # between the two.
    os.register_at_fork(before=outlasting.clear)
    # These are C code in CPython, so no signal handler runs in them, and whatever interrupts the
    # other hooks, a thread is in `forking` exactly as long as it forks. What is registered last
    # runs first before a fork, and last after it.
    os.register_at_fork(
        before=partial(next, map(forking.append, iter(get_ident, None))),
        after_in_parent=partial(next, map(forking.remove, iter(get_ident, None))),
    )
