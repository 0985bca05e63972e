"""Cutting, replacing and copying messages of logs. `log.py` states the rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bson import Int64, ObjectId

from agentx_persistence._mongodb.database import BY_POSITION, Row
from agentx_persistence._mongodb.documents import Documents
from agentx_persistence._mongodb.head import LogHead, found_of, new_head
from agentx_persistence._mongodb.log import CHUNK, Log
from agentx_persistence._mongodb.scope import Scope
from agentx_persistence._mongodb.staging import Messages, Staging
from agentx_persistence.errors import RecordNotFoundError
from agentx_persistence.storage import SESSIONS, Document, Entry, Found


class Rewriting:
    """One call that cuts, replaces or copies messages. It can be run again after a failure."""

    def __init__(self, scope: Scope, session_id: str, at: int = 0) -> None:
        self._scope, self._log, self._at = scope, Log(scope, session_id), at
        self._session_id = session_id
        self._staging = Staging(self._log, Messages(scope, session_id))
        self._copied: int | None = None

    def _hold(self, attempt: int, entries: Sequence[Entry]) -> None:
        """Hold the head, if other writers have been faster in earlier attempts."""
        if attempt > 1 and self._scope.unit is None:
            if entries:
                self._staging.stage(entries)
            self._log.hold(len(entries))

    def _look(self, ids: Sequence[str]) -> tuple[LogHead, Mapping[str, Row]]:
        head, found = self._log.look(ids)
        if head is None:
            self._staging.discard()
        return self._log.require(head), found

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
        for attempt, _ in enumerate(log.scope.attempts(log.what)):
            self._hold(attempt, entries)
            head, found = self._look([*dict.fromkeys([*ids, *named])])
            answered, _, number = head.generation.rpartition(".")
            if answered == token:
                log.release()
                if number != "0":  # the earlier attempt may have failed before it did this
                    self._clear(head, int(number))
                return int(number)
            kept = self._kept(head, after, found)
            there = {id: found[id] for id in ids if id in found}
            if (
                expected not in (None, head.count)
                or generation not in (None, head.generation)
                or any(row["position"] <= kept for row in there.values())
            ):
                self._staging.discard()
                return found_of(head, there)
            self._staging.check(head, again)
            again = False
            cut = int(head.count) - kept
            changed = {
                "count": Int64(kept + len(entries)),
                "generation": f"{token}.{cut}",
            }
            pending = self._staging.pending(entries, kept + 1, cut=True) if entries else None
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
                self._staging.discard()
                raise RecordNotFoundError("message", after)
            return int(found[after]["position"])
        kept = after or 0
        if kept > head.count:
            self._staging.discard()
            raise RecordNotFoundError("message", f"#{kept}")
        return kept

    def _clear(self, head: LogHead, cut: int) -> None:
        """Remove the messages that were cut off, in chunks, from the last one to the first."""
        first = int(head.count) + 1
        for start in reversed(range(first + CHUNK, first + cut, CHUNK)):
            self._log.remove_dead(head, start)
        self._log.remove_dead(head, first)

    def swap(self, entry: Entry, token: str, again: bool) -> None:
        log = self._log
        for attempt, _ in enumerate(log.scope.attempts(log.what)):
            self._hold(attempt, [entry])
            head, found = self._look([entry.id])
            if head.generation == token:
                log.release()
                return
            if entry.id not in found:
                self._staging.discard()
                raise RecordNotFoundError("message", entry.id)
            self._staging.check(head, again)
            again = False
            pending = self._staging.pending([entry], found[entry.id]["position"], cut=False)
            published = log.publish(head, self._at, {"generation": token}, pending)
            if published is not None:
                log.settle(published)
                return
        raise AssertionError

    def fork(self, through: str | None, document: Document) -> int | None:
        log, documents = self._log, Documents(self._scope, SESSIONS)
        target = Messages(self._scope, document.key)
        for _ in log.scope.attempts(log.what):
            # This comes first, because others may have changed or deleted the log since.
            if self._copied is not None and self._has_made(document):
                return self._copied
            head, found = self._look([] if through is None else [through])
            if through is not None and through not in found:
                raise RecordNotFoundError("message", through)
            count = int(head.count if through is None else found[through]["position"])
            if documents.revision(document.key) is not None:
                return self._copied if self._has_made(document) else None
            documents.check(document)  # before messages are copied that no session would have
            self._copied, token = count, ObjectId()
            self._copy(head, count, document.key, token)
            now = log.find_head()
            if now is None or now.is_past(head):  # the log was changed while it was copied
                target.discard(token, count)
                continue
            if documents.insert(document, new_head(document.revision, token, count)):
                return count
            target.discard(token, count)
        raise AssertionError

    def _has_made(self, document: Document) -> bool:
        """Return whether an earlier attempt has made this session.

        Others may have changed its revision or its generation since.
        """
        revision = Documents(self._scope, SESSIONS).revision(document.key)
        copy = Log(self._scope, document.key).find_head()
        return document.revision in (revision, copy and copy.generation)

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
            else:  # a transaction does not allow $merge
                rows = list(messages.aggregate(pipeline, session=self._scope.unit))
                messages.insert_many(rows, session=self._scope.unit)
