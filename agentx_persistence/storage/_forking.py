"""Hooks around `os.fork` for open connections and locks.

A fork copies connections and locks. A copied connection would be read by two processes, and a lock
that some thread held would stay locked for ever, as that thread is not in the child
(https://docs.python.org/3/library/os.html#os.register_at_fork).
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from threading import RLock, get_ident
from weakref import WeakSet

from agentx_persistence.errors import BackendUnavailableError

# For how many seconds a fork waits for another fork, and then for calls that are under way, in all
# stores together. An opening waits as long for a fork.
_LONGEST = 5.0


class ForkAware:
    """An open resource that a child process cannot share with its parent.

    A signal handler may interrupt `before_fork`, or fork in the middle of it.
    """

    def before_fork(self, deadline: float) -> None:
        """Prepare for the fork, in the parent.

        :param deadline: the time of `time.monotonic()` up to which it may wait
        """

    def after_fork_in_parent(self) -> None:
        """Continue, in the parent, also if an earlier call of this was interrupted."""

    def after_fork(self) -> None:
        """Replace what the child cannot use. This runs before anything else in the child."""


_open: WeakSet[ForkAware] = WeakSet()
# For each fork under way, what is prepared for it, by thread: a fork whose wait for another one is
# interrupted goes on, and must not undo what the other one has prepared. A signal handler may fork
# during a fork, or open a storage, so the lock is reentrant.
_forks: dict[int, list[list[ForkAware]]] = {}
_one_thread_at_a_time = RLock()


def _before_fork() -> None:
    prepared: list[ForkAware] = []
    _forks.setdefault(get_ident(), []).append(prepared)
    # The fork that has the lock may wait, in a hook of others, for this very thread.
    _one_thread_at_a_time.acquire(timeout=_LONGEST)
    deadline = time.monotonic() + _LONGEST
    for thing in list(_open):
        prepared.append(thing)
        thing.before_fork(deadline)


def _after_fork_in_parent() -> None:
    """Continue. This runs twice: a signal that comes during the fork may interrupt the first."""
    mine = _forks.get(get_ident())
    prepared = mine[-1] if mine else []
    while prepared:
        prepared[-1].after_fork_in_parent()
        prepared.pop()


def _end_fork() -> None:
    me = get_ident()
    mine = _forks.get(me)
    if mine:
        mine.pop()
    if not mine:
        _forks.pop(me, None)
    with suppress(RuntimeError):  # the wait was too long, or interrupted
        _one_thread_at_a_time.release()


def _after_fork() -> None:
    global _one_thread_at_a_time
    _one_thread_at_a_time = RLock()
    _forks.clear()
    for thing in list(_open):
        thing.after_fork()


def renew_after_fork(thing: ForkAware) -> None:
    """Call the methods of `thing` at every fork, for as long as it exists."""
    lock = _one_thread_at_a_time
    try:
        # A fork iterates over the set. When it has done so, it may wait, in a hook of others, for
        # this very thread, so the wait ends.
        lock.acquire(timeout=_LONGEST)
        _open.add(thing)
    finally:
        with suppress(RuntimeError):  # the wait was too long, or interrupted
            lock.release()


def wait_for_fork(backend: str, threads: Sequence[int]) -> None:
    """Wait until none of these threads forks any more.

    :raises BackendUnavailableError: if that takes longer than a fork waits for anything but hooks
        of others, in which it may wait for the thread that calls this
    """
    longest = 2 * _LONGEST
    deadline = time.monotonic() + longest
    while threads:
        if time.monotonic() > deadline:
            reason = f"another thread of this process has been forking for {longest:g} s"
            raise BackendUnavailableError(backend, reason)
        time.sleep(0.001)


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork,
    )
    os.register_at_fork(after_in_parent=_after_fork_in_parent)
    os.register_at_fork(after_in_parent=_end_fork)
