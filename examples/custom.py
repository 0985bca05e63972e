"""A backend of your own, over the `sqlite3` module of the standard library.

Each call is one transaction on a connection of its own: right with threads, processes and forks,
and after a crash. It is short, not fast: `agentx_persistence.sqlite` keeps its connections.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, contextmanager
from threading import Lock

from agentx_persistence import PersistenceDriver, errors
from agentx_persistence.documents import Document, DocumentStorage, DocumentStore, Slice

SCHEMA = """
CREATE TABLE IF NOT EXISTS documents (kind, field, value, key, text, created_at, updated_at,
    age AS (-created_at), UNIQUE (kind, key, field), UNIQUE (kind, field, value, age, key));
CREATE TABLE IF NOT EXISTS entries (log, id, text, place, UNIQUE (log, id), UNIQUE (log, place))"""
FIND = """SELECT key, text, created_at, updated_at FROM documents WHERE kind = ? AND field = ?
    AND value = ? AND (age, key) > (?, ?) ORDER BY age, key LIMIT ?"""
UPDATE = "UPDATE documents SET text = ifnull(?, text), updated_at = ? WHERE kind = ? AND key = ?"
APPEND = """INSERT INTO entries SELECT ?1, ?2, ?3, (SELECT ifnull(max(place), 0) + 1 FROM entries
    WHERE log = ?1) WHERE NOT EXISTS (SELECT 1 FROM entries WHERE log = ?1 AND id = ?2)"""
ENTRY = "SELECT place, text FROM entries WHERE log = ? AND id = ?"
READ = "SELECT text FROM entries WHERE log = ? AND place > ? AND place <= ? ORDER BY place"
CUT = "DELETE FROM entries WHERE log = ? AND place > ? RETURNING 1"
LOCK = Lock()  # A fork waits for the threads inside SQLite: it would copy the locks they hold.
os.register_at_fork(before=LOCK.acquire, after_in_parent=LOCK.release, after_in_child=LOCK.release)
EVERY, NEWEST = ("", ""), (-(2**53), "")


class CustomStore(DocumentStore):
    def __init__(self, path):
        self.path, self.closed = path, False
        with self.transaction() as run:
            for statement in SCHEMA.split(";"):
                run(statement)

    @contextmanager
    def transaction(self):
        if self.closed:
            raise errors.PersistenceClosedError
        try:
            with LOCK, closing(sqlite3.connect(self.path, 60, isolation_level=None)) as db:
                db.execute("BEGIN IMMEDIATE")
                yield lambda statement, *values: db.execute(statement, values).fetchall()
                db.execute("COMMIT")  # an error leaves it out, and so changes nothing
        except sqlite3.Error as error:
            raise errors.BackendError("custom", f"{self.path}: {error}") from error

    def put(self, kind, document, indexes):
        key, *rest = document.key, document.text, document.created_at, document.updated_at
        with self.transaction() as run:
            run("DELETE FROM documents WHERE kind = ? AND key = ?", kind, key)
            for index in (EVERY, ("key", key), *indexes.items()):
                run("INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, ?)", kind, *index, key, *rest)

    def get(self, kind, key):
        return next(iter(self.find(kind, ("key", key), None, 1)), None)

    def find(self, kind, index, after, limit):
        behind = (-after[0], after[1]) if after else NEWEST
        with self.transaction() as run:
            rows = run(FIND, kind, *(index or EVERY), *behind, -1 if limit is None else limit)
        return [Document(*row) for row in rows]

    def update(self, kind, key, change):
        with self.transaction() as run:
            for row in run(FIND, kind, "key", key, *NEWEST, 1):
                new = change(Document(*row))
                run(UPDATE, new.text, new.updated_at, kind, key)
                return new

    def delete(self, kind, key):
        with self.transaction() as run:
            run("DELETE FROM entries WHERE log = ? AND ? = 'sessions'", key, kind)
            gone = run("DELETE FROM documents WHERE kind = ? AND key = ? RETURNING 1", kind, key)
        return gone != []

    def append(self, session_id, entries, at):
        with self.transaction() as run:
            length, places = self.place(run, session_id), []
            for entry in entries:
                run(APPEND, session_id, entry.id, entry.text)
                places.append(self.place(run, session_id, entry.id, entry.text))
            if max(places, default=0) > length:
                run(UPDATE, None, at, "sessions", session_id)
        return places

    def place(self, run, session_id, entry_id=None, text=None):
        """Return the place of the entry, or of the last one."""
        if not run(FIND, "sessions", "key", session_id, *NEWEST, 1):
            raise errors.RecordNotFoundError("session", session_id)
        if entry_id is None:
            return run("SELECT max(place) FROM entries WHERE log = ?", session_id)[0][0] or 0
        for place, there in run(ENTRY, session_id, entry_id):
            if text not in (None, there):
                raise errors.RecordConflictError("message", entry_id)
            return place
        raise errors.RecordNotFoundError("message", entry_id)

    def position(self, session_id, entry_id):
        with self.transaction() as run:
            return self.place(run, session_id, entry_id)

    def read(self, session_id, after, before, first, last):
        with self.transaction() as run:
            stop = min(self.place(run, session_id), before - 1 if before else 2**53)
            start = after if last is None else max(after, stop - last)
            stop = stop if first is None else min(stop, start + first)
            return Slice(start + 1, [text for (text,) in run(READ, session_id, start, stop)])

    def truncate(self, session_id, entry_id):
        with self.transaction() as run:
            keep = self.place(run, session_id, entry_id)
            return len(run(CUT, session_id, 0 if entry_id is None else keep))

    def close(self):
        self.closed = True


class CustomDriver(PersistenceDriver):
    def __init__(self, path):
        self.path = path

    def create_storage(self):
        return DocumentStorage(CustomStore(self.path))
