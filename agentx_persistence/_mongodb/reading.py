"""Reading logs. `log.py` states the rules.

A reader reads the head and then the messages, and another call may change the log in between. If a
message has a newer term than the head, or is missing, the reader reads both again.
"""

from __future__ import annotations

from collections.abc import Sequence

from agentx_persistence._mongodb.database import BATCH, MESSAGES, Row
from agentx_persistence._mongodb.head import HEAD, ROW, LogHead, found_of, text_of
from agentx_persistence._mongodb.log import FURTHEST, Log
from agentx_persistence._mongodb.scope import Scope
from agentx_persistence.errors import CorruptRecordError, RecordNotFoundError
from agentx_persistence.storage import SESSIONS, Found, Slice, Window

# How many messages are expected in a window that is limited only by their size in bytes.
_MANY = 1_000


class _MissingError(Exception):
    """A position of the log has no message among those that were read.

    The message may have been moved meanwhile. It is certainly lost if all messages of the log were
    read, and if the head is the same when it is read again.
    """

    def __init__(self, head: LogHead, position: int, *, all_were_read: bool) -> None:
        self.head, self.position, self.all_were_read = head, position, all_were_read


def look_up(scope: Scope, session_id: str, ids: Sequence[str]) -> Found:
    log = Log(scope, session_id)
    head, rows = log.look(ids, latest=False)
    return found_of(log.require(head), rows)


