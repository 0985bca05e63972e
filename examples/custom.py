"""A backend over `sqlite3`: right with threads, processes, forks and crashes; short, not fast."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from threading import RLock

from agentx_persistence import PersistenceDriver, errors
from agentx_persistence.storage import TransactionalStorage

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
    def __init__(self, path):
        self.path, self.connection = path, None
        self.transact(lambda: self.connection.execute(TABLE))

    def transact(self, work):
        with LOCK:
            if self.connection:  # a signal handler runs inside another call of this thread
                raise errors.BackendError("custom", "another call of this thread is under way")
            try:
                connection = sqlite3.connect(self.path, timeout=60)
                with closing(connection) as self.connection, connection:
                    connection.execute("BEGIN IMMEDIATE")
                    return work()
            except sqlite3.OperationalError as error:  # such as a lock that another process holds
                raise errors.BackendUnavailableError("custom", f"{self.path}: {error}") from error
            except sqlite3.Error as error:
                raise errors.BackendError("custom", f"{self.path}: {error}") from error
            finally:
                self.connection = None

    def load(self, key):
        row = self.connection.execute("SELECT text FROM map WHERE key = ?", (key,)).fetchone()
        return row and row[0]

    def store(self, key, text):
        self.connection.execute("REPLACE INTO map VALUES (?, ?)", (key, text))

    def erase(self, key):
        self.connection.execute("DELETE FROM map WHERE key = ?", (key,))

    def scan(self, start, stop, limit, reverse):
        order, limit = " DESC" if reverse else "", -1 if limit is None else limit
        return self.connection.execute(f"{SCAN}{order} LIMIT {limit}", (start, stop))


class CustomDriver(PersistenceDriver):
    def __init__(self, path):
        self.path = path

    def create_storage(self):
        return CustomStorage(self.path)
