"""The log of a session: its head, its messages, and the rules that hold them together.

A log has one document for each message in `messages`, and a head in the document of the session:
`log` (a token of this log), `term` (how often something other than a simple append changed it),
`count`, `generation`, and sometimes `pending`.

1. A message belongs to the log if it has the log's token and a position of at most `count`.
2. `count` only grows over messages that are stored already. All else is dead: messages after
   `count` from an older term, and messages with another token.
3. A writer changes the head in one guarded update, in which the log has the term and the count that
   the writer has read. So each change is there for everybody at once, or not at all.
4. A change that is more than a simple append first stores its messages under a token of their own
   (they are *staged*: no index lets them collide with others). The guarded update then refers to
   them in `pending`, and whoever meets that, reader or writer, first moves them to their positions.
5. Each change by rule 4, and each cut, begins a new term. So the simple appends that are on their
   way fail, and their messages are dead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bson import Int64, ObjectId
from pymongo.errors import BulkWriteError, DuplicateKeyError

from agentx_persistence._mongodb.database import BATCH, BY_POSITION, Row
from agentx_persistence._mongodb.failures import is_duplicate
from agentx_persistence._mongodb.ordering import place
from agentx_persistence._mongodb.scope import Scope
from agentx_persistence.errors import CorruptRecordError, RecordNotFoundError
from agentx_persistence.storage import SESSIONS, Entry, Head

FURTHEST = 2**62
# So many messages go in one command.
CHUNK = 10_000

HEAD = {"log": 1, "term": 1, "count": 1, "generation": 1, "pending": 1, "place": 1}
ROW = {"_id": 0, "log": 1, "term": 1, "position": 1, "message_id": 1, "text": 1}


@dataclass(frozen=True, slots=True)
class LogHead:
    log: ObjectId
    term: int
    count: int
    generation: str
    pending: Mapping[str, Any] | None

    @property
    def public(self) -> Head:
        return Head(int(self.count), self.generation)

    def is_past(self, other: LogHead | None) -> bool:
        """Tell whether anything but simple appends happened between the two."""
        return other is None or (self.log, self.term) != (other.log, other.term)

    def holds(self, row: Row) -> bool:
        return bool(row["log"] == self.log and row["position"] <= self.count)


def new_head(generation: str, log: ObjectId | None = None, count: int = 0) -> Row:
    """Return the fields of the head of a new log."""
    return {
        "log": log or ObjectId(),
        "term": Int64(0),
        "count": Int64(count),
        "generation": generation,
    }


def text_of(row: Row) -> str:
    """Return the stored text; of one that is damaged, something that its reader refuses."""
    text = row.get("text")
    if isinstance(text, bytes):
        return text.decode(errors="surrogateescape")
    return text if isinstance(text, str) else ""


class Log:
    def __init__(self, scope: Scope, session_id: str) -> None:
        self.scope, self.session_id = scope, session_id
        self.what = f"session {session_id!r}"

    def find_head(self, *, latest: bool = True) -> LogHead | None:
        """Return the head, or ``None`` if there is no session."""
        sessions = self.scope.rows(SESSIONS, latest=latest)
        for _ in self.scope.attempts(self.what):
            row = sessions.find_one({"_id": self.session_id}, HEAD, session=self.scope.unit)
            head = self.head_of(row)
            if head is None or head.pending is None:
                return head
            self.settle(head)
        raise AssertionError  # the attempts end with an error

    def require(self, head: LogHead | None) -> LogHead:
        if head is None:
            raise RecordNotFoundError("session", self.session_id)
        return head

    def head_of(self, row: Row | None) -> LogHead | None:
        if row is None or "place" not in row:
            return None
        try:
            return LogHead(
                row["log"], row["term"], row["count"], row["generation"], row.get("pending")
            )
        except KeyError as error:
            where = f"{self.scope.database.where(SESSIONS, self.session_id)}, field {error}"
            raise CorruptRecordError("session", self.session_id, where) from error

    def look(
        self, ids: Sequence[str], *, latest: bool = True
    ) -> tuple[LogHead | None, dict[str, Row]]:
        """Return the head, and those of the messages that are in the log, all of one moment."""
        before: LogHead | None = None
        for _ in self.scope.attempts(self.what):
            head, rows = self.fetch({"message_id": {"$in": list(ids)}}, latest=latest)
            if head is None:
                return None, {}
            if head.pending is not None:
                self.settle(head)
                continue
            found = {row["message_id"]: row for row in rows if head.holds(row)}
            newer = any(row["term"] > head.term for row in found.values())
            # A message that is missing may have been on its way to another position.
            if not newer and (len(found) == len(ids) or not head.is_past(before) or latest):
                return head, found
            before = head
        raise AssertionError

    def fetch(
        self, places: Mapping[str, Any], *stages: Row, latest: bool
    ) -> tuple[LogHead | None, Iterable[Row]]:
        """Return the head, and documents of messages that may not belong to the log.

        They are read by one command, the head first: what it counts is there, unless the log was
        changed since.
        """
        sessions = self.scope.rows(SESSIONS, latest=latest)
        messages = self.scope.messages(latest=latest)
        where = {"session_id": self.session_id, **places}
        if self.scope.unit is not None:  # in which $unionWith is not allowed, and not needed
            row = sessions.find_one({"_id": self.session_id}, HEAD, session=self.scope.unit)
            pipeline: list[Row] = [{"$match": where}, *stages, {"$project": ROW}]
            found = messages.aggregate(pipeline, session=self.scope.unit, batchSize=BATCH)
            return self.head_of(row), found
        union = {"coll": messages.name, "pipeline": [{"$match": where}, *stages, {"$project": ROW}]}
        rows = sessions.aggregate(
            [{"$match": {"_id": self.session_id}}, {"$project": HEAD}, {"$unionWith": union}],
            batchSize=BATCH,
        )
        first = next(rows, None)
        if first is None or "_id" not in first:
            rows.close()
            return None, ()
        return self.head_of(first), rows

    def rows_of(self, entries: Sequence[Entry], log: ObjectId, term: int, start: int) -> list[Row]:
        """Return the documents of the entries, the first one at the position `start`.

        :raises RecordTooLargeError: if one is larger than the server takes
        """
        rows = []
        for position, (id, text, fields) in enumerate(entries, start):
            row: Row = {
                **{k: v if isinstance(v, str) else Int64(v) for k, v in fields.items()},
                "_id": ObjectId(),
                "session_id": self.session_id,
                "position": Int64(position),
                "message_id": id,
                "text": text,
                "log": log,
                "term": Int64(term),
            }
            self.scope.check_size("message", id, row)
            rows.append(row)
        return rows

    def stage(self, entries: Sequence[Entry]) -> ObjectId:
        """Store the entries under a token of their own, where nobody finds them; return it."""
        token = ObjectId()
        self.insert(self.rows_of(entries, token, 0, 1))
        return token

    def insert(self, rows: Sequence[Row]) -> None:
        if rows:
            self.scope.messages().insert_many(rows, session=self.scope.unit)

    def publish(
        self, head: LogHead, at: int, changed: Row, pending: Row | None = None
    ) -> LogHead | None:
        """Change the head, if it still is this one; return the new one, or ``None``."""
        term = Int64(head.term + 1)
        if pending:
            changed = {**changed, "pending": pending}
        if not self.change_head(head, at, {"$set": {**changed, "term": term}}):
            return None
        return LogHead(
            head.log,
            term,
            changed.get("count", head.count),
            changed.get("generation", head.generation),
            pending,
        )

    def change_head(self, head: LogHead, at: int, change: Mapping[str, Any]) -> bool:
        """Change the head, if it still is this one; never lower the session's `updated_at`."""
        where = {
            "_id": self.session_id,
            "log": head.log,
            "term": head.term,
            "count": head.count,
            "pending": None,
        }
        times = {
            "$max": {"updated_at": Int64(at)},
            "$min": {"active": place(at // 1000, self.session_id)},
        }
        changed = self.scope.rows(SESSIONS).update_one(
            where, {**change, **times}, session=self.scope.unit
        )
        return changed.matched_count == 1

    def settle(self, head: LogHead) -> None:
        """Move the staged messages that the head refers to to their positions.

        Any number of callers may do this at once, however late: nothing is staged under this token
        again, and messages of an older term at these positions are dead for ever.
        """
        pending = head.pending
        assert pending is not None
        first, staged = pending["first"], pending["count"]
        last = first + staged - 1
        for _ in self.scope.attempts(self.what):
            self.remove_dead(head, first, last)
            try:
                self._move(pending["log"], staged, head, first - 1)
                break
            except (BulkWriteError, DuplicateKeyError) as error:
                if not is_duplicate(error) or self.scope.unit is not None:
                    raise
            # Dead messages further on have one of the ids, or an append on its way was faster.
            if pending["cut"]:
                last = FURTHEST
            else:
                self.remove_dead(head, int(head.count) + 1)
        self.scope.rows(SESSIONS).update_one(
            {"_id": self.session_id, "log": head.log, "pending.log": pending["log"]},
            {"$unset": {"pending": ""}},
            session=self.scope.unit,
        )

    def _move(self, token: ObjectId, staged: int, head: LogHead, by: int) -> None:
        for start in range(1, staged + 1, CHUNK):
            self.scope.messages().update_many(
                {
                    "session_id": self.session_id,
                    "position": {"$gte": start, "$lt": start + CHUNK},
                    "log": token,
                },
                {"$set": {"log": head.log, "term": head.term}, "$inc": {"position": Int64(by)}},
                session=self.scope.unit,
            )

    def remove_dead(self, head: LogHead, first: int, last: int = FURTHEST) -> None:
        """Remove the messages of older terms at these positions; see `settle`."""
        self.scope.messages().delete_many(
            {
                "session_id": self.session_id,
                "position": {"$gte": first, "$lte": last},
                "log": head.log,
                "term": {"$lt": head.term},
            },
            hint=BY_POSITION,
            session=self.scope.unit,
        )

    def discard(self, token: ObjectId, count: int) -> None:
        """Remove messages that were staged in vain."""
        self.scope.messages().delete_many(
            {
                "session_id": self.session_id,
                "position": {"$gte": 1, "$lte": count},
                "log": token,
            },
            hint=BY_POSITION,
            session=self.scope.unit,
        )
