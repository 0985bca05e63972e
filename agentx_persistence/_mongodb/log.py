"""Reading, cutting and deleting the logs of sessions; see `head.py` for what a log is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bson import Int64
from pymongo import ReturnDocument

from agentx_persistence._mongodb.database import BATCH, BY_POSITION, MESSAGES, Database, text_of
from agentx_persistence._mongodb.head import HEAD, Head, head_of, latest_head, new_head
from agentx_persistence.documents.store import SESSIONS, Slice, Window
from agentx_persistence.errors import CorruptRecordError, RecordNotFoundError

_FURTHEST = 2**62
_READS = 5

Row = dict[str, Any]


class Log:
    """The log of one session."""

    def __init__(self, database: Database, session_id: str) -> None:
        self._database, self._session_id = database, session_id

    def count(self) -> int:
        row = self._database.rows(SESSIONS).find_one({"_id": self._session_id}, HEAD)
        return head_of(self._database, self._session_id, row).count

    def position(self, entry_id: str) -> int:
        head, rows = self._find({"message_id": entry_id})
        return self._position(head, rows[0] if rows else None, entry_id)

    def read(self, window: Window) -> Slice:
        after, before, first, last = window
        high = _FURTHEST if before is None else before - 1
        limit = first if last is None else last
        if limit == 0:
            return Slice(min(after, self.count()) + 1, [])
        missing = after + 1
        for _ in range(_READS):
            head, rows = self._find(
                {"position": {"$gt": after, "$lte": high}},
                {"$sort": {"position": 1 if last is None else -1}},
                *([] if limit is None else [{"$limit": limit}]),
            )
            high = min(high, head.count)
            start = after if last is None else max(after, high - last)
            stop = high if first is None else min(high, start + first)
            texts = {row["position"]: text_of(row) for row in rows}
            try:
                return Slice(start + 1, [texts[place] for place in range(start + 1, stop + 1)])
            except KeyError as error:
                # Appends that have not ended took up the limit, or the log was cut meanwhile.
                (missing,) = error.args
        where = self._database.where(SESSIONS, self._session_id, missing)
        raise CorruptRecordError("message", f"#{missing}", where)

    def truncate(self, entry_id: str | None) -> int:
        attempts = self._database.attempts(f"session {self._session_id!r}")
        messages = self._database.rows(MESSAGES, latest=True)
        while True:
            next(attempts)
            head, keep = latest_head(self._database, self._session_id), 0
            if entry_id is not None:
                row = messages.find_one({"session_id": self._session_id, "message_id": entry_id})
                keep = self._position(head, row, entry_id)
            if keep == head.count:
                # What a process cut off that died before the next command.
                self._delete_behind(keep, head, "$lt")
                return 0
            before = self._database.rows(SESSIONS).find_one_and_update(
                {"_id": self._session_id, "log": head.log, "term": head.term},
                {"$set": {"count": Int64(keep)}, "$inc": {"term": 1}},
                {"count": 1},
                return_document=ReturnDocument.BEFORE,
            )
            if before is not None:
                break
        self._delete_behind(keep, head, "$lte")
        gone: int = before["count"] - keep
        return gone

    def _delete_behind(self, keep: int, head: Head, until: str) -> None:
        """Delete the messages of the terms up to that of this head."""
        self._database.rows(MESSAGES).delete_many(
            {
                "session_id": self._session_id,
                "position": {"$gt": keep},
                "log": head.log,
                "term": {until: head.term},
            },
            hint=BY_POSITION,
        )

    def delete(self) -> bool:
        """Delete the session with its log; tell whether it was there.

        From the first step on it is there for nobody; the rest can be repeated.
        """
        unit = self._database.unit
        sessions, messages = self._database.rows(SESSIONS), self._database.rows(MESSAGES)
        head = new_head()
        before = sessions.find_one_and_update(
            {"_id": self._session_id},
            {"$set": head, "$unset": {"place": ""}},
            HEAD,
            return_document=ReturnDocument.BEFORE,
            session=unit,
        )
        mine: Row = {"session_id": self._session_id}
        if before is not None:
            messages.delete_many({**mine, "log": before.get("log")}, hint=BY_POSITION, session=unit)
        # What interrupted appends and deletions left behind. A log that is seen here and is not
        # the session's afterwards, never will be again.
        strays = {row["log"] for row in messages.find(mine, {"log": 1}, session=unit)}
        if strays:
            current = sessions.find_one({"_id": self._session_id}, HEAD, session=unit)
            for log in strays - {current and current["log"]}:
                messages.delete_many({**mine, "log": log}, hint=BY_POSITION, session=unit)
        if before is None:
            return False
        sessions.delete_one(
            {"_id": self._session_id, "log": head["log"], "place": None}, session=unit
        )
        return "place" in before

    def _find(self, places: Mapping[str, Any], *stages: Row) -> tuple[Head, list[Row]]:
        """Return the head, and documents of messages that may lie behind it, in one command.

        The head is read first, so that what it counts is there unless it was cut off since.
        """
        pipeline: list[Row] = [
            {"$match": {"session_id": self._session_id, **places}},
            *stages,
            {"$project": {"_id": 0, "log": 1, "position": 1, "text": 1}},
        ]
        messages = self._database.rows(MESSAGES).name
        found = self._database.rows(SESSIONS).aggregate(
            [
                {"$match": {"_id": self._session_id}},
                {"$project": HEAD},
                {"$unionWith": {"coll": messages, "pipeline": pipeline}},
            ],
            batchSize=BATCH,
        )
        heads: list[Row] = []
        rows: list[Row] = []
        for row in found:
            (heads if "_id" in row else rows).append(row)
        return head_of(self._database, self._session_id, heads[0] if heads else None), rows

    @staticmethod
    def _position(head: Head, row: Row | None, entry_id: str) -> int:
        if row is None or row["log"] != head.log or row["position"] > head.count:
            raise RecordNotFoundError("message", entry_id)
        position: int = row["position"]
        return position
