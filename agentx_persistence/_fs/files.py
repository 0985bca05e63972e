"""Files that are there in whole or not at all, also after a power failure."""

from __future__ import annotations

import errno
import hashlib
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from pydantic_core import to_json

FOLDER_MODE, FILE_MODE = 0o700, 0o600


@lru_cache(maxsize=4096)
def file_name(*parts: str | None) -> str:
    """Return a file name for these texts that no other texts have: 40 hexadecimal digits.

    An encoded id would be longer than the 255 bytes that most file systems allow, and two that
    differ only in case would be one file on some. What is in the file says whose it is.
    """
    return hashlib.sha256(to_json(parts)).hexdigest()[:40]


@dataclass(frozen=True, slots=True)
class File:
    """Where a file is, and where it is drafted before it is published in one step.

    Who writes it holds its lock, so that a draft needs no name that is new each time: one that a
    killed process has left behind is overwritten, or removed when the store is opened.
    """

    path: str
    draft: str

    def write(self, data: bytes) -> None:
        """Replace the file."""
        self.prepare([data])
        self.publish()

    def prepare(self, chunks: Iterable[bytes]) -> None:
        """Write the draft."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0)
        descriptor = os.open(self.draft, flags, FILE_MODE)
        try:
            for chunk in chunks:
                write_all(descriptor, chunk)
            os.fsync(descriptor)
        except BaseException:
            os.unlink(self.draft)
            raise
        finally:
            os.close(descriptor)

    def publish(self) -> None:
        """Make the draft the file."""
        folder = os.path.dirname(self.path)
        try:
            os.replace(self.draft, self.path)
        except FileNotFoundError:
            make_folder(folder)
            os.replace(self.draft, self.path)
        sync_folder(folder)

    def remove(self) -> bool:
        """Remove the file and its draft; tell whether there was a file."""
        remove(self.draft)
        return remove(self.path)


def read(path: str) -> bytes | None:
    """Return what is in the file, or ``None`` if there is none."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.readall()
    except FileNotFoundError:
        return None


def remove(path: str) -> bool:
    """Remove the file; tell whether there was one."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True


def write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)[os.write(descriptor, data) :]
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def make_folder(path: str) -> None:
    """Make the folder, private to the user, inside one that exists."""
    try:
        os.mkdir(path, FOLDER_MODE)
    except FileExistsError:
        if os.path.isdir(path):
            return
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path) from None
    sync_folder(os.path.dirname(path))


def sync_folder(path: str) -> None:
    """Make the names in the folder durable, which writing the files themselves does not."""
    if sys.platform == "win32":  # has no such call; a folder cannot even be opened
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
