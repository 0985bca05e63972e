"""Deleting documents with all that they own.

Each document is hidden first, in one guarded update: it loses its `place`, and its log begins a new
term (see `log.py`), so that nothing can be added any more. Then all that it owns is deleted, and
last the document itself. An owned document that has been moved to another owner, or saved again,
stays. Repeating an interrupted deletion finishes it, as hidden documents are found by their owner
as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from bson import Int64, ObjectId
from pymongo import ReturnDocument

from agentx_persistence._mongodb.clients import TooLargeForTransactionError
from agentx_persistence._mongodb.database import BY_POSITION, Row
from agentx_persistence._mongodb.documents import Documents, cannot_tell
from agentx_persistence._mongodb.log import CHUNK
from agentx_persistence._mongodb.ordering import prefix_range
from agentx_persistence._mongodb.scope import Scope
from agentx_persistence.errors import CorruptRecordError
from agentx_persistence.storage import IMAGES, ITEMS, SESSIONS, Kind
from agentx_persistence.storage.kinds import SEPARATOR

# How many documents are deleted at a time.
_TOGETHER = 100
# Messages that belong to no log and are younger than this may belong to a call that is under way. A
# day is more than the clocks of two machines differ.
_ABANDONED_AFTER = timedelta(days=1)

_OWNED = {"revision": 1, "place": 1, "hidden": 1, "log": 1, "count": 1, "pending": 1}


class Deletion:
    """One deletion, which can be run again from its start."""

    def __init__(self, scope: Scope, most: int | None = None) -> None:
        """:param most: how many documents may be deleted; ``None``: any number"""
        self._scope, self._left = scope, most
        # The token shows an attempt that an earlier one has hidden the document.
        self._token, self._existed = ObjectId(), False

    def delete(self, kind: Kind, key: str, before: int | None, again: bool = False) -> bool:
        """Delete the document with all that it owns; return whether it existed.

        :param again: whether an earlier attempt may have hidden or deleted it
        """
        where: Row = {"_id": key}
        if before is not None:
            # A hidden document has been deleted already, whenever it changed. `$nor` uses no index,
            # so that the one of `_id` is used.
            where["$nor"] = [{"place": {"$gt": ""}, "updated_at": {"$not": {"$lt": before}}}]
        if kind is ITEMS:
            rows = self._scope.rows(ITEMS)
            return rows.delete_one(where, session=self._scope.unit).deleted_count == 1
        old = self._hide(kind, where)
        if old is None and before is not None and self._is_there(kind, key):
            if again and not self._existed:
                raise cannot_tell(kind, key)
            return self._existed
        if old is not None and ("place" in old or old.get("hidden") == self._token):
            self._existed = True
        if kind is SESSIONS:
            if old is not None:
                self._remove_hidden(kind, {key: old}, {})
            else:
                self._remove_abandoned([key])
        elif kind is IMAGES:
            self._remove_sessions({"image_id": key}, lambda: True)
            self._finish(kind, key, {})
        else:
            self._remove_images(key)
            self._remove_sessions({"container_id": key}, lambda: True)
            self._remove_items(key)
            self._finish(kind, key, {})
        return self._existed

    def _is_there(self, kind: Kind, key: str) -> bool:
        row = self._scope.rows(kind, latest=True).find_one(
            {"_id": key, "place": {"$gt": ""}}, {"updated_at": 1}, session=self._scope.unit
        )
        if row is not None and not isinstance(row.get("updated_at"), int):
            raise CorruptRecordError(kind.noun, key, self._scope.database.where(kind, key))
        return row is not None

    def _hide(self, kind: Kind, where: Mapping[str, Any]) -> Row | None:
        """Hide the document that `where` selects; return it as it was before, or ``None``.

        A document that is hidden already is returned as well.
        """
        found: Row | None = self._scope.rows(kind).find_one_and_update(
            where,
            self._hiding(kind),
            _OWNED,
            return_document=ReturnDocument.BEFORE,
            session=self._scope.unit,
        )
        return found

    def _hiding(self, kind: Kind) -> dict[str, Row]:
        change: dict[str, Row] = {
            "$unset": {"place": "", "active": ""},
            "$set": {"hidden": self._token},
        }
        if kind is SESSIONS:
            change["$inc"] = {"term": Int64(1)}
        return change

    def _finish(self, kind: Kind, key: str, where: Mapping[str, Any]) -> None:
        """Remove the document if it is still hidden."""
        hidden = {"_id": key, "place": None, **where}
        self._scope.rows(kind).delete_one(hidden, session=self._scope.unit)

    def _remove_images(self, container_id: str) -> None:
        images = self._scope.rows(IMAGES, latest=True)
        owned = {"container_id": container_id}
        for found in self._owned(IMAGES, owned):
            for id, row in found.items():
                mine = {"_id": id, "revision": row.get("revision"), **owned}
                if self._hide(IMAGES, mine) is None:
                    continue

                def is_hidden(mine: Mapping[str, Any] = mine) -> bool:
                    hidden = images.find_one({**mine, "place": None}, session=self._scope.unit)
                    return hidden is not None

                self._remove_sessions({"image_id": id}, is_hidden)
                self._finish(IMAGES, id, mine)

    def _remove_sessions(self, owner: Mapping[str, Any], may_go: Callable[[], bool]) -> None:
        """Remove the sessions of an owner.

        :param may_go: called each time sessions have been listed; returns whether to delete them.
            Sessions that are saved after that stay
        """
        sessions = self._scope.rows(SESSIONS)
        for found in self._owned(SESSIONS, owner):
            if not may_go():
                return
            listed = {
                "_id": {"$in": list(found)},
                "revision": {"$in": [row.get("revision") for row in found.values()]},
                **owner,
            }
            sessions.update_many(
                {**listed, "place": {"$gt": ""}},
                self._hiding(SESSIONS),
                hint="_id_",
                session=self._scope.unit,
            )
            hidden = self._scope.rows(SESSIONS, latest=True).find(
                {"_id": {"$in": list(found)}, "place": None, **owner},
                _OWNED,
                hint="_id_",
                session=self._scope.unit,
            )
            self._remove_hidden(SESSIONS, {row["_id"]: row for row in hidden}, owner)

    def _owned(self, kind: Kind, owner: Mapping[str, Any]) -> Iterator[dict[str, Row]]:
        """Yield the owner's documents, including hidden ones, in chunks until none are left.

        The caller must delete or move each chunk before it takes the next one.
        """
        rows = self._scope.rows(kind, latest=True)
        while True:
            found = {
                row["_id"]: row
                for row in rows.find(owner, _OWNED, session=self._scope.unit).limit(_TOGETHER)
            }
            if not found:
                return
            yield found

    def _remove_hidden(
        self, kind: Kind, hidden: Mapping[str, Row], owner: Mapping[str, Any]
    ) -> None:
        """Remove hidden sessions with their messages."""
        if not hidden:
            return
        for id, row in hidden.items():
            self._charge(1 + row.get("count", 0))
            if row.get("count", 0) > CHUNK:
                self._clear(id, row)
        Documents(self._scope, SESSIONS).forget_logs(hidden)
        self._remove_abandoned(list(hidden))
        self._scope.rows(kind).delete_many(
            {
                "_id": {"$in": list(hidden)},
                "log": {"$in": [row.get("log") for row in hidden.values()]},
                "place": None,
                **owner,
            },
            hint="_id_",
            session=self._scope.unit,
        )

    def _clear(self, session_id: str, row: Row) -> None:
        """Remove the messages of a long log in chunks."""
        for first in range(1, row["count"] + 1, CHUNK):
            self._scope.messages().delete_many(
                {
                    "session_id": session_id,
                    "position": {"$gte": first, "$lt": first + CHUNK},
                    "log": row["log"],
                },
                hint=BY_POSITION,
                session=self._scope.unit,
            )

    def _charge(self, documents: int) -> None:
        if self._left is not None:
            self._left -= documents
            if self._left < 0:
                raise TooLargeForTransactionError

    def _remove_abandoned(self, session_ids: list[str]) -> None:
        """Remove messages that interrupted calls stored long ago, and that never belonged to a log.

        These sessions have been hidden or absent since this deletion began. If one was created
        again meanwhile, its messages are new, and stay.
        """
        before = ObjectId.from_datetime(datetime.now(UTC) - _ABANDONED_AFTER)
        self._scope.messages().delete_many(
            {"session_id": {"$in": session_ids}, "_id": {"$lt": before}},
            hint=BY_POSITION,
            session=self._scope.unit,
        )

    def _remove_items(self, container_id: str) -> None:
        keys = prefix_range(container_id + SEPARATOR)
        rows = self._scope.rows(ITEMS, latest=True)
        while True:
            found = rows.find({"_id": keys}, {"_id": 1}, session=self._scope.unit)
            ids = [row["_id"] for row in found.sort("_id").hint("_id_").limit(10 * _TOGETHER)]
            if not ids:
                return
            self._charge(len(ids))
            rows.delete_many({"_id": {"$in": ids}}, hint="_id_", session=self._scope.unit)
