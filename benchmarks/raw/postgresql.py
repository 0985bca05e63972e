from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import psycopg

from benchmarks.raw.store import RawStore

_SCHEMA = """
CREATE TABLE raw_sessions (
  id varchar(255) COLLATE "C" PRIMARY KEY, image_id varchar(255) COLLATE "C",
  count integer NOT NULL DEFAULT 0, at bigint, body text
);
CREATE INDEX ON raw_sessions (image_id);
CREATE TABLE raw_messages (
  session_id varchar(255) COLLATE "C" NOT NULL REFERENCES raw_sessions ON DELETE CASCADE,
  position integer NOT NULL, id varchar(255) COLLATE "C" NOT NULL, body text NOT NULL,
  PRIMARY KEY (session_id, position), UNIQUE (session_id, id)
);
CREATE TABLE raw_images (
  id varchar(255) COLLATE "C" PRIMARY KEY, container_id varchar(255) COLLATE "C",
  name varchar(500) COLLATE "C", at bigint, body text
);
CREATE INDEX ON raw_images (at DESC, id);
CREATE INDEX ON raw_images (container_id, at DESC, id);
CREATE INDEX ON raw_images (name, at DESC, id);
CREATE INDEX ON raw_images (container_id, name, at DESC, id);
"""
_APPEND = """
WITH session AS (
  UPDATE raw_sessions SET count = count + 1, at = %s WHERE id = %s RETURNING id, count
)
INSERT INTO raw_messages SELECT id, count, %s, %s FROM session RETURNING position
"""
_APPEND_MANY = """
WITH session AS (
  UPDATE raw_sessions SET count = count + %s, at = %s WHERE id = %s RETURNING id, count
)
INSERT INTO raw_messages
SELECT session.id, session.count - %s + new.number, new.id, new.body
FROM session, unnest(%s::text[], %s::text[]) WITH ORDINALITY AS new (id, body, number)
RETURNING position
"""
_SAVE = """
INSERT INTO raw_images VALUES (%s, %s, %s, %s, %s) ON CONFLICT (id) DO UPDATE SET
  container_id = excluded.container_id, name = excluded.name, at = excluded.at, body = excluded.body
"""
_CHUNK = 500


class RawPostgresql(RawStore):
    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        """:param connection: in autocommit; it is not closed"""
        self._connection = connection
        connection.execute(_SCHEMA)

    def _execute(self, sql: str, *values: Any) -> psycopg.Cursor[Any]:
        return self._connection.execute(sql, values, prepare=True)

    def save_session(self, session_id: str, image_id: str, text: str) -> None:
        sql = "INSERT INTO raw_sessions (id, image_id, body) VALUES (%s, %s, %s)"
        self._execute(sql, session_id, image_id, text)

    def append(self, session_id: str, messages: Sequence[tuple[str, str]], at: int) -> int:
        if len(messages) == 1:
            row = self._execute(_APPEND, at, session_id, *messages[0]).fetchone()
            if row is None:
                raise LookupError(session_id)
            return int(row[0])
        added = len(messages)
        ids, bodies = [id for id, _ in messages], [body for _, body in messages]
        rows = self._execute(_APPEND_MANY, added, at, session_id, added, ids, bodies).fetchall()
        if not rows:
            raise LookupError(session_id)
        return max(position for (position,) in rows)

    def load(self, session_id: str, last: int | None = None) -> list[Any]:
        if last is None:
            sql = "SELECT body FROM raw_messages WHERE session_id = %s ORDER BY position"
            rows = self._execute(sql, session_id).fetchall()
        else:
            sql = (
                "SELECT body FROM raw_messages WHERE session_id = %s"
                " ORDER BY position DESC LIMIT %s"
            )
            rows = self._execute(sql, session_id, last).fetchall()
            rows.reverse()
        return [json.loads(body) for (body,) in rows]

    def stream(self, session_id: str) -> int:
        sql = (
            "SELECT body FROM raw_messages WHERE session_id = %s AND position > %s"
            " ORDER BY position LIMIT %s"
        )
        count = 0
        while rows := self._execute(sql, session_id, count, _CHUNK).fetchall():
            for (body,) in rows:
                json.loads(body)
            count += len(rows)
        return count

    def save_image(self, id: str, container_id: str, name: str, at: int, text: str) -> None:
        self._execute(_SAVE, id, container_id, name, at, text)

    def save_images(self, rows: Sequence[tuple[str, str, str, int, str]]) -> None:
        with self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.executemany(_SAVE, rows)

    def get_image(self, id: str) -> Any:
        row = self._execute("SELECT body FROM raw_images WHERE id = %s", id).fetchone()
        assert row is not None
        return json.loads(row[0])

    def page(self, container_id: str, size: int) -> list[Any]:
        sql = "SELECT body FROM raw_images WHERE container_id = %s ORDER BY at DESC, id LIMIT %s"
        rows = self._execute(sql, container_id, size + 1).fetchall()
        return [json.loads(body) for (body,) in rows[:size]]

    def update_metadata(self, image_id: str, key: str, value: Any) -> None:
        with self._connection.transaction():
            sql = "SELECT body FROM raw_images WHERE id = %s FOR UPDATE"
            row = self._execute(sql, image_id).fetchone()
            assert row is not None
            image = json.loads(row[0])
            image.setdefault("metadata", {})[key] = value
            sql = "UPDATE raw_images SET body = %s WHERE id = %s"
            self._execute(sql, json.dumps(image), image_id)

    def delete_image(self, image_id: str) -> None:
        with self._connection.transaction():
            self._execute("DELETE FROM raw_sessions WHERE image_id = %s", image_id)
            self._execute("DELETE FROM raw_images WHERE id = %s", image_id)

    def close(self) -> None:
        """The connection is the caller's."""
