"""The rows of a `TransactionalStorage` in its ordered map."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from agentx_persistence.errors import CorruptRecordError, RecordNotFoundError
from agentx_persistence.storage._map_keys import (
    entry_key,
    index_keys,
    key_of,
    place_key,
    range_of,
)
from agentx_persistence.storage.kinds import SEPARATOR, SESSIONS, Kind, owned_queries
from agentx_persistence.storage.values import Document, Entry, Head, Query

if TYPE_CHECKING:
    from agentx_persistence.storage.transactional import TransactionalStorage


class Rows:
    """Documents, index entries and logs as keys and texts of a map.

    Every method must be called inside `TransactionalStorage.transact`.
    """

    def __init__(self, map: TransactionalStorage) -> None:
        self._map = map

    def read(self, kind: Kind, key: str) -> tuple[Document, Head] | None:
        found = self._map.load(key_of(kind.name, key))
        if found is None:
            return None
        header, _, text = found.partition("\n")
        try:
            created_at, updated_at, fields, revision, *head = json.loads(header)
            return Document(key, text, created_at, updated_at, fields, revision), Head(*head)
        except (ValueError, TypeError) as error:
            raise CorruptRecordError(kind.noun, key, self._map.where(kind, key)) from error

    def save(self, kind: Kind, document: Document) -> None:
        old, head = self.read(kind, document.key) or (None, Head(0, document.revision))
        self.write(kind, document, head, old)

    def write(self, kind: Kind, document: Document, head: Head, old: Document | None) -> None:
        places = set(index_keys(kind, document))
        before = set(index_keys(kind, old)) if old else set()
        for place in before - places:
            self._map.erase(place)
        for place in places - before:
            self._map.store(place, "")
        key, text, created_at, updated_at, fields, revision = document
        header = json.dumps([created_at, updated_at, dict(fields), revision, *head])
        self._map.store(key_of(kind.name, key), f"{header}\n{text}")

    def delete(self, kind: Kind, key: str, before: int | None = None) -> bool:
        found = self.read(kind, key)
        if found and before is not None and found[0].updated_at >= before:
            return False
        for owned, query in owned_queries(kind, key):
            for own in self.keys(owned, query, None):
                self.delete(owned, own)
        if found is None:
            return False
        document, head = found
        for place in (key_of(kind.name, key), *index_keys(kind, document)):
            self._map.erase(place)
        if kind is SESSIONS:
            self.cut(key, 0, head.count)
        return True

    def keys(self, kind: Kind, query: Query, limit: int | None) -> list[str]:
        """Return the keys of the query's documents, at most `limit`."""
        start, stop, own = range_of(kind, query)
        reverse, after = query.order == "oldest", None
        if query.after is not None:
            after = place_key(kind, query, query.after)
            start, stop = (start, min(stop, after)) if reverse else (max(start, after), stop)
        # The range can include the key of `query.after` itself, which is left out.
        more = None if limit is None else limit + 1
        found = [place for place, _ in self._map.scan(start, stop, more, reverse) if place != after]
        return [place[own:] for place in found[:limit]]

    def head(self, log: str) -> Head:
        found = self.read(SESSIONS, log)
        if found is None:
            raise RecordNotFoundError("session", log)
        return found[1]

    def entries(self, log: str, positions: range) -> Iterator[tuple[str, str]]:
        """Return ids and texts of the entries at these consecutive positions, in this order."""
        if not positions:
            return
        low, high = sorted((positions[0], positions[-1]))
        bounds = entry_key(log, low), entry_key(log, high + 1)
        rows = iter(self._map.scan(*bounds, len(positions), positions.step < 0))
        for position in positions:
            key, found = next(rows, ("", ""))
            id, separator, text = found.partition(SEPARATOR)
            if key != entry_key(log, position) or not separator:
                raise CorruptRecordError("message", id, self._map.where(SESSIONS, log, position))
            yield id, text

    def position(self, log: str, entry: str | int | None, default: int) -> int:
        if not isinstance(entry, str):
            return default if entry is None else entry
        found = self._map.load(key_of("position", log, entry))
        if found is None:
            raise RecordNotFoundError("message", entry)
        return int(found)

    def there(self, log: str, entries: Sequence[Entry]) -> dict[str, tuple[int, str]]:
        there = {}
        for id, *_ in entries:
            if found := self._map.load(key_of("position", log, id)):
                position = int(found)
                ((_, text),) = self.entries(log, range(position, position + 1))
                there[id] = (position, text)
        return there

    def add(self, log: str, count: int, entries: Sequence[Entry]) -> None:
        for position, (id, text, *_) in enumerate(entries, count + 1):
            self._map.store(entry_key(log, position), f"{id}{SEPARATOR}{text}")
            self._map.store(key_of("position", log, id), str(position))

    def cut(self, log: str, kept: int, count: int) -> None:
        gone = [id for id, _ in self.entries(log, range(kept + 1, count + 1))]
        for position, id in enumerate(gone, kept + 1):
            self._map.erase(entry_key(log, position))
            self._map.erase(key_of("position", log, id))

    def change(self, log: str, count: int, generation: str, at: int) -> None:
        old, _ = self.read(SESSIONS, log) or (None, None)
        assert old is not None
        changed = old._replace(updated_at=max(old.updated_at, at))
        self.write(SESSIONS, changed, Head(count, generation), old)
