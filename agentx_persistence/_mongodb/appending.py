"""Appending to a log in three commands, without a transaction. An append

1. reads the head,
2. inserts its messages behind `count`, the last one first, marked with the head's log and term,
3. moves `count` over them, if the head is still what it was.

The unique index on the position lets one writer win. As its first message goes in last, a batch is
whole when that one is there, and whoever meets it moves `count` in its place: an append that died
between 2 and 3 is finished by the next one. What else lies behind `count` is dead, and is removed
by whoever meets it: it has another log (the session was deleted and made again), an older term (it
was cut off), or it began at a position that is taken by now (it was torn).
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

from bson import Int64, ObjectId
from pymongo.errors import BulkWriteError

from agentx_persistence._mongodb.database import (
    BATCH,
    BY_POSITION,
    MESSAGES,
    Database,
    is_duplicate,
)
from agentx_persistence._mongodb.head import Head, latest_head
from agentx_persistence.documents.store import SESSIONS, Entry
from agentx_persistence.errors import RecordConflictError, RecordNotFoundError

_PLACE = {"log": 1, "term": 1, "position": 1, "first": 1, "last": 1, "message_id": 1}
# How often a writer looks again at a batch that is not whole, before it takes it for torn.
_LOOKS = 7

Row = dict[str, Any]


class Append:
    """One append; run it once."""

    def __init__(self, database: Database, session_id: str, at: int) -> None:
        self._database, self._session_id, self._at = database, session_id, at

    def run(self, entries: Sequence[Entry]) -> list[int]:
        head = latest_head(self._database, self._session_id)
        wanted: dict[str, str] = {}
        for id, text in entries:
            if wanted.setdefault(id, text) != text:
                raise RecordConflictError("message", id)
        placed: dict[str, int] = {}
        beaten = False
        attempts = self._database.attempts(f"session {self._session_id!r}")
        while missing := [id for id in wanted if id not in placed]:
            next(attempts)
            if self._add(head, {id: wanted[id] for id in missing}):
                placed.update(zip(missing, count(head.count + 1), strict=False))
                continue
            before, head = head, latest_head(self._database, self._session_id)
            # Mostly another writer was faster, and that is all. Twice in a row, it may be the ids.
            beaten = not beaten and head.count > before.count and not head.is_past(before)
            if not beaten:
                head, placed = self._settle(head, wanted, attempts)
        return [placed[id] for id, _ in entries]

    def _add(self, head: Head, texts: Mapping[str, str]) -> bool:
        """Insert the messages behind `count` and move it; tell whether they are in the log."""
        first, last = head.count + 1, head.count + len(texts)
        rows: list[Row] = [
            {
                "_id": ObjectId(),
                "session_id": self._session_id,
                "position": Int64(first + index),
                "message_id": id,
                "text": text,
                "log": head.log,
                "term": Int64(head.term),
                "first": Int64(first),
                "last": Int64(last),
            }
            for index, (id, text) in enumerate(texts.items())
        ]
        for row in rows:
            self._database.check_size("message", row["message_id"], row)
        rows.reverse()
        messages = self._database.rows(MESSAGES)
        try:
            messages.insert_many(rows)
        except BulkWriteError as error:
            if not is_duplicate(error):
                raise
            if inserted := error.details["nInserted"]:
                own = [row["_id"] for row in rows[:inserted]]
                messages.delete_many(
                    {"session_id": self._session_id, "_id": {"$in": own}}, hint="_id_"
                )
            return False
        if self._move(head, last):
            return True
        try:
            # If nothing was cut off, another writer has moved `count` over these messages.
            return not latest_head(self._database, self._session_id).is_past(head)
        except RecordNotFoundError:
            self._delete_log(head.log)
            raise

    def _settle(
        self, head: Head, wanted: Mapping[str, str], attempts: Iterator[None]
    ) -> tuple[Head, dict[str, int]]:
        """Finish or remove what is in the way.

        Return the head, and the positions of those messages that are in the log already.
        """
        looks = 0
        while True:
            rows = self._in_the_way(head, wanted)
            before, head = head, latest_head(self._database, self._session_id)
            removed = self._remove_dead(head, rows)
            # A row that was seen between two heads of one term is in the log if already the first
            # of them covered its position. Of one further on that cannot be told.
            own = [row for row in rows if row["message_id"] in wanted and row["log"] == head.log]
            if head.is_past(before) or any(
                before.count < row["position"] <= head.count for row in own
            ):
                next(attempts)
                continue
            placed = self._placed(before, own, wanted)
            ahead = [row for row in rows if row["position"] > head.count]
            if removed or head.count > before.count or not ahead:
                return head, placed
            next(attempts)
            whole = [r for r in ahead if r["position"] == r["first"] == head.count + 1]
            if whole:
                self._move(head, whole[0]["last"])
            elif (looks := looks + 1) < _LOOKS:
                time.sleep(random.uniform(0, 0.002 * 2**looks))
            else:
                self._fence(head)

    @staticmethod
    def _placed(head: Head, own: Iterable[Row], wanted: Mapping[str, str]) -> dict[str, int]:
        placed = {}
        for row in own:
            if row["position"] <= head.count:
                if row.get("text") != wanted[row["message_id"]]:
                    raise RecordConflictError("message", row["message_id"])
                placed[row["message_id"]] = row["position"]
        return placed

    def _in_the_way(self, head: Head, wanted: Iterable[str]) -> list[Row]:
        messages = self._database.rows(MESSAGES, latest=True)
        ids = list(wanted)
        by_id = messages.find(
            {"session_id": self._session_id, "message_id": {"$in": ids}}, {**_PLACE, "text": 1}
        )
        places = {"$gt": head.count, "$lte": head.count + len(ids)}
        by_place = messages.find({"session_id": self._session_id, "position": places}, _PLACE)
        rows = {row["_id"]: row for row in by_place.batch_size(BATCH)}
        rows.update((row["_id"], row) for row in by_id.batch_size(BATCH))
        return list(rows.values())

    def _remove_dead(self, head: Head, rows: Iterable[Row]) -> bool:
        """Remove the dead ones; tell whether there were any.

        :param rows: seen before the head was: a log that was another then, will never be again
        """
        messages = self._database.rows(MESSAGES)
        logs = {row["log"] for row in rows} - {head.log}
        for log in logs:
            self._delete_log(log)
        dead = any(
            row["log"] == head.log
            and row["position"] > head.count
            and (row["term"] < head.term or row["first"] <= head.count)
            for row in rows
        )
        if dead:
            # Right however late it arrives: nothing new begins at or before `count` in this term.
            messages.delete_many(
                {
                    "session_id": self._session_id,
                    "position": {"$gt": head.count},
                    "log": head.log,
                    "$or": [
                        {"term": {"$lt": head.term}},
                        {"term": head.term, "first": {"$lte": head.count}},
                    ],
                },
                hint=BY_POSITION,
            )
        return dead or bool(logs)

    def _delete_log(self, log: ObjectId) -> None:
        mine = {"session_id": self._session_id, "log": log}
        self._database.rows(MESSAGES).delete_many(mine, hint=BY_POSITION)

    def _move(self, head: Head, last: int) -> bool:
        change = {"count": Int64(last), "updated_at": Int64(self._at)}
        return self._change_head(head, {"$set": change})

    def _fence(self, head: Head) -> None:
        """Begin a term, so that what lies behind `count` is dead, even if its writer goes on."""
        self._change_head(head, {"$inc": {"term": 1}})

    def _change_head(self, head: Head, change: Mapping[str, Any]) -> bool:
        """Tell whether the head was still this one."""
        where = {"_id": self._session_id, "log": head.log, "term": head.term, "count": head.count}
        return self._database.rows(SESSIONS).update_one(where, change).matched_count == 1
