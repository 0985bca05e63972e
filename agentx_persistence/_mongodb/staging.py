"""Storing, staging and removing the messages of one call. `log.py` states the rules."""

from __future__ import annotations

from collections.abc import Sequence

from bson import Int64, ObjectId

from agentx_persistence._mongodb.database import BY_POSITION, Row
from agentx_persistence._mongodb.documents import cannot_tell
from agentx_persistence._mongodb.head import LogHead
from agentx_persistence._mongodb.log import CHUNK, Log
from agentx_persistence._mongodb.scope import Scope
from agentx_persistence.storage import SESSIONS, Entry


class Messages:
    """The messages of one session, whether they belong to its log or not."""

    def __init__(self, scope: Scope, session_id: str) -> None:
        self._scope, self._session_id = scope, session_id

    def rows_of(self, entries: Sequence[Entry], log: ObjectId, term: int, start: int) -> list[Row]:
        """Return the documents of the entries, the first one at the position `start`.

        :raises RecordTooLargeError: if one is larger than the server takes
        """
        rows = []
        for position, (id, text, role, subtype, timestamp) in enumerate(entries, start):
            row: Row = {
                "role": role,
                "subtype": subtype,
                "timestamp": Int64(timestamp),
                "_id": ObjectId(),
                "session_id": self._session_id,
                "position": Int64(position),
                "message_id": id,
                "text": text,
                "log": log,
                "term": Int64(term),
            }
            self._scope.check_size("message", id, row)
            rows.append(row)
        return rows

    def insert(self, rows: Sequence[Row]) -> None:
        if len(rows) == 1:
            # An interrupt of `insert_many` can become a `SystemError`; see `clients.py`.
            self._scope.messages().insert_one(rows[0], session=self._scope.unit)
        elif rows:
            self._scope.messages().insert_many(rows, session=self._scope.unit)

    def remove(self, rows: Sequence[Row]) -> None:
        """Remove dead documents that this call has inserted."""
        for start in range(0, len(rows), CHUNK):
            own = [row["_id"] for row in rows[start : start + CHUNK]]
            self._scope.messages().delete_many(
                {"session_id": self._session_id, "_id": {"$in": own}}, hint="_id_"
            )

    def discard(self, token: ObjectId, count: int) -> None:
        """Remove staged messages that no log will use."""
        self._scope.messages().delete_many(
            {
                "session_id": self._session_id,
                "position": {"$gte": 1, "$lte": count},
                "log": token,
            },
            hint=BY_POSITION,
            session=self._scope.unit,
        )


class Staging:
    """What one call remembers from one attempt to the next: its staged messages, and the head."""

    def __init__(self, log: Log, messages: Messages) -> None:
        self._log, self._messages = log, messages
        self._staged: tuple[ObjectId, int] | None = None
        self._begun_at: LogHead | None = None

    def check(self, head: LogHead, again: bool) -> None:
        """Raise if an earlier attempt may have been applied, and other calls may have undone it."""
        begun_at, self._begun_at = self._begun_at, head
        if again and begun_at is not None and begun_at.generation != head.generation:
            raise cannot_tell(SESSIONS, self._log.session_id)

    def stage(self, entries: Sequence[Entry]) -> tuple[ObjectId, int]:
        """Stage the entries, if this call has not done so; return their token and number."""
        if self._staged is None:
            token = ObjectId()
            self._messages.insert(self._messages.rows_of(entries, token, 0, 1))
            self._staged = token, len(entries)
        return self._staged

    def pending(self, entries: Sequence[Entry], first: int, *, cut: bool) -> Row:
        """Stage the entries, if this call has not done so; return the head's field `pending`.

        :param cut: whether all messages after them are dead
        """
        token, count = self.stage(entries)
        return {"log": token, "first": Int64(first), "count": Int64(count), "cut": cut}

    def discard(self) -> None:
        """Give up: remove the staged messages, and let other writers go on."""
        self._log.release()
        if self._staged is not None:
            self._messages.discard(*self._staged)
            self._staged = None
