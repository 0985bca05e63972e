"""Whether listings show what they should, in a store that others may write to meanwhile.

Each write of a record writes its index entries anew. So a record in a wrong place is damaged only
if it did not change while it was looked for, and a number is wrong only if it is wrong each time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from agentx_persistence.errors import CorruptRecordError
from agentx_persistence.storage import ITEMS, Document, Kind, Query, Storage, Stored
from agentx_persistence.transfer import _walking as walking

# Fields and their values, by which a listing chooses records.
Values: TypeAlias = tuple[tuple[str, str], ...]
# How often a record or a number is looked at.
_ATTEMPTS = 3


class Listed:
    """The listings of one kind of record.

    :param document: returns what should be stored of a record, or ``None`` if it cannot be read
    """

    def __init__(
        self, storage: Storage, kind: Kind, document: Callable[[Stored], Document | None]
    ) -> None:
        self._storage, self._kind, self._document = storage, kind, document

    def is_lost(self, key: str, values: Values = (), order: Any = "newest") -> bool:
        """Return whether the record certainly belongs into a listing that does not show it in its
        place."""
        for _ in range(_ATTEMPTS):
            before = self.get(key)
            document = before and self._document(before)
            if before is None or document is None or not _has(document, values):
                return False
            if self._shows(document, before.updated_at, values, order):
                return False
            after = self.get(key)
            if after and (after.revision, after.updated_at) == (before.revision, before.updated_at):
                return True
        return False

    def wrong(
        self, doubtful: Iterable[tuple[Values, Any]], keys: Iterable[str]
    ) -> set[tuple[Values, Any]]:
        """Return those of the listings, which are given with their orders, that certainly do not
        show what they should.

        :param keys: of the records that are known; all are read, if there are any doubts
        """
        listings = [*doubtful]
        belonging: dict[Values, list[str]] = {values: [] for values, _ in listings}
        for key in keys if listings else ():
            found = self.get(key)
            document = found and self._document(found)
            if document is not None:
                for values, belong in belonging.items():
                    if _has(document, values):
                        belong.append(key)
        return {
            (values, order)
            for values, order in listings
            if self._is_short(belonging[values], values, order) or self._is_long(values, order)
        }

    def _is_short(self, keys: list[str], values: Values, order: Any) -> bool:
        try:
            shown = {document.key for document in self._all(values, order)}
        except CorruptRecordError:
            shown = set()  # each is looked for alone
        return any(self.is_lost(key, values, order) for key in keys if key not in shown)

    def _is_long(self, values: Values, order: Any) -> bool:
        """Return whether the listing is longer than the number of records that belong into it."""
        query = Query(dict(values), order)
        for _ in range(_ATTEMPTS):
            right, unreadable = set[str](), 0
            try:
                before = self._storage.count(self._kind, query)
                # In this order no record moves while the pages are read.
                for document in map(self._document, self._all(values, "oldest")):
                    if document is None:
                        unreadable += 1
                    elif _has(document, values):
                        right.add(document.key)
                after = self._storage.count(self._kind, query)
            except CorruptRecordError:
                return True  # it cannot even be read
            if min(before, after) <= len(right) + unreadable:
                return False
        return True

    def _all(self, values: Values, order: Any) -> Iterable[Stored]:
        for page in walking.listing(self._storage, self._kind, Query(dict(values), order)):
            yield from page

    def _shows(self, document: Document, updated_at: int, values: Values, order: Any) -> bool:
        time = updated_at if order == "active" else document.created_at
        query = Query(dict(values), order, since=time, until=time + 1)
        if self._kind is ITEMS and not values:
            query = Query(order="key", prefix=document.key)
        try:
            found = self._storage.find(self._kind, query).documents
        except CorruptRecordError:
            return True  # another one of that time is damaged
        return any(each.key == document.key for each in found)

    def get(self, key: str) -> Stored | None:
        """Return the record, if it exists and can be read."""
        try:
            return self._storage.get(self._kind, [key]).get(key)
        except CorruptRecordError:
            return None


def _has(document: Document, values: Values) -> bool:
    return all(document.fields.get(field) == value for field, value in values)
