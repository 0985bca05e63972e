"""What must be made anew in a child process.

`os.fork` copies connections and locks. A copied connection would be read by two processes, and a
lock that some thread held would stay locked for ever, as that thread is not in the child
(https://docs.python.org/3/library/os.html#os.register_at_fork).
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from weakref import WeakSet


class ForkAware(ABC):
    """Something open that a child process cannot share with its parent."""

    @abstractmethod
    def after_fork(self) -> None:
        """Run in the child, before anything else does."""


_open: WeakSet[ForkAware] = WeakSet()


def _after_fork() -> None:
    for thing in list(_open):
        thing.after_fork()


def renew_after_fork(thing: ForkAware) -> None:
    """Call `thing.after_fork` in every child from now on, for as long as `thing` exists."""
    _open.add(thing)


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(after_in_child=_after_fork)