class Reading:
    """Reads one window of a log."""

    def __init__(self, scope: Scope, session_id: str, window: Window) -> None:
        self._scope, self._log, self._window = scope, Log(scope, session_id), window
        self._backwards = window.last is not None
        self._limit = window.last if window.first is None else window.first

    def read(self) -> Slice:
        log, missing = self._log, None
        for _ in log.scope.attempts(log.what):
            named, after, before = self._bounds()
            if self._limit == 0:
                head = named or log.require(log.find_head(latest=False))
                return Slice([], min(after, int(head.count)) + 1, head.public)
            try:
                found = self._page(named, after, before, missing)
            except _MissingError as error:
                if missing is not None and missing.all_were_read and missing.head == error.head:
                    self._report(error.position)
                missing = error
                continue
            if found is not None:
                return found
        raise AssertionError

    def _bounds(self) -> tuple[LogHead | None, int, int]:
        """Return the positions just before and just after the window. If the window names ids, also
        return the head with which they were found."""
        after, before = self._window.after, self._window.before
        ids = [end for end in (after, before) if isinstance(end, str)]
        head, rows = self._log.look(ids, latest=False) if ids else (None, {})
        if ids:
            self._log.require(head)
        for id in ids:
            if id not in rows:
                raise RecordNotFoundError("message", id)
        low = rows[after]["position"] if isinstance(after, str) else after or 0
        high = rows[before]["position"] if isinstance(before, str) else before
        return head, int(low), FURTHEST if high is None else int(high)

    def _page(
        self, named: LogHead | None, after: int, before: int, missing: _MissingError | None
    ) -> Slice | None:
        """Return the window between these positions, or ``None`` if it has to be read again."""
        log, places = self._log, Row(position={"$gt": after, "$lt": before})
        if missing is not None:
            # Messages that do not belong to the log may have used up the limit. Leave them out.
            places["position"]["$lte"] = missing.head.count
            places |= {"log": missing.head.log}
        stages: list[Row] = [{"$sort": {"position": -1 if self._backwards else 1}}]
        if self._limit is not None:
            stages.append({"$limit": self._limit})
        size = self._window.size
        fields = ROW if size is None else _fields(size // (self._limit or _MANY))
        # The server may return a union in any order, and then one seems to be missing.
        apart = missing is not None
        head, rows = log.fetch(places, *stages, latest=False, apart=apart, fields=fields)
        head = log.require(head)
        if head.pending is not None:
            log.settle(head)
            return None
        if named is not None and head.is_past(named):
            return None
        count = int(head.count)
        low, high = min(after, count), min(before - 1, count)
        if self._limit is not None:
            if self._backwards:
                low = max(low, high - self._limit)
            else:
                high = min(high, low + self._limit)
        positions = range(high, low, -1) if self._backwards else range(low + 1, high + 1)
        taken: list[Row] = []
        remaining = iter(positions)
        position = next(remaining, None)
        for row in rows if position is not None else ():
            if not head.holds(row):
                continue
            if row["position"] != position:
                break
            if row["term"] > head.term:
                return None
            if size is not None:
                size -= row["bytes"]
                if size < 0 and taken:
                    position = None
                    break
            taken.append(row)
            position = next(remaining, None)
            if position is None:
                break
        if position is not None:
            whole = missing is not None and missing.head == head
            raise _MissingError(head, position, all_were_read=whole)
        if not self._complete(taken):
            return None
        texts = [text_of(row) for row in taken]
        if self._backwards:
            texts.reverse()
            low = high - len(texts)
        return Slice(texts, low + 1, head.public)

    def _complete(self, rows: Sequence[Row]) -> bool:
        """Read the texts that were too long to be read at first; return whether all still exist."""
        lacking = {row["position"]: row for row in rows if row.get("bytes") and "text" not in row}
        if not lacking:
            return True
        log = rows[0]["log"]
        where = {"session_id": self._log.session_id, "position": {"$in": [*lacking]}, "log": log}
        found = self._scope.messages().find(where, ROW, session=self._scope.unit)
        for row in found.batch_size(BATCH):
            if row["term"] == lacking[row["position"]]["term"]:
                lacking.pop(row["position"])["text"] = row.get("text")
        return not lacking

    def _report(self, position: int) -> None:
        where = self._scope.database.where(SESSIONS, self._log.session_id, position)
        raise CorruptRecordError("message", f"#{position}", where)


def _fields(longest: int) -> Row:
    """Return the fields to read for a window with a size: no text of more than `longest` bytes.

    With all texts, the reply could be many times as large as the window.
    """
    is_text = {"$eq": [{"$type": "$text"}, "string"]}
    length = {"$cond": [is_text, {"$strLenBytes": "$text"}, 0]}
    text = {"$cond": [{"$gt": [length, longest]}, "$$REMOVE", "$text"]}
    return {**ROW, "text": text, "bytes": length}


def read_newest(scope: Scope, session_ids: Sequence[str]) -> dict[str, Slice]:
    """Return the last message and the head of each log that exists.

    This takes one command, and more if other calls change the logs meanwhile.
    """
    found: dict[str, Slice] = {}
    missing: dict[str, LogHead] = {}
    wanted = list(dict.fromkeys(session_ids))
    for _ in scope.attempts("these sessions"):
        again: list[str] = []
        for row in _newest_rows(scope, wanted):
            id, log = row["_id"], Log(scope, row["_id"])
            head = log.head_of(row)
            if head is None:
                continue
            last = next((each for each in row["last"] if head.holds(each)), None)
            if head.pending is not None:
                log.settle(head)
                again.append(id)
            elif head.count == 0:
                found[id] = Slice([], 1, head.public)
            elif last is not None and last["term"] <= head.term:
                found[id] = Slice([text_of(last)], int(head.count), head.public)
            elif last is None and missing.get(id) == head:
                where = scope.database.where(SESSIONS, id, int(head.count))
                raise CorruptRecordError("message", f"#{head.count}", where)
            else:
                missing[id] = head
                again.append(id)
        wanted = again
        if not wanted:
            return found
    raise AssertionError


def _newest_rows(scope: Scope, session_ids: Sequence[str]) -> list[Row]:
    same = [["$session_id", "$$id"], ["$position", "$$count"], ["$log", "$$log"]]
    last = {
        "from": scope.database.prefix + MESSAGES,
        "let": {"id": "$_id", "count": "$count", "log": "$log"},
        "pipeline": [
            {"$match": {"$expr": {"$and": [{"$eq": pair} for pair in same]}}},
            {"$project": ROW},
        ],
        "as": "last",
    }
    rows = scope.rows(SESSIONS).aggregate(
        [
            {"$match": {"_id": {"$in": list(session_ids)}}},
            {"$project": HEAD},
            {"$lookup": last},
        ],
        session=scope.unit,
        batchSize=BATCH,
    )
    return list(rows)
