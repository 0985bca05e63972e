from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from benchmarks.raw.store import RawStore

_SCHEMA = """
CREATE TABLE sessions (
  id TEXT PRIMARY KEY, image_id TEXT, count INTEGER NOT NULL DEFAULT 0, at INTEGER, body TEXT
);
CREATE INDEX sessions_image ON sessions (image_id);
CREATE TABLE messages (
  session_id TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE,
  position INTEGER NOT NULL, id TEXT NOT NULL, body TEXT NOT NULL,
  PRIMARY KEY (session_id, position), UNIQUE (session_id, id)
);
CREATE TABLE images (id TEXT PRIMARY KEY, container_id TEXT, name TEXT, at INTEGER, body TEXT);
CREATE INDEX images_newest ON images (at DESC, id);
CREATE INDEX images_container ON images (container_id, at DESC, id);
CREATE INDEX images_name ON images (name, at DESC, id);
CREATE INDEX images_both ON images (container_id, name, at DESC, id);
"""
_CHUNK = 500


class RawSqlite(RawStore):
    def __init__(self, path: str, synchronous: str, *, make: bool = True) -> None:
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute("PRAGMA foreign_keys = ON")
        if make:
            connection.executescript(_SCHEMA)
        connection.execute("SELECT count(*) FROM (SELECT 1 FROM images LIMIT 1)")
        self._connection = connection

    def save_session(self, session_id: str, image_id: str, text: str) -> None:
        sql = "INSERT INTO sessions (id, image_id, body) VALUES (?, ?, ?)"
        self._connection.execute(sql, (session_id, image_id, text))

    def append(self, session_id: str, messages: Sequence[tuple[str, str]], at: int) -> int:
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        row = execute(
            "UPDATE sessions SET count = count + ?, at = ? WHERE id = ? RETURNING count",
            (len(messages), at, session_id),
        ).fetchone()
        if row is None:
            execute("ROLLBACK")
            raise LookupError(session_id)
        first = row[0] - len(messages) + 1
        insert = "INSERT INTO messages VALUES (?, ?, ?, ?)"
        if len(messages) == 1:
            execute(insert, (session_id, first, *messages[0]))
        else:
            self._connection.executemany(
                insert,
                [(session_id, first + n, id, body) for n, (id, body) in enumerate(messages)],
            )
        execute("COMMIT")
        return int(row[0])

    def load(self, session_id: str, last: int | None = None) -> list[Any]:
        if last is None:
            sql = "SELECT body FROM messages WHERE session_id = ? ORDER BY position"
            rows = self._connection.execute(sql, (session_id,)).fetchall()
        else:
            sql = "SELECT body FROM messages WHERE session_id = ? ORDER BY position DESC LIMIT ?"
            rows = self._connection.execute(sql, (session_id, last)).fetchall()
            rows.reverse()
        return [json.loads(body) for (body,) in rows]

    def stream(self, session_id: str) -> int:
        count = 0
        sql = "SELECT body FROM messages WHERE session_id = ? ORDER BY position"
        cursor = self._connection.execute(sql, (session_id,))
        while rows := cursor.fetchmany(_CHUNK):
            for (body,) in rows:
                json.loads(body)
            count += len(rows)
        return count

    def save_image(self, id: str, container_id: str, name: str, at: int, text: str) -> None:
        self._connection.execute(
            "INSERT INTO images VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " container_id = excluded.container_id, name = excluded.name, at = excluded.at,"
            " body = excluded.body",
            (id, container_id, name, at, text),
        )

    def save_images(self, rows: Sequence[tuple[str, str, str, int, str]]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany("INSERT INTO images VALUES (?, ?, ?, ?, ?)", rows)
        self._connection.execute("COMMIT")

    def get_image(self, id: str) -> Any:
        sql = "SELECT body FROM images WHERE id = ?"
        return json.loads(self._connection.execute(sql, (id,)).fetchone()[0])

    def page(self, container_id: str, size: int) -> list[Any]:
        sql = "SELECT body FROM images WHERE container_id = ? ORDER BY at DESC, id LIMIT ?"
        rows = self._connection.execute(sql, (container_id, size + 1)).fetchall()
        return [json.loads(body) for (body,) in rows[:size]]

    def update_metadata(self, image_id: str, key: str, value: Any) -> None:
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        (body,) = execute("SELECT body FROM images WHERE id = ?", (image_id,)).fetchone()
        image = json.loads(body)
        image.setdefault("metadata", {})[key] = value
        execute("UPDATE images SET body = ? WHERE id = ?", (json.dumps(image), image_id))
        execute("COMMIT")

    def delete_image(self, image_id: str) -> None:
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        execute("DELETE FROM sessions WHERE image_id = ?", (image_id,))
        execute("DELETE FROM images WHERE id = ?", (image_id,))
        execute("COMMIT")

    def close(self) -> None:
        self._connection.close()
