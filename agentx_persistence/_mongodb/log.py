"""The log of a session: its head, its messages, and the rules that hold them together.

A log has one document for each message in `messages`, and a head in the document of the session:
`log` (a token of this log), `term` (how often something other than a simple append changed it),
`count`, `generation`, and sometimes `pending` and `held`.

1. A message belongs to the log if it has the log's token and a position of at most `count`.
2. `count` is only raised after the messages that it then covers are stored. Messages after `count`
   from an older term are *dead*: they will never belong to the log, and may be removed at any time.
   So are messages with another token, once no call is going to use them.
3. A writer changes the head in one guarded update, which only succeeds if `term` and `count` are
   still those that the writer has read. So other calls see all of a change or nothing.
4. A change that is more than a simple append first stores its messages under a token of their own.
   They are *staged*: the unique indexes contain the token, so that staged messages do not collide
   with others. The guarded update then names this token in `pending`. Every reader or writer that
   finds `pending` makes sure that the messages are moved to their positions before it goes on.
   Until they are moved, rule 1 does not hold at their positions: messages of an older term there
   are dead, too.
5. Each change by rule 4, and each cut, begins a new term. So simple appends that are under way
   fail, and their messages are dead.
6. A writer that has failed because others were faster may *hold* the head, by setting `held`. Other
   writers then wait while it reads and updates the head. If it takes too long, it may have died,
   and another writer removes `held`. This begins a new term as well, so that the update of a slow
   holder fails. A writer in a transaction removes `held` at once.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bson import Int64, ObjectId
from pymongo.errors import BulkWriteError, DuplicateKeyError

from agentx_persistence._mongodb.database import BATCH, BY_POSITION, Row
from agentx_persistence._mongodb.failures import is_duplicate
from agentx_persistence._mongodb.head import HEAD, ROW, LogHead
from agentx_persistence._mongodb.ordering import place
from agentx_persistence._mongodb.scope import Scope
from agentx_persistence.errors import CorruptRecordError, RecordNotFoundError
from agentx_persistence.storage import SESSIONS

FURTHEST = 2**62
# How many messages one command moves, copies or removes.
CHUNK = 10_000

# How many seconds other writers wait for the holder of a head, and how many more per message.
_HOLD, _HOLD_PER_MESSAGE = 1.0, 0.001


class Log:
    def __init__(self, scope: Scope, session_id: str) -> None:
        self.scope, self.session_id = scope, session_id
        self.what = f"session {session_id!r}"
        self._holding: ObjectId | None = None
        self._waiting: tuple[ObjectId, float] | None = None

    def find_head(self, *, latest: bool = True) -> LogHead | None:
        """Return the head, or ``None`` if there is no session."""
        sessions = self.scope.rows(SESSIONS, latest=latest)
        for _ in self.scope.attempts(self.what):
            row = sessions.find_one({"_id": self.session_id}, HEAD, session=self.scope.unit)
            head = self.head_of(row)
            if head is None or not self._has_to_wait(head, latest=latest):
                return head
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
                row["log"],
                row["term"],
                row["count"],
                row["generation"],
                row.get("pending"),
                row.get("held"),
            )
        except KeyError as error:
            where = f"{self.scope.database.where(SESSIONS, self.session_id)}, field {error}"
            raise CorruptRecordError("session", self.session_id, where) from error

    def look(
        self,
        ids: Sequence[str],
        *,
        latest: bool = True,
        apart: bool = False,
        since: LogHead | None = None,
    ) -> tuple[LogHead | None, dict[str, Row]]:
        """Return the head, and the messages with these ids that the log has, at one moment.

        :param apart: use two commands, which together are quicker than one for both
        :param since: an earlier head under which the log had none of the ids. Then only messages
            that were appended since are read
        """
        before: LogHead | None = None
        among: Row = {"message_id": {"$in": list(ids)}}
        if since is not None:
            among = {"position": {"$gt": since.count}, "log": since.log}
        for _ in self.scope.attempts(self.what):
            head, rows = self.fetch(among, latest=latest, apart=apart)
            if head is None:
                return None, {}
            if self._has_to_wait(head, latest=latest):
                continue
            if since is not None and not head.only_grew(since):
                return self.look(ids, latest=latest, apart=apart)
            found = {row["message_id"]: row for row in rows if head.holds(row)}
            if since is not None:
                found = {id: found[id] for id in ids if id in found}
            newer = any(row["term"] > head.term for row in found.values())
            # A message that was not found may have been moved (rule 4) while this was read.
            if not newer and (len(found) == len(ids) or not head.is_past(before) or latest):
                return head, found
            before = head
        raise AssertionError

    def _has_to_wait(self, head: LogHead, *, latest: bool) -> bool:
        """Return whether to read the head again, because another call is changing it.

        If that call takes too long, this method does its work or ends its hold.

        :param latest: True for writers. Readers do not wait for a holder
        """
        if head.pending is not None:
            # The call that set `pending` is most likely about to move the messages, so wait once.
            if self._waiting is not None and self._waiting[0] == head.pending["log"]:
                self.settle(head)
            self._waiting = head.pending["log"], time.monotonic()
            return True
        held = head.held
        if not latest or held is None or held["by"] == self._holding:
            return False
        if self._waiting is None or self._waiting[0] != held["by"]:
            self._waiting = held["by"], time.monotonic()
        longest = _HOLD + _HOLD_PER_MESSAGE * held["count"]
        # A transaction would see the same head however long it waited.
        if self.scope.unit is not None or time.monotonic() - self._waiting[1] > longest:
            self._end_hold(held["by"])
        return True

    def hold(self, count: int) -> None:
        """Hold the head, unless another call does; see rule 6.

        :param count: how many messages this call stores, for which the others wait longer
        """
        token = ObjectId()
        held = self.scope.rows(SESSIONS).update_one(
            {"_id": self.session_id, "place": {"$gt": ""}, "pending": None, "held": None},
            {"$set": {"held": {"by": token, "count": count}}, "$inc": {"term": Int64(1)}},
        )
        self._holding = token if held.matched_count else None

    def release(self) -> None:
        if self._holding is not None:
            self._end_hold(self._holding)
            self._holding = None

    def _end_hold(self, token: ObjectId) -> None:
        self.scope.rows(SESSIONS).update_one(
            {"_id": self.session_id, "held.by": token},
            {"$unset": {"held": ""}, "$inc": {"term": Int64(1)}},
            session=self.scope.unit,
        )

    def fetch(
        self,
        places: Mapping[str, Any],
        *stages: Row,
        latest: bool,
        apart: bool = False,
        fields: Row = ROW,
    ) -> tuple[LogHead | None, Iterable[Row]]:
        """Return the head, and the documents at these places, which may not belong to the log.

        The head is read first, so that the messages it counts are found, unless the log was changed
        in between.
        """
        sessions = self.scope.rows(SESSIONS, latest=latest)
        messages = self.scope.messages(latest=latest)
        where = {"session_id": self.session_id, **places}
        pipeline: list[Row] = [{"$match": where}, *stages, {"$project": fields}]
        if apart or self.scope.unit is not None:  # a transaction does not allow $unionWith
            row = sessions.find_one({"_id": self.session_id}, HEAD, session=self.scope.unit)
            if not stages:
                found = messages.find(where, ROW, session=self.scope.unit)
                return self.head_of(row), found.batch_size(BATCH)
            ordered = messages.aggregate(pipeline, session=self.scope.unit, batchSize=BATCH)
            return self.head_of(row), ordered
        union = {"coll": messages.name, "pipeline": pipeline}
        rows = sessions.aggregate(
            [{"$match": {"_id": self.session_id}}, {"$project": HEAD}, {"$unionWith": union}],
            batchSize=BATCH,
        )
        first = next(rows, None)
        if first is None or "_id" in first:
            return self.head_of(first), rows
        # There is no session, or the head comes later: a union has no fixed order in MongoDB.
        rows.close()
        return self.fetch(places, *stages, latest=latest, apart=True, fields=fields)

    def publish(
        self, head: LogHead, at: int, changed: Row, pending: Row | None = None
    ) -> LogHead | None:
        """Change the head and begin a new term, if the head is still this one.

        Return the new head, or ``None`` if another call has changed it.
        """
        term = Int64(head.term + 1)
        if pending:
            changed = {**changed, "pending": pending}
        if not self.change_head(head, at, {"$set": {**changed, "term": term}}):
            return None
        new = {"count": head.count, "generation": head.generation, **changed}
        return LogHead(head.log, term, new["count"], new["generation"], pending)

    def change_head(self, head: LogHead, at: int, change: Mapping[str, Any]) -> bool:
        """Change the head, and raise the session's `updated_at`, if the head is still this one.

        Return whether it was.
        """
        where = {
            "_id": self.session_id,
            "log": head.log,
            "term": head.term,
            "count": head.count,
            "pending": None,
            "held.by": self._holding,
        }
        if self._holding is not None:
            change = {**change, "$unset": {"held": ""}}
        times = {
            "$max": {"updated_at": Int64(at)},
            "$min": {"active": place(at // 1000, self.session_id)},
        }
        changed = self.scope.rows(SESSIONS).update_one(
            where, {**change, **times}, session=self.scope.unit
        )
        self._holding = None
        return changed.matched_count == 1

    def settle(self, head: LogHead) -> None:
        """Move the staged messages of `head.pending` to their positions.

        Any number of calls may do this at once, and at any later time: nothing is staged under this
        token again, and messages of an older term at these positions stay dead.
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
            # A dead message at a later position has one of the ids, or a simple append that is
            # under way has stored a message in between.
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
                hint=BY_POSITION,
                session=self.scope.unit,
            )

    def remove_dead(self, head: LogHead, first: int, last: int = FURTHEST) -> None:
        """Remove the messages of older terms at the positions from `first` to `last`."""
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
