"""A backend over `sqlite3`: right with threads, processes, forks and crashes; short, not fast."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing
from threading import RLock
from typing import TypeVar

from agentx_persistence import PersistenceDriver, errors
from agentx_persistence.storage.transactional import TransactionalStorage

T = TypeVar("T")

# SQLite compares texts byte by byte, which is the order of their code points.
TABLE = "CREATE TABLE IF NOT EXISTS map (key TEXT PRIMARY KEY, text TEXT) WITHOUT ROWID"
SCAN = "SELECT key, text FROM map WHERE key >= ? AND key < ? ORDER BY key"

# A fork copies the locks that other threads hold inside SQLite, so it waits for these threads.
LOCK = RLock()
if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(
        before=LOCK.acquire, after_in_parent=LOCK.release, after_in_child=LOCK.release
    )


class CustomStorage(TransactionalStorage):
    connection: sqlite3.Connection | None = None
    scans: ExitStack

    def __init__(self, path: str) -> None:
        self.path = path
        self.transact(lambda: self.run(TABLE))

    def transact(self, work: Callable[[], T]) -> T:
        try:  # not `with LOCK`: on Python 3.14, Ctrl-C can come after it is taken, before the block
            LOCK.acquire()
            if self.connection:  # a signal handler runs inside another call of this thread
                raise errors.BackendError("custom", "another call of this thread is under way")
            try:
                connection = sqlite3.connect(self.path, timeout=60)
                with closing(connection) as self.connection, connection, ExitStack() as self.scans:
                    connection.execute("BEGIN IMMEDIATE")
                    return work()
            except sqlite3.OperationalError as error:  # such as a lock that another process holds
                raise errors.BackendUnavailableError("custom", f"{self.path}: {error}") from error
            except sqlite3.Error as error:
                raise errors.BackendError("custom", f"{self.path}: {error}") from error
            finally:
                self.connection = None
        finally:
            try:
                LOCK.release()
            except RuntimeError as error:  # Ctrl-C came before this thread had it
                if getattr(error.__traceback__, "tb_next", None):
                    raise  # in the frame of a signal handler, after the release

    def run(self, statement: str, *values: str) -> sqlite3.Cursor:
        assert self.connection  # inside of `transact`
        return self.connection.execute(statement, values)

    def load(self, key: str) -> str | None:
        rows = self.run("SELECT text FROM map WHERE key = ?", key).fetchall()
        return rows[0][0] if rows else None

    def store(self, key: str, text: str) -> None:
        self.run("REPLACE INTO map VALUES (?, ?)", key, text)

    def erase(self, key: str) -> None:
        self.run("DELETE FROM map WHERE key = ?", key)

    def scan(
        self, start: str, stop: str, limit: int | None, reverse: bool
    ) -> Iterable[tuple[str, str]]:
        order, most = " DESC" if reverse else "", -1 if limit is None else limit
        # An interrupted loop over a cursor that stays open would keep the database locked.
        return self.scans.enter_context(
            closing(self.run(f"{SCAN}{order} LIMIT {most}", start, stop))
        )


class CustomDriver(PersistenceDriver):
    def __init__(self, path: str) -> None:
        self.path = path

    def create_storage(self) -> CustomStorage:
        return CustomStorage(self.path)
