"""Changing logs; `log.py` has the rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bson import Int64, ObjectId
from pymongo.errors import BulkWriteError

from agentx_persistence._mongodb.database import BY_POSITION, Row
from agentx_persistence._mongodb.documents import Documents
from agentx_persistence._mongodb.failures import is_duplicate
from agentx_persistence._mongodb.log import CHUNK, Log, LogHead, new_head, text_of
from agentx_persistence._mongodb.scope import Scope
from agentx_persistence.errors import BackendUnavailableError, RecordNotFoundError
from agentx_persistence.storage import SESSIONS, Document, Entry, Found, Head

# So many simple appends are tried before the messages are staged; see `log.py`. A batch costs more
# to repeat.
_SIMPLE_ATTEMPTS, _FEW = 5, 10


class Writing:
    """One call that changes the log of a session; use it once."""

    def __init__(self, scope: Scope, session_id: str, at: int) -> None:
        self._scope, self._log, self._at = scope, Log(scope, session_id), at
        self._session_id = session_id
        self._begun_at: LogHead | None = None
        self._staged: tuple[ObjectId, int] | None = None

    def append(
        self,
        entries: Sequence[Entry],
        create: Document | None,
        expected: int | None,
        generation: str | None,
        again: bool,
    ) -> int | Found:
        log = self._log
        ids = [entry.id for entry in entries]
        found: Mapping[str, Row] = {}
        # Only its ids tell that a repeated append was applied; in a transaction nothing may fail.
        if again or self._scope.unit is not None:
            head, found = log.look(ids)
        else:
            head = log.find_head()
        beaten = self._scope.unit is not None
        simple = 0 if beaten else 1 if len(entries) > _FEW else _SIMPLE_ATTEMPTS
        for _ in log.scope.attempts(log.what):
            if found:
                return self._found(log.require(head), found)
            if head is None:
                if create is None:
                    log.require(None)
                elif expected not in (None, 0) or generation is not None:
                    return Found(Head(0, ""), {})
                elif self._create(create, entries):
                    return len(entries)
            elif expected not in (None, head.count) or generation not in (None, head.generation):
                return self._found(*self._look(ids))
            elif not entries:
                return int(head.count)
            else:
                self._check(head, again)
                again = False
                if simple > 0:
                    simple -= 1
                    if beaten:
                        log.remove_dead(head, int(head.count) + 1)
                    added = self._add(head, entries)
                else:
                    added = self._add_staged(head, entries)
                if added:
                    return int(head.count) + len(entries)
                beaten = True
            head, found = log.look(ids)
        raise AssertionError

    def _look(self, ids: Sequence[str]) -> tuple[LogHead, Mapping[str, Row]]:
        head, found = self._log.look(ids)
        return self._log.require(head), found

    def _found(self, head: LogHead, rows: Mapping[str, Row]) -> Found:
        self._discard()
        return Found(head.public, {id: (int(r["position"]), text_of(r)) for id, r in rows.items()})

    def _check(self, head: LogHead, again: bool) -> None:
        """Refuse to repeat an attempt that may have been applied, and undone by others since."""
        begun_at, self._begun_at = self._begun_at, head
        if again and begun_at is not None and begun_at.generation != head.generation:
            raise BackendUnavailableError(
                "mongodb",
                f"{self._log.what} was changed by others while the server could not be reached; "
                "read it to see whether this call was applied",
            )

    def _add(self, head: LogHead, entries: Sequence[Entry]) -> bool:
        """Store the messages after the last one, and count them, if no other writer is faster."""
        log = self._log
        rows = log.rows_of(entries, head.log, head.term, head.count + 1)
        try:
            log.insert(rows)
        except BulkWriteError as error:
            if not is_duplicate(error):
                raise
            self._remove(rows[: error.details["nInserted"]])
            return False
        count = Int64(head.count + len(entries))
        if log.change_head(head, self._at, {"$set": {"count": count}}):
            return True
        self._remove(rows)
        return False

    def _remove(self, rows: Sequence[Row]) -> None:
        """Remove messages of our own that are dead."""
        for start in range(0, len(rows), CHUNK):
            own = [row["_id"] for row in rows[start : start + CHUNK]]
            self._scope.messages().delete_many(
                {"session_id": self._session_id, "_id": {"$in": own}}, hint="_id_"
            )

    def _add_staged(self, head: LogHead, entries: Sequence[Entry]) -> bool:
        log = self._log
        pending = self._pending(entries, head.count + 1, cut=True)
        published = log.publish(
            head, self._at, {"count": Int64(head.count + len(entries))}, pending
        )
        if published is None:
            return False
        log.settle(published)
        return True

    def _pending(self, entries: Sequence[Entry], first: int, *, cut: bool) -> Row:
        """Stage the entries, once, and describe where they belong.

        :param cut: whether what follows them is dead
        """
        if self._staged is None:
            self._staged = self._log.stage(entries), len(entries)
        token, count = self._staged
        return {"log": token, "first": Int64(first), "count": Int64(count), "cut": cut}

    def _discard(self) -> None:
        if self._staged is not None:
            self._log.discard(*self._staged)
            self._staged = None

    def _create(self, document: Document, entries: Sequence[Entry]) -> bool:
        """Create the session with these messages; tell whether its key was free."""
        token = ObjectId()
        rows = self._log.rows_of(entries, token, 0, 1)
        self._log.insert(rows)
        if entries and self._at > document.updated_at:
            document = document._replace(updated_at=self._at)
        head = new_head(document.revision, token, len(entries))
        if Documents(self._scope, SESSIONS).insert(document, head):
            return True
        self._remove(rows)
        return False

    def rewrite(
        self,
        after: str | int | None,
        entries: Sequence[Entry],
        token: str,
        expected: int | None,
        generation: str | None,
        again: bool,
    ) -> int | Found:
        log = self._log
        ids = [entry.id for entry in entries]
        named = [after] if isinstance(after, str) else []
        for _ in log.scope.attempts(log.what):
            head, found = self._look([*dict.fromkeys([*ids, *named])])
            answered, _, number = head.generation.rpartition(".")
            if answered == token:
                return int(number)
            kept = self._kept(head, after, found)
            there = {id: found[id] for id in ids if id in found}
            if (
                expected not in (None, head.count)
                or generation not in (None, head.generation)
                or any(row["position"] <= kept for row in there.values())
            ):
                return self._found(head, there)
            self._check(head, again)
            again = False
            cut = int(head.count) - kept
            changed = {
                "count": Int64(kept + len(entries)),
                "generation": f"{token}.{cut}",
            }
            pending = self._pending(entries, kept + 1, cut=True) if entries else None
            published = log.publish(head, self._at, changed, pending)
            if published is not None:
                if pending:
                    log.settle(published)
                if cut > len(entries) or not entries:
                    self._clear(published, cut)
                return cut
        raise AssertionError

    def _kept(self, head: LogHead, after: str | int | None, found: Mapping[str, Row]) -> int:
        if isinstance(after, str):
            if after not in found:
                self._discard()
                raise RecordNotFoundError("message", after)
            return int(found[after]["position"])
        kept = after or 0
        if kept > head.count:
            self._discard()
            raise RecordNotFoundError("message", f"#{kept}")
        return kept

    def _clear(self, head: LogHead, cut: int) -> None:
        """Remove what was cut off and still lies after `count`, in chunks, the last one first."""
        first = int(head.count) + 1
        for start in reversed(range(first + CHUNK, first + cut, CHUNK)):
            self._log.remove_dead(head, start)
        self._log.remove_dead(head, first)

    def swap(self, entry: Entry, token: str, again: bool) -> None:
        log = self._log
        for _ in log.scope.attempts(log.what):
            head, found = self._look([entry.id])
            if head.generation == token:
                return
            if entry.id not in found:
                self._discard()
                raise RecordNotFoundError("message", entry.id)
            self._check(head, again)
            again = False
            pending = self._pending([entry], found[entry.id]["position"], cut=False)
            published = log.publish(head, self._at, {"generation": token}, pending)
            if published is not None:
                log.settle(published)
                return
        raise AssertionError

    def fork(self, through: str | None, document: Document) -> int | None:
        log, documents = self._log, Documents(self._scope, SESSIONS)
        target = Log(self._scope, document.key)
        for _ in log.scope.attempts(log.what):
            head, found = self._look([] if through is None else [through])
            if through is not None and through not in found:
                raise RecordNotFoundError("message", through)
            count = int(head.count if through is None else found[through]["position"])
            taken = documents.revision(document.key)
            if taken is not None:
                return count if taken == document.revision else None
            token = ObjectId()
            self._copy(head, count, document.key, token)
            now = log.find_head()
            if now is None or now.is_past(head):  # what was copied is not what was seen
                target.discard(token, count)
                continue
            if documents.insert(document, new_head(document.revision, token, count)):
                return count
            target.discard(token, count)
        raise AssertionError

    def _copy(self, head: LogHead, count: int, key: str, token: ObjectId) -> None:
        messages = self._scope.messages(latest=True)
        new = {"session_id": {"$literal": key}, "log": token, "term": Int64(0)}
        for start in range(1, count + 1, CHUNK):
            pipeline: list[Row] = [
                {
                    "$match": {
                        "session_id": self._session_id,
                        "position": {"$gte": start, "$lte": min(start + CHUNK - 1, count)},
                        "log": head.log,
                    }
                },
                {"$project": {"_id": 0}},
                {"$set": new},
            ]
            if self._scope.unit is None:
                pipeline.append({"$merge": {"into": messages.name, "whenMatched": "fail"}})
                messages.aggregate(pipeline, hint=dict(BY_POSITION)).close()
            else:  # in which $merge is not allowed
                rows = list(messages.aggregate(pipeline, session=self._scope.unit))
                messages.insert_many(rows, session=self._scope.unit)
