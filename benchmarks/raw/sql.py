"""The raw code of the SQL databases, of which the most is the same."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from benchmarks.raw import Raw, decoded, parts

_SQL = parts("statements.sql")


class RawSql(Raw):
    """Names are found by a digest: 500 characters beside an id are more than an index takes."""

    ID: ClassVar[str]
    TEXT: ClassVar[str] = "text"
    BEGIN: ClassVar[str] = "BEGIN"
    SQL: ClassVar = _SQL

    def __init__(self, connection: Any, *, make: bool = True) -> None:
        self._connection = connection
        if make:
            for statement in _SQL["tables"].format(id=self.ID, text=self.TEXT).split(";"):
                self._do(statement)

    @abstractmethod
    def _do(self, sql: str, *values: Any) -> Any:
        """Execute this as a part of the transaction, if there is one; return a cursor."""

    def _run(self, statement: str, *values: Any) -> Any:
        return self._do(self.SQL[statement], *values)

    def _alone(self, statement: str, *values: Any) -> Any:
        """Execute a statement that is a transaction by itself."""
        return self._do(self.SQL[statement], *values)

    def _begin(self) -> None:
        self._do(self.BEGIN)

    def _missing(self, id: str) -> LookupError:
        self._do("ROLLBACK")
        return LookupError(id)

    def save(self, kind: str, *document: Any) -> None:
        self._alone(f"save {kind}", *_row(kind, *document))

    def _text(self, kind: str, key: str) -> Any:
        return self._alone(f"get {kind}", key).fetchone()[0]

    def _replace(self, kind: str, key: str, text: str, new: str) -> bool:
        return bool(self._alone(f"set {kind}", new, key, text).rowcount)

    def page(self, kind: str, owner: str, size: int) -> list[Any]:
        rows = self._alone(f"page {kind}", owner, size + 1).fetchall()[:size]
        if kind == "images":
            return decoded(body for (body,) in rows)
        return [{**json.loads(body), "updatedAt": changed} for body, changed in rows]

    def append(self, session_id: str, messages: Sequence[tuple[str, str]], at: int) -> int:
        self._begin()
        last = self._reserve(session_id, len(messages), at)
        if last is None:
            raise self._missing(session_id)
        first = last - len(messages) + 1
        if len(messages) == 1:
            self._run("insert", session_id, first, *messages[0])
        else:
            rows = [(session_id, first + n, *message) for n, message in enumerate(messages)]
            self._connection.cursor().executemany(self.SQL["insert"], rows)
        self._do("COMMIT")
        return last

    def _reserve(self, session_id: str, number: int, at: int) -> int | None:
        """Add to the session's count; return the new count, if there is such a session."""
        row = self._run("reserve", at, _latest(at), number, session_id).fetchone()
        return None if row is None else int(row[0])

    def _texts(self, session_id: str, last: int | None) -> list[str]:
        if last is None:
            return _bodies(self._alone("load", session_id))
        return _bodies(self._alone("last", session_id, last))[::-1]

    def _part(self, session_id: str, read: int) -> list[str]:
        return _bodies(self._alone("next", session_id, read))

    def rewrite(self, session_id: str, after: str, id: str, text: str, at: int) -> list[Any]:
        self._begin()
        found = self._run("lock session", after, session_id).fetchall()
        if not found:
            raise self._missing(after)
        ((kept,),) = found
        removed = [json.loads(body) for _, body in sorted(self._cut(session_id, kept))]
        self._run("insert", session_id, kept + 1, id, text)
        self._run("set count", at, _latest(at), kept + 1, session_id)
        self._do("COMMIT")
        return removed

    def pop(self, session_id: str, at: int) -> Any:
        self._begin()
        count = self._reserve(session_id, -1, at)
        if count is None:
            raise self._missing(session_id)
        ((_, body),) = self._cut(session_id, count)
        message = json.loads(body)
        self._do("COMMIT")
        return message

    def _cut(self, session_id: str, kept: int) -> Any:
        """Delete all later messages; return their positions and texts."""
        return self._run("cut", session_id, kept).fetchall()

    def fork(self, session_id: str, *new: Any) -> int:
        self._begin()
        if not self._run("fork session", *_row("sessions", *new), session_id).rowcount:
            raise self._missing(session_id)
        copied = self._run("fork messages", new[0], session_id).rowcount
        self._do("COMMIT")
        return int(copied)

    def summaries(self, session_ids: Sequence[str]) -> dict[str, tuple[int, Any]]:
        rows = self._alone("summaries", *session_ids).fetchall()
        return {id: (count, body and json.loads(body)) for id, count, body in rows}

    def delete_image(self, id: str) -> None:
        self._begin()
        self._run("delete sessions", id)
        self._run("delete image", id)
        self._do("COMMIT")


