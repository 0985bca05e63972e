"""Files that are complete or absent even after a power failure, and locks with a deadline."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from io import FileIO
from typing import TypeVar

from agentx_persistence.errors import BackendUnavailableError
from agentx_persistence.storage._forking import ForkAware, renew_after_fork

T = TypeVar("T")

FOLDER_MODE, FILE_MODE = 0o700, 0o600
_LONGEST_PAUSE = 0.0005
# An opener for `open`. It is C code, so that no interrupt can come between opening the descriptor
# and creating the file object that closes it.
open_private = partial(os.open, mode=FILE_MODE)

if sys.platform == "win32":
    import msvcrt

    def _try_lock(descriptor: int) -> None:
        # Far beyond the content, as Windows lets no other process read a locked byte.
        os.lseek(descriptor, 1 << 30, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

    def _unlock(descriptor: int) -> None:
        os.lseek(descriptor, 1 << 30, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _try_lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(descriptor: int) -> None:
        # Closing is not enough: a child process may have a copy of the descriptor.
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def sync(descriptor: int) -> None:
    """Make what was written durable."""
    # On macOS `os.fsync` leaves data in the drive's cache.
    if sys.platform == "darwin":
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fsync(descriptor)


def sync_folder(path: str) -> None:
    """Make the names in the folder durable. Syncing a file does not make its name durable."""
    if sys.platform == "win32":  # where folders cannot be synced
        return
    descriptors: list[int] = []
    try:
        # `map` and `extend` are C code: no interrupt comes between opening and storing.
        descriptors.extend(map(os.open, (path,), (os.O_RDONLY | os.O_DIRECTORY,)))
        sync(descriptors[0])
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def make_folder(path: str) -> None:
    """Create the folder and missing folders above it. Only their owner can use them."""
    try:
        os.mkdir(path, FOLDER_MODE)
    except FileExistsError:
        if not os.path.isdir(path):
            raise NotADirectoryError(errno.ENOTDIR, "is a file, not a folder", path) from None
        return
    except FileNotFoundError:
        above = os.path.dirname(path)
        if os.path.isdir(above):
            # For example in /proc, where repeating does not help.
            raise PermissionError(errno.EPERM, "no folder can be made there", path) from None
        make_folder(above)
        return make_folder(path)
    sync_folder(os.path.dirname(path))


def draft(path: str, chunks: Iterable[bytes]) -> str:
    """Write new content for a file to a draft beside it, durably; return the draft's path.

    The caller holds the lock of the file, so a draft found there is a killed process's and is
    overwritten.
    """
    drafted, folder = f"{path}.draft", os.path.dirname(path)
    try:
        if not os.path.isdir(folder):
            os.mkdir(folder, FOLDER_MODE)  # fails if the folder above is missing: so is the store
            sync_folder(os.path.dirname(folder))
        with open(drafted, "wb", buffering=0, opener=open_private) as file:
            for chunk in chunks:
                write_all(file.fileno(), chunk)
            sync(file.fileno())
    except BaseException:
        remove(drafted)
        raise
    return drafted


def write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)[os.write(descriptor, data) :]
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def read_at(file: FileIO, offset: int, size: int) -> bytes:
    """Return `size` bytes from this offset, or fewer at the end of the file."""
    file.seek(offset)
    data = file.read(size) or b""
    while len(data) < size and (more := file.read(size - len(data))):
        data += more
    return data


def remove(path: str) -> bool:
    """Remove the file; return whether it existed."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True


class Locks(ForkAware):
    """Locks on files. The operating system releases the locks of a process that dies.

    There is a fixed number of lock files, which are never removed; each serves many records. A lock
    file of each record would be removed with the record. Then one process could lock the removed
    file and another one a new file of the same name.
    """

    def __init__(self, folder: str, timeout: float) -> None:
        self._folder, self._timeout = folder, timeout
        self._held: set[FileIO] = set()
        renew_after_fork(self)

    def after_fork(self) -> None:
        for file in self._held:
            file.close()
        self._held.clear()

    def hold(self, name: str, work: Callable[[], T], *, wait: bool = True) -> T | None:
        """Hold the lock while `work` runs; return its result.

        :param wait: if False and the lock is taken, return ``None`` at once
        """
        path = f"{self._folder}/{name}"
        if not os.path.exists(path):
            open(path, "ab", opener=open_private).close()
        with open(path, "r+b", buffering=0) as file:
            try:
                self._held.add(file)
                if not self._acquire(file, path, wait):
                    return None
                try:
                    return work()
                finally:
                    _unlock(file.fileno())
            finally:
                self._held.discard(file)

    def _acquire(self, file: FileIO, path: str, wait: bool) -> bool:
        deadline, pause = 0.0, 0.00002
        while True:
            try:
                _try_lock(file.fileno())
                break
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                    raise
            if not wait:
                return False
            now = time.monotonic()
            deadline = deadline or now + self._timeout
            if now > deadline:
                holder = read_at(file, 0, 20).decode().strip() or "unknown"
                raise BackendUnavailableError(
                    "fs",
                    f"the lock {path} was not free within {self._timeout} s; it was last taken by "
                    f"the process {holder}, which may be suspended",
                )
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        file.seek(0)
        file.write(b"%-20d" % os.getpid())
        return True
