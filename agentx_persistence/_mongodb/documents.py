"""Saving and finding the documents of one kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bson import Int64
from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from agentx_persistence._mongodb.clients import Rows
from agentx_persistence._mongodb.database import BATCH, BY_POSITION, Row
from agentx_persistence._mongodb.head import new_head, text_of
from agentx_persistence._mongodb.ordering import filter_of, order_of, place
from agentx_persistence._mongodb.scope import Scope
from agentx_persistence.errors import BackendUnavailableError, CorruptRecordError
from agentx_persistence.storage import (
    SESSIONS,
    Document,
    Kind,
    Listing,
    Place,
    Query,
    Stored,
)

_ROW = {"text": 1, "created_at": 1, "updated_at": 1, "revision": 1, "place": 1}
_THERE, _HIDDEN = {"$gt": ""}, None
# How many keys one command contains at most.
_KEYS = 10_000


class Documents:
    """The documents of one kind.

    A document whose deletion has begun has no `place`. It is hidden: only deletions find it, and
    writes, which may create a new document under its key.
    """

    def __init__(self, scope: Scope, kind: Kind) -> None:
        self._scope, self._kind = scope, kind

    @property
    def _rows(self) -> Rows:
        return self._scope.rows(self._kind)

    def put(self, document: Document, again: bool) -> None:
        if again and self.revision(document.key) == document.revision:
            return
        head = new_head(document.revision) if self._kind is SESSIONS else {}
        change = self._change(document)
        if self._scope.unit is not None and self._revive(document, head):
            return
        if head:
            change["$setOnInsert"] = head
        for _ in self._scope.attempts(f"{self._kind.noun} {document.key!r}"):
            where = {"_id": document.key, "place": _THERE}
            try:
                self._rows.update_one(where, change, upsert=True, session=self._scope.unit)
                return
            except DuplicateKeyError:  # it is hidden, or another call has just created it
                if self._scope.unit is not None:
                    raise
            if self._revive(document, head):
                return

    def create(self, document: Document, again: bool) -> bool:
        for _ in self._scope.attempts(f"{self._kind.noun} {document.key!r}"):
            head = new_head(document.revision) if self._kind is SESSIONS else {}
            if self._scope.unit is not None and self.revision(document.key) is not None:
                return False  # looked up first, because a refused insert would end the transaction
            if self.insert(document, head):
                return True
            revision = self.revision(document.key)
            if revision == document.revision:
                return True
            if revision is not None:
                if again:
                    raise cannot_tell(self._kind, document.key)
                return False
        raise AssertionError

    def check(self, document: Document) -> None:
        """:raises RecordTooLargeError: if the server would refuse the document"""
        self._row(document)

    def insert(self, document: Document, head: Row) -> bool:
        """Create the document, with the head of its log; return False if its key is taken."""
        if self._scope.unit is not None and self._revive(document, head):
            return True
        row = {"_id": document.key, **self._row(document), **head}
        try:
            self._rows.insert_one(row, session=self._scope.unit)
        except DuplicateKeyError:
            if self._scope.unit is not None:
                raise
            return self._revive(document, head) or self._is_there(document)
        return True

    def _is_there(self, document: Document) -> bool:
        """Return whether this call has created the document: pymongo repeats an insert whose answer
        was lost, and the repetition finds the key taken."""
        rows = self._scope.rows(self._kind, latest=True)
        return rows.find_one({"_id": document.key, "revision": document.revision}) is not None

    def _revive(self, document: Document, head: Row) -> bool:
        """Create the document in place of a hidden one; return False if there is none."""
        change = self._change(document)
        change["$set"].update(head)
        change["$unset"] = {**change.get("$unset", {}), "hidden": "", "pending": "", "held": ""}
        old = self._rows.find_one_and_update(
            {"_id": document.key, "place": _HIDDEN},
            change,
            {"log": 1, "pending": 1},
            return_document=ReturnDocument.BEFORE,
            session=self._scope.unit,
        )
        if old is not None and head:
            self.forget_logs({document.key: old})
        return old is not None

    def forget_logs(self, hidden: Mapping[str, Row]) -> None:
        """Remove the messages of hidden sessions.

        Staged ones (see `log.py`) are removed first, as other calls may be moving them to the log.
        """
        tokens = [row["pending"]["log"] for row in hidden.values() if row.get("pending")]
        for some in (tokens, [row["log"] for row in hidden.values() if "log" in row]):
            if some:
                self._scope.messages().delete_many(
                    {"session_id": {"$in": list(hidden)}, "log": {"$in": some}},
                    hint=BY_POSITION,
                    session=self._scope.unit,
                )

    def replace(self, document: Document, revision: str, again: bool) -> bool:
        where = {"_id": document.key, "revision": revision, "place": _THERE}
        changed = self._rows.update_one(where, self._change(document), session=self._scope.unit)
        if changed.matched_count:
            return True
        if not again:
            return False
        if self.revision(document.key) != document.revision:
            raise cannot_tell(self._kind, document.key)
        return True

    def revision(self, key: str) -> str | None:
        """Return the revision of the document, or ``None`` if there is none."""
        rows = self._scope.rows(self._kind, latest=True)
        row = rows.find_one(
            {"_id": key, "place": _THERE}, {"revision": 1}, session=self._scope.unit
        )
        return None if row is None else row.get("revision", "")

    def get(self, keys: Sequence[str]) -> dict[str, Stored]:
        found: dict[str, Stored] = {}
        for start in range(0, len(keys), _KEYS):
            some = list(keys[start : start + _KEYS])
            where: Row = {"_id": some[0] if len(some) == 1 else {"$in": some}}
            rows = self._rows.find(where, _ROW, session=self._scope.unit)
            for row in rows.batch_size(BATCH):
                if "place" in row:
                    found[row["_id"]] = self._stored(row)
        return found

    def find(self, query: Query) -> Listing:
        if query.limit == 0:  # to MongoDB, 0 means no limit
            return Listing([], None)
        order = order_of(query)
        rows = self._rows.find(filter_of(query), _ROW, session=self._scope.unit)
        rows = rows.sort(order, -1 if query.order == "oldest" else 1)
        if order == "_id":
            rows = rows.hint("_id_")
        if query.limit is None:
            found = list(rows.batch_size(BATCH))
        else:
            # With a batch of exactly the limit, the server would keep a cursor, and closing it
            # would take another command.
            found = list(rows.limit(query.limit + 1).batch_size(query.limit + 2))
        listed = found[: query.limit]
        documents = [self._stored(row) for row in listed]
        if len(listed) == len(found):
            return Listing(documents, None)
        last = listed[-1]
        time = last["updated_at"] // 1000 if order == "active" else last["created_at"]
        return Listing(documents, Place(0 if order == "_id" else time, last["_id"]))

    def count(self, query: Query) -> int:
        if query.limit == 0:
            return 0
        options: dict[str, Any] = {} if query.limit is None else {"limit": query.limit}
        if query.order == "key":
            options["hint"] = "_id_"
        where = filter_of(query)
        return self._rows.count_documents(where, session=self._scope.unit, **options)

    def _row(self, document: Document) -> Row:
        row: Row = {
            **document.fields,
            "text": document.text,
            "created_at": Int64(document.created_at),
            "updated_at": Int64(document.updated_at),
            "place": place(document.created_at, document.key),
            "revision": document.revision,
        }
        if self._kind.active:
            row["active"] = place(document.updated_at // 1000, document.key)
        self._scope.check_size(self._kind.noun, document.key, row)
        return row

    def _change(self, document: Document) -> dict[str, Row]:
        change = {"$set": self._row(document)}
        if absent := set(self._kind.fields) - document.fields.keys():
            change["$unset"] = dict.fromkeys(sorted(absent), "")
        return change

    def _stored(self, row: Row) -> Stored:
        try:
            row["created_at"]  # raises if it is missing: the place in listings depends on it
            return Stored(row["_id"], text_of(row), row["updated_at"], row.get("revision", ""))
        except KeyError as error:
            where = f"{self._scope.database.where(self._kind, row['_id'])}, field {error}"
            raise CorruptRecordError(self._kind.noun, row["_id"], where) from error


def cannot_tell(kind: Kind, key: str) -> BackendUnavailableError:
    """Return the error for a call that may or may not have been applied."""
    return BackendUnavailableError(
        "mongodb",
        f"other clients changed {kind.noun} {key!r} while the server could not be reached; read"
        " it to see whether this call was applied",
    )
