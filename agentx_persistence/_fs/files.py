"""Files that are there in whole or not at all, also after a power failure."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable

from pydantic_core import to_json

FOLDER_MODE, FILE_MODE = 0o700, 0o600


def file_name(*parts: str | None) -> str:
    """Return a file name for these texts that no other texts have: 40 hexadecimal digits.

    An encoded id would be longer than the 255 bytes that most file systems allow, and two that
    differ only in case would be one file on some. What is in the file says whose it is.
    """
    return hashlib.sha256(to_json(parts)).hexdigest()[:40]


def read(path: str) -> bytes | None:
    """Return what is in the file, or ``None`` if there is none."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.readall()
    except FileNotFoundError:
        return None


def write(path: str, data: bytes) -> None:
    """Replace the file in one step. The caller holds the lock of the file."""
    prepare(path, [data])
    publish(path)


def prepare(path: str, chunks: Iterable[bytes]) -> None:
    """Write what the file is to become beside it.

    The name is the same each time: the lock of the file keeps others away, and what a killed
    process left behind is overwritten by the next one.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(prepared(path), flags, FILE_MODE)
    except FileNotFoundError:
        make_folder(os.path.dirname(path))
        descriptor = os.open(prepared(path), flags, FILE_MODE)
    try:
        with open(descriptor, "wb", buffering=0) as file:
            for chunk in chunks:
                write_all(file.fileno(), chunk)
            os.fsync(file.fileno())
    except BaseException:
        os.unlink(prepared(path))
        raise


def prepared(path: str) -> str:
    return f"{path}.new"


def publish(path: str) -> None:
    """Make what was prepared the file."""
    os.replace(prepared(path), path)
    sync_folder(os.path.dirname(path))


def write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def remove(path: str) -> bool:
    """Remove the file; tell whether there was one."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True


def make_folder(path: str) -> None:
    """Make the folder, private to the user, inside one that exists."""
    try:
        os.mkdir(path, FOLDER_MODE)
    except FileExistsError:
        return
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
