"""Hooks around `os.fork` for open connections and locks.

A fork copies connections and locks. A copied connection would be read by two processes, and a lock
that some thread held would stay locked for ever, as that thread is not in the child
(https://docs.python.org/3/library/os.html#os.register_at_fork).
"""

from __future__ import annotations

import os
from threading import Lock
from weakref import WeakSet


class ForkAware:
    """An open resource that a child process cannot share with its parent."""

    def before_fork(self) -> None:
        """Prepare for the fork, in the parent. The other two methods release the locks taken."""

    def after_fork_in_parent(self) -> None:
        """Continue, in the parent."""

    def after_fork(self) -> None:
        """Replace what the child cannot use. This runs before anything else in the child."""


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
    """Call the methods of `thing` at every fork, for as long as it exists."""
    with _one_fork_at_a_time:  # a fork iterates over the set
        _open.add(thing)


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork,
    )
