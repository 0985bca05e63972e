"""Appending to a log.

`log.py` explains the head of a log, and what it means to stage messages and to hold the head.

A simple append reads the head, stores its messages after the last one, and raises `count` over
them. If two writers do this at once, one succeeds and the other one tries again. A batch that has
failed once, or an append that has failed a few times, stages its messages and holds the head. From
then on the messages are not stored again, however often it fails, and other writers wait only for a
read and an update. In a transaction, messages are staged at once, and the head is not held.
"""

from __future__ import annotations

from collections.abc import Sequence

from bson import Int64, ObjectId
from pymongo.errors import BulkWriteError, DuplicateKeyError

from agentx_persistence._mongodb.database import Row
from agentx_persistence._mongodb.documents import Documents
from agentx_persistence._mongodb.failures import is_duplicate
from agentx_persistence._mongodb.head import LogHead, found_of, new_head
from agentx_persistence._mongodb.log import Log
from agentx_persistence._mongodb.scope import Scope
from agentx_persistence._mongodb.staging import Messages, Staging
from agentx_persistence.storage import SESSIONS, Document, Entry, Found, Head

# More messages than this are a batch.
_FEW = 10
# How often a simple append is tried before messages are staged. A batch costs more to repeat.
_SIMPLE_ATTEMPTS, _OF_A_BATCH = 10, 1


class Append:
    """One append, which can be run again after a failure."""

    def __init__(self, scope: Scope, session_id: str, entries: Sequence[Entry], at: int) -> None:
        self._scope, self._log, self._at = scope, Log(scope, session_id), at
        self._entries = entries
        self._ids = [entry.id for entry in entries]
        self._messages = Messages(scope, session_id)
        self._staging = Staging(self._log, self._messages)
        self._in_transaction = scope.unit is not None

    def run(
        self,
        create: Document | None,
        expected: int | None,
        generation: str | None,
        again: bool,
    ) -> int | Found:
        """:param again: whether an earlier attempt may have been applied; only a look-up of the ids
        shows if it was
        """
        log, found = self._log, dict[str, Row]()
        for attempt, _ in enumerate(log.scope.attempts(log.what)):
            # No index keeps a staged message from having an id that the log has, and only the ids
            # show that an earlier attempt was applied. In both cases the ids are looked up first.
            looked = attempt > 0 or again or not self._is_simple(attempt)
            if looked:
                head, found = log.look(self._ids, apart=True)
            else:
                head = log.find_head()
            if head is not None and not found and self._is_to_hold(attempt):
                self._staging.stage(self._entries)
                log.hold(len(self._entries))
                head, found = log.look(self._ids, apart=True, since=head)
            if head is None:
                self._staging.discard()
                if create is None:
                    log.require(None)
                elif expected not in (None, 0) or generation not in (None, create.revision):
                    return Found(Head(0, ""), {})
                elif self._create(create):
                    return len(self._entries)
            elif (
                found
                or expected not in (None, head.count)
                or generation not in (None, head.generation)
            ):
                self._staging.discard()
                return found_of(head, found) if looked else self._look_up()
            elif not self._entries:
                return int(head.count)
            else:
                self._staging.check(head, again)
                again = False
                if self._add(head, attempt):
                    return int(head.count) + len(self._entries)
        raise AssertionError

    def _look_up(self) -> Found:
        head, found = self._log.look(self._ids, apart=True)
        return found_of(self._log.require(head), found)

    def _is_simple(self, attempt: int) -> bool:
        if self._in_transaction:
            return False
        return attempt < (_OF_A_BATCH if len(self._entries) > _FEW else _SIMPLE_ATTEMPTS)

    def _is_to_hold(self, attempt: int) -> bool:
        return bool(self._entries) and not self._in_transaction and not self._is_simple(attempt)

    def _add(self, head: LogHead, attempt: int) -> bool:
        """Add the entries; return False if another writer was faster."""
        if not self._is_simple(attempt):
            return self._add_staged(head)
        if attempt > 1:  # dead messages may be in the way, not only another writer
            self._log.remove_dead(head, int(head.count) + 1)
        return self._add_simply(head)

    def _add_simply(self, head: LogHead) -> bool:
        log = self._log
        rows = self._messages.rows_of(self._entries, head.log, head.term, head.count + 1)
        try:
            self._messages.insert(rows)
        except DuplicateKeyError:  # raised for a single row, of which nothing was stored
            return False
        except BulkWriteError as error:
            if not is_duplicate(error):
                raise
            self._messages.remove(rows[: error.details["nInserted"]])
            return False
        count = Int64(head.count + len(self._entries))
        if log.change_head(head, self._at, {"$set": {"count": count}}):
            return True
        # pymongo repeats an update whose answer was lost. If the server does not recognise the
        # repetition, it finds the head changed by the first attempt. So look for the messages.
        latest, found = log.look(self._ids, apart=True)
        if latest is not None and latest.log == head.log and len(found) == len(rows):
            return True
        if latest is None or latest.is_past(head):
            self._messages.remove(rows)  # they are dead by rule 2 of `log.py`
        return False

    def _add_staged(self, head: LogHead) -> bool:
        pending = self._staging.pending(self._entries, head.count + 1, cut=True)
        count = Int64(head.count + len(self._entries))
        published = self._log.publish(head, self._at, {"count": count}, pending)
        if published is not None:
            self._log.settle(published)
        return published is not None

    def _create(self, document: Document) -> bool:
        """Create the session with these messages; return False if its key is taken."""
        documents, token = Documents(self._scope, SESSIONS), ObjectId()
        documents.check(document)  # before messages are stored that would belong to no session
        rows = self._messages.rows_of(self._entries, token, 0, 1)
        self._messages.insert(rows)
        if rows and self._at > document.updated_at:
            document = document._replace(updated_at=self._at)
        head = new_head(document.revision, token, len(rows))
        if documents.insert(document, head):
            return True
        self._messages.remove(rows)
        return False
