from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import pymysql

from benchmarks.raw.store import RawStore

_ID = "varchar(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
_SCHEMA = (
    f"""
CREATE TABLE raw_sessions (
  id {_ID} PRIMARY KEY, image_id {_ID}, count integer NOT NULL DEFAULT 0, at bigint, body longtext,
  INDEX (image_id)
)""",
    f"""
CREATE TABLE raw_messages (
  session_id {_ID} NOT NULL, position integer NOT NULL, id {_ID} NOT NULL, body longtext NOT NULL,
  PRIMARY KEY (session_id, position), UNIQUE (session_id, id),
  FOREIGN KEY (session_id) REFERENCES raw_sessions (id) ON DELETE CASCADE
)""",
    f"""
CREATE TABLE raw_images (
  id {_ID} PRIMARY KEY, container_id {_ID}, name_digest char(32) CHARACTER SET ascii,
  name longtext, at bigint, newest bigint, body longtext,
  INDEX (newest, id), INDEX (container_id, newest, id), INDEX (name_digest, newest, id),
  INDEX (container_id, name_digest, newest, id)
)""",
)
_SAVE = """
INSERT INTO raw_images VALUES (%s, %s, %s, %s, %s, %s, %s) ON DUPLICATE KEY UPDATE
  container_id = VALUES(container_id), name_digest = VALUES(name_digest), name = VALUES(name),
  at = VALUES(at), newest = VALUES(newest), body = VALUES(body)
"""
_CHUNK = 500


class RawMysql(RawStore):
    """Names are found by a digest: 500 characters beside an id are more than an index takes."""

    def __init__(self, connection: pymysql.Connection[Any]) -> None:
        """:param connection: is not closed"""
        self._connection = connection
        for statement in _SCHEMA:
            self._execute(statement)

    def _execute(self, sql: str, *values: Any, autocommit: bool = True) -> Any:
        self._connection.autocommit(autocommit)  # a round trip only where the mode changes
        cursor = self._connection.cursor()
        cursor.execute(sql, values or None)
        return cursor

    def save_session(self, session_id: str, image_id: str, text: str) -> None:
        sql = "INSERT INTO raw_sessions (id, image_id, body) VALUES (%s, %s, %s)"
        self._execute(sql, session_id, image_id, text)

    def append(self, session_id: str, messages: Sequence[tuple[str, str]], at: int) -> int:
        cursor = self._execute(
            "UPDATE raw_sessions SET count = LAST_INSERT_ID(count + %s), at = %s WHERE id = %s",
            len(messages),
            at,
            session_id,
            autocommit=False,
        )
        if not cursor.rowcount:
            self._connection.rollback()
            raise LookupError(session_id)
        last = int(cursor.lastrowid)
        first = last - len(messages) + 1
        insert = "INSERT INTO raw_messages VALUES (%s, %s, %s, %s)"
        if len(messages) == 1:
            cursor.execute(insert, (session_id, first, *messages[0]))
        else:
            cursor.executemany(
                insert,
                [(session_id, first + n, id, body) for n, (id, body) in enumerate(messages)],
            )
        self._connection.commit()
        return last

    def load(self, session_id: str, last: int | None = None) -> list[Any]:
        sql = "SELECT body FROM raw_messages WHERE session_id = %s ORDER BY position"
        if last is None:
            rows = self._execute(sql, session_id).fetchall()
        else:
            rows = self._execute(f"{sql} DESC LIMIT %s", session_id, last).fetchall()[::-1]
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
        self._execute(_SAVE, id, container_id, _digest(name), name, at, -at, text)

    def save_images(self, rows: Sequence[tuple[str, str, str, int, str]]) -> None:
        self._connection.autocommit(False)
        insert = "INSERT INTO raw_images VALUES (%s, %s, %s, %s, %s, %s, %s)"
        values = [(id, box, _digest(name), name, at, -at, text) for id, box, name, at, text in rows]
        self._connection.cursor().executemany(insert, values)
        self._connection.commit()

    def get_image(self, id: str) -> Any:
        cursor = self._execute("SELECT body FROM raw_images WHERE id = %s", id)
        return json.loads(cursor.fetchone()[0])

    def page(self, container_id: str, size: int) -> list[Any]:
        sql = "SELECT body FROM raw_images WHERE container_id = %s ORDER BY newest, id LIMIT %s"
        rows = self._execute(sql, container_id, size + 1).fetchall()
        return [json.loads(body) for (body,) in rows[:size]]

    def update_metadata(self, image_id: str, key: str, value: Any) -> None:
        sql = "SELECT body FROM raw_images WHERE id = %s FOR UPDATE"
        cursor = self._execute(sql, image_id, autocommit=False)
        image = json.loads(cursor.fetchone()[0])
        image.setdefault("metadata", {})[key] = value
        sql = "UPDATE raw_images SET body = %s WHERE id = %s"
        cursor.execute(sql, (json.dumps(image), image_id))
        self._connection.commit()

    def delete_image(self, image_id: str) -> None:
        sql = "DELETE FROM raw_sessions WHERE image_id = %s"
        cursor = self._execute(sql, image_id, autocommit=False)
        cursor.execute("DELETE FROM raw_images WHERE id = %s", (image_id,))
        self._connection.commit()

    def close(self) -> None:
        """The connection is the caller's."""


def _digest(name: str) -> str:
    # MySQL has no md5() any more.
    return hashlib.blake2b(name.encode(), digest_size=16).hexdigest()
