"""A backend over `sqlite3`: right with threads, processes, forks and crashes; short, not fast."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, contextmanager
from threading import RLock

from agentx_persistence import PersistenceDriver, errors
from agentx_persistence.documents import Document, DocumentStorage, TransactionalStore

DOCUMENTS = """CREATE TABLE IF NOT EXISTS documents (kind, key, text, created_at, updated_at,
    PRIMARY KEY (kind, key))"""
ENTRIES = """CREATE TABLE IF NOT EXISTS entries (kind, key, field, value, age,
    PRIMARY KEY (kind, key, field), UNIQUE (kind, field, value, age, key),
    FOREIGN KEY (kind, key) REFERENCES documents ON DELETE CASCADE)"""
FIND = """SELECT key, text, created_at, updated_at FROM entries JOIN documents USING (kind, key)
    WHERE kind = ? AND field = ? AND value = ? AND (age, key) > (?, ?) ORDER BY age, key LIMIT ?"""
EVERY = ("", "")  # the index that every document is in
LOCK = RLock()  # A fork waits for the threads inside SQLite: it would copy the locks they hold.
os.register_at_fork(before=LOCK.acquire, after_in_parent=LOCK.release, after_in_child=LOCK.release)


class CustomStore(TransactionalStore):
    def __init__(self, path):
        self.path, self.connection = path, None
        self.run(DOCUMENTS)
        self.run(ENTRIES)

    @contextmanager
    def transaction(self):
        if self.closed:
            raise errors.PersistenceClosedError
        with LOCK:
            if self.connection:  # this thread is in a transaction already
                yield
                return
            try:
                with closing(sqlite3.connect(self.path, 60)) as self.connection, self.connection:
                    self.run("PRAGMA foreign_keys = ON")
                    self.run("BEGIN IMMEDIATE")
                    yield
            except sqlite3.Error as error:
                raise errors.BackendError("custom", f"{self.path}: {error}") from error
            finally:
                self.connection = None

    def run(self, statement, *values):
        with self.transaction():
            return self.connection.execute(statement, values).fetchall()

    def put(self, kind, document, indexes):
        with self.transaction():
            self.run("REPLACE INTO documents VALUES (?, ?, ?, ?, ?)", kind, *document)
            for index in (EVERY, *indexes.items()):
                entry = (kind, document.key, *index, -document.created_at)
                self.run("INSERT INTO entries VALUES (?, ?, ?, ?, ?)", *entry)

    def replace(self, kind, document):
        change = "UPDATE documents SET text = ?, updated_at = ? WHERE kind = ? AND key = ?"
        self.run(change, document.text, document.updated_at, kind, document.key)

    def get(self, kind, key):
        rows = self.run("SELECT * FROM documents WHERE kind = ? AND key = ?", kind, key)
        return Document(*rows[0][1:]) if rows else None

    def find(self, kind, index, after, limit):
        behind = (-after[0], after[1]) if after else (-(2**53), "")
        limit = -1 if limit is None else limit
        return [Document(*row) for row in self.run(FIND, kind, *(index or EVERY), *behind, limit)]

    def remove(self, kind, key):
        gone = "DELETE FROM documents WHERE kind = ? AND key = ? RETURNING 1"
        return self.run(gone, kind, key) != []


class CustomDriver(PersistenceDriver):
    def __init__(self, path):
        self.path = path

    def create_storage(self):
        return DocumentStorage(CustomStore(self.path))
