"""What the raw code of all SQL databases has in common: nearly all of it."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

# Times are stored negated, so that one ascending index gives the newest first, then by id.
_TABLES = """
raw_sessions (id {id} PRIMARY KEY, container_id {id}, image_id {id}, newest bigint, latest bigint,
  count integer NOT NULL DEFAULT 0 CHECK (count >= 0), at bigint, body {text});
raw_messages (session_id {id} NOT NULL, position integer NOT NULL, id {id} NOT NULL,
  body {text} NOT NULL, PRIMARY KEY (session_id, position), UNIQUE (session_id, id),
  FOREIGN KEY (session_id) REFERENCES raw_sessions (id) ON DELETE CASCADE);
raw_images (id {id} PRIMARY KEY, container_id {id}, name_digest varchar(32), name {text},
  newest bigint, body {text});
raw_items (namespace {id}, name {id}, newest bigint, body {text}, PRIMARY KEY (namespace, name))
"""
_INDEXES = (
    "raw_sessions (newest, id)",
    "raw_sessions (container_id, newest, id)",
    "raw_sessions (image_id, newest, id)",
    "raw_sessions (container_id, latest, id)",
    "raw_images (newest, id)",
    "raw_images (container_id, newest, id)",
    "raw_images (name_digest, newest, id)",
    "raw_images (container_id, name_digest, newest, id)",
    "raw_items (namespace, newest, name)",
)
_IMAGE = "INSERT INTO raw_images VALUES (%s, %s, %s, %s, %s, %s)"
_ITEM = "INSERT INTO raw_items VALUES (%s, %s, %s, %s)"
_MESSAGES = "SELECT body FROM raw_messages WHERE session_id = %s"
_TOUCH = "UPDATE raw_sessions SET at = %s, latest = %s, count ="
STATEMENTS = {
    "save session": "INSERT INTO raw_sessions (id, container_id, image_id, newest, latest, at,"
    " body) VALUES (%s, %s, %s, %s, %s, %s, %s)",
    "reserve": f"{_TOUCH} count + %s WHERE id = %s RETURNING count",
    "insert": "INSERT INTO raw_messages VALUES (%s, %s, %s, %s)",
    "load": f"{_MESSAGES} ORDER BY position",
    "last": f"{_MESSAGES} ORDER BY position DESC LIMIT %s",
    "next": f"{_MESSAGES} AND position > %s ORDER BY position LIMIT %s",
    "lock session": "SELECT m.position FROM raw_sessions s JOIN raw_messages m"
    " ON m.session_id = s.id AND m.id = %s WHERE s.id = %s FOR UPDATE",
    "cut": "DELETE FROM raw_messages WHERE session_id = %s AND position > %s"
    " RETURNING position, body",
    "set count": f"{_TOUCH} %s WHERE id = %s",
    "fork session": "INSERT INTO raw_sessions (id, container_id, image_id, newest, latest, at,"
    " body, count) SELECT %s, %s, %s, %s, %s, %s, %s, count FROM raw_sessions WHERE id = %s",
    "fork messages": "INSERT INTO raw_messages SELECT %s, position, id, body FROM raw_messages"
    " WHERE session_id = %s",
    "active": "SELECT body, at FROM raw_sessions WHERE container_id = %s"
    " ORDER BY latest, id LIMIT %s",
    "summaries": "SELECT s.id, s.count, m.body FROM raw_sessions s LEFT JOIN raw_messages m"
    " ON m.session_id = s.id AND m.position = s.count"
    " WHERE s.id IN (%s" + 19 * ", %s" + ")",
    "add image": _IMAGE,
    "save image": f"{_IMAGE} ON CONFLICT (id) DO UPDATE SET container_id = excluded.container_id,"
    " name_digest = excluded.name_digest, name = excluded.name, newest = excluded.newest,"
    " body = excluded.body",
    "get image": "SELECT body FROM raw_images WHERE id = %s",
    "page": "SELECT body FROM raw_images WHERE container_id = %s ORDER BY newest, id LIMIT %s",
    "set image": "UPDATE raw_images SET body = %s WHERE id = %s AND body = %s",
    "delete sessions": "DELETE FROM raw_sessions WHERE image_id = %s",
    "delete image": "DELETE FROM raw_images WHERE id = %s",
    "save item": f"{_ITEM} ON CONFLICT (namespace, name) DO UPDATE SET newest = excluded.newest,"
    " body = excluded.body",
    "get item": "SELECT body FROM raw_items WHERE namespace = %s AND name = %s",
    "set item": "UPDATE raw_items SET body = %s WHERE namespace = %s AND name = %s AND body = %s",
}
_CHUNK = 500


class RawSql:
    """Names are found by a digest: 500 characters beside an id are more than an index takes."""

    ID: ClassVar[str]
    TEXT: ClassVar[str] = "text"
    SQL: ClassVar[dict[str, str]] = STATEMENTS

    def __init__(self, connection: Any, *, make: bool = True) -> None:
        self._connection = connection
        if make:
            for table in _TABLES.format(id=self.ID, text=self.TEXT).split(";"):
                self._do(f"CREATE TABLE {table}")
            for number, index in enumerate(_INDEXES):
                self._do(f"CREATE INDEX raw_{number} ON {index}")

    @abstractmethod
    def _do(self, sql: str, *values: Any) -> Any:
        """Execute this as a part of the transaction, if there is one; return a cursor."""

    def _run(self, statement: str, *values: Any) -> Any:
        return self._do(self.SQL[statement], *values)

    def _alone(self, statement: str, *values: Any) -> Any:
        """Execute a statement that is a transaction by itself."""
        return self._do(self.SQL[statement], *values)

    def _many(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        self._connection.cursor().executemany(self.SQL[statement], rows)

    def _begin(self) -> None:
        self._do("BEGIN")

    def _commit(self) -> None:
        self._do("COMMIT")

    def _missing(self, id: str) -> LookupError:
        self._do("ROLLBACK")
        return LookupError(id)

    def save_session(self, *session: Any) -> None:
        self._alone("save session", *_session(session))

    def save_sessions(self, sessions: Sequence[Sequence[Any]]) -> None:
        self._begin()
        self._many("save session", [_session(session) for session in sessions])
        self._commit()

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
            self._many("insert", rows)
        self._commit()
        return last

    def _reserve(self, session_id: str, number: int, at: int) -> int | None:
        """Add to the session's count; return the new count, if there is such a session."""
        row = self._run("reserve", at, latest(at), number, session_id).fetchone()
        return None if row is None else int(row[0])

    def load(self, session_id: str, last: int | None = None) -> list[Any]:
        if last is None:
            return _decoded(self._alone("load", session_id).fetchall())
        return _decoded(reversed(self._alone("last", session_id, last).fetchall()))

    def stream(self, session_id: str) -> int:
        count = 0
        while rows := self._alone("next", session_id, count, _CHUNK).fetchall():
            for (body,) in rows:
                json.loads(body)
            count += len(rows)
        return count

    def rewrite(self, session_id: str, after: str, id: str, text: str, at: int) -> list[Any]:
        self._begin()
        found = self._run("lock session", after, session_id).fetchall()
        if not found:
            raise self._missing(after)
        ((kept,),) = found
        removed = [json.loads(body) for _, body in sorted(self._cut(session_id, kept))]
        self._run("insert", session_id, kept + 1, id, text)
        self._run("set count", at, latest(at), kept + 1, session_id)
        self._commit()
        return removed

    def pop(self, session_id: str, at: int) -> Any:
        self._begin()
        count = self._reserve(session_id, -1, at)
        if count is None:
            raise self._missing(session_id)
        ((_, body),) = self._cut(session_id, count)
        message = json.loads(body)
        self._commit()
        return message

    def _cut(self, session_id: str, kept: int) -> Any:
        """Delete all later messages; return their positions and texts."""
        return self._run("cut", session_id, kept).fetchall()

    def fork(self, session_id: str, *new: Any) -> int:
        self._begin()
        if not self._run("fork session", *_session(new), session_id).rowcount:
            raise self._missing(session_id)
        copied = self._run("fork messages", new[0], session_id).rowcount
        self._commit()
        return int(copied)

    def active(self, container_id: str, size: int) -> list[Any]:
        rows = self._alone("active", container_id, size + 1).fetchall()
        return [{**json.loads(body), "updatedAt": changed} for body, changed in rows[:size]]

    def summaries(self, session_ids: Sequence[str]) -> dict[str, tuple[int, Any]]:
        rows = self._alone("summaries", *session_ids).fetchall()
        return {id: (count, body and json.loads(body)) for id, count, body in rows}

    def save_image(self, *image: Any) -> None:
        self._alone("save image", *_image(image))

    def save_images(self, images: Sequence[Sequence[Any]]) -> None:
        self._begin()
        self._many("add image", [_image(image) for image in images])
        self._commit()

    def get_image(self, id: str) -> Any:
        return json.loads(self._alone("get image", id).fetchone()[0])

    def page(self, container_id: str, size: int) -> list[Any]:
        return _decoded(self._alone("page", container_id, size + 1).fetchall()[:size])

    def update_image(self, id: str, change: Callable[[Any], object]) -> None:
        self._update("image", change, id)

    def delete_image(self, id: str) -> None:
        self._begin()
        self._run("delete sessions", id)
        self._run("delete image", id)
        self._commit()

    def save_item(self, namespace: str, key: str, at: int, text: str) -> None:
        self._alone("save item", namespace, key, -at, text)

    def get_item(self, namespace: str, key: str) -> Any:
        return json.loads(self._alone("get item", namespace, key).fetchone()[0])

    def update_item(self, namespace: str, key: str, change: Callable[[Any], object]) -> None:
        self._update("item", change, namespace, key)

    def _update(self, noun: str, change: Callable[[Any], object], *key: str) -> None:
        replaced = 0
        while not replaced:  # as long as another changes it between reading and writing
            (text,) = self._alone(f"get {noun}", *key).fetchone()
            document = json.loads(text)
            change(document)
            replaced = self._alone(f"set {noun}", json.dumps(document), *key, text).rowcount


def latest(at: int) -> int:
    return -(at // 1000)  # changes once a second, so that few appends change its index


def _session(session: Sequence[Any]) -> tuple[Any, ...]:
    id, container_id, image_id, at, text = session
    return id, container_id, image_id, -at, latest(at), at, text


def _image(image: Sequence[Any]) -> tuple[Any, ...]:
    id, container_id, name, at, text = image
    # MySQL has no md5() any more.
    digest = hashlib.blake2b(name.encode(), digest_size=16).hexdigest()
    return id, container_id, digest, name, -at, text


def _decoded(rows: Iterable[tuple[str]]) -> list[Any]:
    return [json.loads(body) for (body,) in rows]
