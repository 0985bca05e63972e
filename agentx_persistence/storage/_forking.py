"""What `os.fork` must not tear apart.

A fork copies connections and locks. A copied connection would be read by two processes, and a lock
that some thread held would stay locked for ever, as that thread is not in the child
(https://docs.python.org/3/library/os.html#os.register_at_fork).
"""

from __future__ import annotations

import os
from threading import Condition, Lock, get_ident
from types import TracebackType
from weakref import WeakSet


class ForkAware:
    """Something open that a child process cannot simply share with its parent."""

    def before_fork(self) -> None:
        """Get ready, in the parent. What this locks, the other two release."""

    def after_fork_in_parent(self) -> None:
        """Go on, in the parent."""

    def after_fork(self) -> None:
        """Make anew what the child cannot use, before anything else runs there."""


class ForkGate:
    """Lets operations pass; holds new ones up, and waits for the others, while a fork happens."""

    def __init__(self) -> None:
        self._condition = Condition(Lock())
        # The threads inside, each of which adds and removes itself, in one step and without a lock.
        self._inside: set[int] = set()
        self._shut = False

    def __enter__(self) -> None:
        """Let this thread in, which must not be inside already."""
        me = get_ident()
        self._inside.add(me)
        # Who shuts the gate looks in after that: one of the two sees the other.
        while self._shut:
            with self._condition:
                self._inside.discard(me)
                self._condition.notify_all()
                while self._shut:
                    self._condition.wait()
                self._inside.add(me)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._inside.discard(get_ident())
        if self._shut:
            with self._condition:
                self._condition.notify_all()

    def shut(self) -> None:
        """Return when no operation is inside; none comes in from then on."""
        with self._condition:
            self._shut = True
            while self._inside:
                self._condition.wait()

    def reopen(self) -> None:
        with self._condition:
            self._shut = False
            self._condition.notify_all()


_open: WeakSet[ForkAware] = WeakSet()
_forking: list[ForkAware] = []
_one_fork_at_a_time = Lock()


def _before_fork() -> None:
    _one_fork_at_a_time.acquire()
    _forking[:] = _open
    for thing in _forking:
        thing.before_fork()


def _after_fork_in_parent() -> None:
    for thing in _forking:
        thing.after_fork_in_parent()
    _forking.clear()
    _one_fork_at_a_time.release()


def _after_fork() -> None:
    for thing in _forking:
        thing.after_fork()
    _forking.clear()
    _one_fork_at_a_time.release()


def renew_after_fork(thing: ForkAware) -> None:
    """Tell `thing` of every fork from now on, for as long as it exists."""
    with _one_fork_at_a_time:  # which goes through what is open
        _open.add(thing)


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork,
    )
