"""What is particular to the raw code of each SQL database."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Sequence
from typing import Any

from benchmarks.raw.sql import STATEMENTS, RawSql, latest

_RESERVE = """
WITH session AS (
  UPDATE raw_sessions SET count = count + %s, at = %s, latest = %s WHERE id = %s RETURNING id, count
)"""
_APPEND = """
INSERT INTO raw_messages
SELECT session.id, session.count - %s + new.number, new.id, new.body
FROM session, unnest(%s::text[], %s::text[]) WITH ORDINALITY AS new (id, body, number)
RETURNING position
"""
_APPEND_ONE = "INSERT INTO raw_messages SELECT id, count, %s, %s FROM session RETURNING position"
_NEWEST = """
SELECT session.count, message.id, message.body FROM raw_sessions AS session
JOIN raw_messages AS message ON message.session_id = session.id AND message.position = session.count
WHERE session.id = %s
"""
# Only if the newest message is still the one that was read.
_POP = """
WITH message AS (
  DELETE FROM raw_messages WHERE session_id = %s AND position = %s AND id = %s RETURNING session_id
)
UPDATE raw_sessions SET count = count - 1, at = %s, latest = %s FROM message
WHERE raw_sessions.id = message.session_id AND count = %s
"""


class RawSqlite(RawSql):
    ID = "TEXT"
    SQL = {name: s.replace("%s", "?").replace(" FOR UPDATE", "") for name, s in STATEMENTS.items()}  # noqa: RUF012

    def __init__(self, path: str, synchronous: str, *, make: bool = True) -> None:
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute("PRAGMA foreign_keys = ON")
        super().__init__(connection, make=make)
        connection.execute("SELECT count(*) FROM (SELECT 1 FROM raw_images LIMIT 1)")

    def _do(self, sql: str, *values: Any) -> Any:
        return self._connection.execute(sql, values)

    def _begin(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def close(self) -> None:
        self._connection.close()


class RawPostgresql(RawSql):
    """On a connection in autocommit: one statement is one round trip and one transaction."""

    ID = 'varchar(255) COLLATE "C"'

    def _do(self, sql: str, *values: Any) -> Any:
        return self._connection.execute(sql, values, prepare=True)

    def append(self, session_id: str, messages: Sequence[tuple[str, str]], at: int) -> int:
        sql, values = _APPEND_ONE, messages[0]
        if len(messages) > 1:
            sql, values = _APPEND, (len(messages), *map(list, zip(*messages, strict=True)))
        reserve = len(messages), at, latest(at), session_id
        rows = self._do(_RESERVE + sql, *reserve, *values).fetchall()
        if not rows:
            raise LookupError(session_id)
        return max(position for (position,) in rows)

    def pop(self, session_id: str, at: int) -> Any:
        popped = 0
        while not popped:
            count, id, body = self._do(_NEWEST, session_id).fetchone()
            message = json.loads(body)
            popped = self._do(_POP, session_id, count, id, at, latest(at), count).rowcount
        return message


def _translated(sql: str) -> str:
    """Return what MySQL, too, understands: it has neither RETURNING nor ON CONFLICT."""
    sql = re.sub(r"ON CONFLICT .* SET", "ON DUPLICATE KEY UPDATE", sql.partition(" RETURNING ")[0])
    return re.sub(r"excluded\.(\w+)", r"VALUES(\1)", sql)


class RawMysql(RawSql):
    ID = "varchar(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
    TEXT = "longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
    SQL = {  # noqa: RUF012
        **{name: _translated(statement) for name, statement in STATEMENTS.items()},
        "tail": "SELECT position, body FROM raw_messages WHERE session_id = %s AND position > %s",
        "reserve": "UPDATE raw_sessions SET at = %s, latest = %s,"
        " count = LAST_INSERT_ID(count + %s) WHERE id = %s",
    }

    def _do(self, sql: str, *values: Any) -> Any:
        cursor = self._connection.cursor()
        cursor.execute(sql, values or None)
        return cursor

    def _alone(self, statement: str, *values: Any) -> Any:
        self._connection.autocommit(True)  # a round trip only where the mode changes
        return self._run(statement, *values)

    def _begin(self) -> None:
        self._connection.autocommit(False)

    def _commit(self) -> None:
        self._connection.commit()

    def _reserve(self, session_id: str, number: int, at: int) -> int | None:
        cursor = self._run("reserve", at, latest(at), number, session_id)
        return int(cursor.lastrowid) if cursor.rowcount else None

    def _cut(self, session_id: str, kept: int) -> Any:
        rows = self._run("tail", session_id, kept).fetchall()
        self._run("cut", session_id, kept)
        return rows