def _latest(at: int) -> int:
    return -(at // 1000)  # changes once a second, so that few appends change its index


def _row(kind: str, key: str, text: str, at: int, owner: str, second: str) -> tuple[Any, ...]:
    if kind == "items":
        return key, owner, -at, text
    if kind == "sessions":
        return key, owner, second, -at, text, _latest(at), at
    # MySQL has no md5() any more.
    digest = hashlib.blake2b(second.encode(), digest_size=16).hexdigest()
    return key, owner, digest, -at, text, second


def _bodies(cursor: Any) -> list[str]:
    return [body for (body,) in cursor.fetchall()]


class RawSqlite(RawSql):
    ID, BEGIN = "TEXT", "BEGIN IMMEDIATE"
    SQL: ClassVar = {n: s.replace("%s", "?").replace(" FOR UPDATE", "") for n, s in _SQL.items()}

    def __init__(self, path: str, synchronous: str, *, make: bool = True) -> None:
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute("PRAGMA foreign_keys = ON")
        super().__init__(connection, make=make)
        connection.execute("SELECT count(*) FROM (SELECT 1 FROM raw_images LIMIT 1)")

    def _do(self, sql: str, *values: Any) -> Any:
        return self._connection.execute(sql, values)

    def close(self) -> None:
        self._connection.close()


class RawPostgresql(RawSql):
    """On a connection in autocommit: one statement is one round trip and one transaction."""

    ID = 'varchar(255) COLLATE "C"'

    def _do(self, sql: str, *values: Any) -> Any:
        return self._connection.execute(sql, values, prepare=True)

    def append(self, session_id: str, messages: Sequence[tuple[str, str]], at: int) -> int:
        name, values = "postgresql append one", messages[0]
        if len(messages) > 1:
            name = "postgresql append"
            values = len(messages), *map(list, zip(*messages, strict=True))
        rows = self._run(name, len(messages), at, _latest(at), session_id, *values).fetchall()
        if not rows:
            raise LookupError(session_id)
        return max(position for (position,) in rows)

    def pop(self, session_id: str, at: int) -> Any:
        popped = 0
        while not popped:
            count, id, body = self._run("postgresql newest", session_id).fetchone()
            message = json.loads(body)
            # Only if it is still the newest.
            values = session_id, count, id, at, _latest(at), count
            popped = self._run("postgresql pop", *values).rowcount
        return message


def _translated(sql: str) -> str:
    """Return what MySQL, too, understands: it has neither RETURNING nor ON CONFLICT."""
    sql = re.sub(r"ON CONFLICT .* SET", "ON DUPLICATE KEY UPDATE", sql.partition(" RETURNING ")[0])
    return re.sub(r"excluded\.(\w+)", r"VALUES(\1)", sql)


class RawMysql(RawSql):
    ID = "varchar(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
    TEXT = "longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
    SQL: ClassVar = {name: _translated(statement) for name, statement in _SQL.items()}

    def _do(self, sql: str, *values: Any) -> Any:
        cursor = self._connection.cursor()
        cursor.execute(sql, values or None)
        return cursor

    def _alone(self, statement: str, *values: Any) -> Any:
        self._connection.autocommit(True)  # a round trip only where the mode changes
        return self._run(statement, *values)

    def _begin(self) -> None:
        self._connection.autocommit(False)

    def _reserve(self, session_id: str, number: int, at: int) -> int | None:
        cursor = self._run("mysql reserve", at, _latest(at), number, session_id)
        return int(cursor.lastrowid) if cursor.rowcount else None

    def _cut(self, session_id: str, kept: int) -> Any:
        rows = self._run("mysql tail", session_id, kept).fetchall()
        self._run("cut", session_id, kept)
        return rows
