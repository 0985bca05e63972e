"""Building the index from the files of the store."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterable

from agentx_persistence._fs.files import FILE_MODE, remove, sync_folder
from agentx_persistence._fs.records import Row
from agentx_persistence._fs.schema import VERSION, insertion, statements
from agentx_persistence.storage import Kind

Scan = Callable[[], Iterable[tuple[Kind, Row, bool]]]

_LOGGER = logging.getLogger("agentx_persistence")


def witness_of(path: str) -> str:
    """Return the path of the empty file that is made together with the index at this path."""
    return f"{os.path.dirname(path)}/index.stamp"


def stamp(path: str) -> str:
    """Identify the files that the index at this path is made for.

    In a copy of the folder they have other inodes; after a restore they have another ctime.
    """
    witness = os.stat(witness_of(path))
    return f"{VERSION} {os.stat(path).st_ino} {witness.st_ino} {witness.st_ctime_ns}"


def rebuild(path: str, scan: Scan) -> None:
    known = os.path.exists(path)
    draft, begun, number = f"{path}.draft", time.monotonic(), 0
    for old in (draft, f"{draft}-journal", *(path + end for end in ("", "-wal", "-shm"))):
        remove(old)
    for new in (draft, witness_of(path)):
        os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE))
    connection = sqlite3.connect(draft, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        connection.execute("BEGIN")
        for statement in statements():
            connection.execute(statement)
        for kind, row, sure in scan():
            connection.execute(insertion(kind), (*row, sure))
            number += 1
        connection.execute("INSERT INTO meta VALUES (?)", (stamp(draft),))
        connection.execute("COMMIT")
    finally:
        connection.close()  # which empties and removes the write-ahead log
    os.replace(draft, path)
    sync_folder(os.path.dirname(path))
    if known or number:
        _LOGGER.warning(
            "%s was missing, damaged or made for another copy of these files: it was rebuilt "
            "from %d records in %.1f s",
            *(path, number, time.monotonic() - begun),
        )
