"""The indexes of the memory backend: sorted lists of places and keys."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from agentx_persistence._memory.changes import Step
from agentx_persistence.storage import ITEMS, Document, Kind, Place, Query

# An index is identified by a kind, an order, and the names and values of the fields that its
# documents share.
Index = tuple[str, str, tuple[str, ...], tuple[str, ...]]
# An entry of an index: a tuple that sorts as `Query.order` says and ends with the document's key.
Entry = tuple[Any, ...]
Entries = set[tuple[Index, Entry]]
# To remove more entries than this from a list, one pass over it is cheaper than single deletions.
_FEW = 16


def entries_of(kind: Kind, document: Document, updated_at: int) -> Entries:
    """Return the index entries of the document."""
    fields, key = document.fields, document.key
    newest, active = (-document.created_at, key), (-(updated_at // 1000), key)
    entries: Entries = set()
    for order, place, combinations in (
        ("newest", newest, kind.indexes),
        ("active", active, kind.active),
    ):
        for names in combinations:
            if all(name in fields for name in names):
                values = tuple(fields[name] for name in names)
                entries.add(((kind.name, order, names, values), place))
    if kind is ITEMS:
        entries.add(((kind.name, "key", (), ()), (key,)))
    return entries


class Indexes:
    """All indexes. Adding a present entry or removing an absent one changes nothing, so that the
    steps of `Changes` can be repeated."""

    def __init__(self) -> None:
        self._lists: defaultdict[Index, list[Entry]] = defaultdict(list)

    def add(self, entries: Iterable[tuple[Index, Entry]]) -> None:
        for index, entry in entries:
            listed = self._lists[index]
            place = bisect_left(listed, entry)
            if place == len(listed) or listed[place] != entry:
                insort(listed, entry)

    def remove(self, entries: Iterable[tuple[Index, Entry]]) -> None:
        by_index: defaultdict[Index, set[Entry]] = defaultdict(set)
        for index, entry in entries:
            by_index[index].add(entry)
        for index, gone in by_index.items():
            listed = self._lists.get(index, [])
            if len(gone) > _FEW:
                listed[:] = [entry for entry in listed if entry not in gone]
            else:
                for entry in gone:
                    place = bisect_left(listed, entry)
                    if place < len(listed) and listed[place] == entry:
                        del listed[place]
            if not listed:
                self._lists.pop(index, None)

    def move(self, left: Entries, entered: Entries) -> list[Step]:
        """Return the steps that replace the entries `left` with the entries `entered`."""
        return [lambda: self.remove(left - entered), lambda: self.add(entered - left)]

    def find(self, kind: Kind, query: Query) -> tuple[list[str], Place | None]:
        """Return the keys of the query's documents, in order, and the place of the last one if more
        follow."""
        listed, low, high = self._range(kind, query)
        backwards = query.order == "oldest"
        if query.limit is not None and high - low > query.limit:
            if backwards:
                low = high - query.limit
            else:
                high = low + query.limit
            more = query.limit > 0
        else:
            more = False
        found = listed[low:high]
        if backwards:
            found.reverse()
        last = found[-1] if more else None
        keys = [entry[-1] for entry in found]
        if last is None:
            return keys, None
        return keys, Place(-last[0] if len(last) > 1 else 0, last[-1])

    def count(self, kind: Kind, query: Query) -> int:
        _, low, high = self._range(kind, query)
        found = max(high - low, 0)
        return found if query.limit is None else min(found, query.limit)

    def _range(self, kind: Kind, query: Query) -> tuple[list[Entry], int, int]:
        where, order, prefix, since, until, after, _ = query
        names = tuple(sorted(where))
        name = "newest" if order == "oldest" else order
        index = (kind.name, name, names, tuple(where[field] for field in names))
        listed = self._lists.get(index, [])
        low, high = 0, len(listed)
        if order == "key":
            size = len(prefix)
            low = bisect_left(listed, prefix, key=lambda entry: entry[0][:size])
            high = bisect_right(listed, prefix, key=lambda entry: entry[0][:size])
            if after is not None:
                low = max(low, bisect_right(listed, (after.key,)))
            return listed, low, max(low, high)
        if order == "active":
            since = None if since is None else since // 1000
            until = None if until is None else -(-until // 1000)
        if until is not None:
            low = bisect_left(listed, (1 - until,))
        if since is not None:
            high = bisect_left(listed, (1 - since,))
        if after is not None:
            place = (-after.time, after.key)
            if order == "oldest":
                high = min(high, bisect_left(listed, place))
            else:
                low = max(low, bisect_right(listed, place))
        return listed, low, max(low, high)
