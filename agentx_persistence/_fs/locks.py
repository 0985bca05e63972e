"""Locks across threads and processes. The system releases those of a process that dies."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from agentx_persistence._fs.files import FILE_MODE
from agentx_persistence.forking import ForkAware, renew_after_fork

if sys.platform == "win32":
    import errno
    import msvcrt

    def _acquire(descriptor: int) -> None:
        while True:
            try:
                return msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)
            except OSError as error:
                if error.errno != errno.EDEADLK:  # which says: still taken after ten seconds
                    raise

    def _release(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _acquire(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)

    def _release(descriptor: int) -> None:
        # Closing is not enough: a child process may have a copy of the descriptor.
        fcntl.flock(descriptor, fcntl.LOCK_UN)


class Locks(ForkAware):
    """A fixed number of lock files, shared by what falls on the same one, and never removed.

    A lock file of its own for each record would have to go with the record, and a process that
    waits for the lock of a removed file gets it together with one that locks its successor.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._forget()
        renew_after_fork(self)

    def _forget(self) -> None:
        # Threads queue here, so that of each process only one waits for the file.
        self._threads: dict[str, Lock] = {}
        self._held: set[int] = set()

    def after_fork(self) -> None:
        held = self._held
        self._forget()
        for descriptor in held:
            os.close(descriptor)

    @contextmanager
    def hold(self, purpose: str, name: str) -> Iterator[None]:
        """Hold the lock of a name that `file_name` gave.

        A thread takes first the lock of a record, then that of one index after another.
        """
        stripe = f"{purpose}-{name[:2]}"
        with self._threads.setdefault(stripe, Lock()):
            path = f"{self._folder}/{stripe}"
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, FILE_MODE)
            self._held.add(descriptor)
            try:
                _acquire(descriptor)
                try:
                    yield
                finally:
                    _release(descriptor)
            finally:
                self._held.discard(descriptor)
                os.close(descriptor)
