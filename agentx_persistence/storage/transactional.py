"""The shorter port, for a backend that has transactions."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from agentx_persistence.errors import (
    CorruptRecordError,
    PersistenceClosedError,
    RecordNotFoundError,
)
from agentx_persistence.storage.kinds import ITEMS, SEPARATOR, SESSIONS, Kind, owned_by
from agentx_persistence.storage.storage import Storage
from agentx_persistence.storage.values import (
    Document,
    Entry,
    Found,
    Head,
    Listing,
    Place,
    Query,
    Slice,
    Stored,
    Window,
)


class _Log(NamedTuple):
    count: int
    generation: str
    updated_at: int


class TransactionalStorage(Storage):
    """A storage over an ordered map of text keys to texts, such as a table of two columns.

    The keys of the map are ordered by code point. No key holds NUL; a text holds any character.
    Every method of the port is one transaction, the deletion of a container included.
    """

    closed = False

    @abstractmethod
    def transaction(self) -> AbstractContextManager[Any]:
        """Make all calls of this thread in the ``with`` block one atomic step.

        An exception undoes all of them. No other transaction writes meanwhile. Transactions are
        not nested.
        """

    @abstractmethod
    def load(self, key: str) -> str | None:
        """Return the text of this key, or ``None``."""

    @abstractmethod
    def store(self, key: str, text: str) -> None:
        """Set the text of this key."""

    @abstractmethod
    def erase(self, key: str) -> None:
        """Remove this key, which may be absent."""

    @abstractmethod
    def scan(
        self, start: str, stop: str, limit: int | None, reverse: bool
    ) -> Iterable[tuple[str, str]]:
        """Return keys and texts with ``start <= key < stop``, in order, at most `limit`.

        :param reverse: begin with the greatest key
        """

    def put(self, kind: Kind, document: Document) -> None:
        with self._step():
            self._write(kind, document, self._read(kind, document.key))

    def create(self, kind: Kind, document: Document) -> bool:
        with self._step():
            if self._read(kind, document.key) is not None:
                return False
            self._write(kind, document, None)
            return True

    def replace(self, kind: Kind, document: Document, revision: str) -> bool:
        with self._step():
            old = self._read(kind, document.key)
            if old is None or old.revision != revision:
                return False
            self._write(kind, document, old)
            return True

    def get(self, kind: Kind, keys: Sequence[str]) -> dict[str, Stored]:
        with self._step():
            found = [self._read(kind, key) for key in keys]
            return {document.key: _stored(document) for document in found if document}

    def find(self, kind: Kind, query: Query) -> Listing:
        with self._step():
            keys = self._keys(kind, query, None if query.limit is None else query.limit + 1)
            documents = [self._existing(kind, key) for key in keys[: query.limit]]
            after = None
            if len(keys) > len(documents) > 0:
                after = Place(_time(query.order, documents[-1]), documents[-1].key)
            return Listing([*map(_stored, documents)], after)

    def count(self, kind: Kind, query: Query) -> int:
        with self._step():
            return len(self._keys(kind, query, query.limit))

    def delete(self, kind: Kind, key: str) -> bool:
        with self._step():
            return self._delete(kind, key)

    def append(
        self,
        log: str,
        entries: Sequence[Entry],
        at: int,
        *,
        create: Document | None = None,
        expected: int | None = None,
        generation: str | None = None,
    ) -> int | Found:
        with self._step():
            head = self._log(log)
            if head is None and create is not None:
                head = _Log(0, create.revision, create.updated_at)
            else:
                create = None
            head = _existing(log, head)
            there = self._there(log, [entry.id for entry in entries])
            if there or not _as_told(head, expected, generation):
                return Found(Head(*head[:2]), there)
            if create is not None:
                self._write(SESSIONS, create, None)
            return self._append(log, head, entries, at) if entries else head.count

    def read(self, log: str, window: Window) -> Slice:
        with self._step():
            head = _existing(log, self._log(log))
            low = self._position(log, window.after, 0)
            high = min(self._position(log, window.before, head.count + 1), head.count + 1)
            newest = window.last is not None
            limit = window.last if newest else window.first
            texts: list[str] = []
            size = 0
            for _, text in self._entries(log, low + 1, high, limit, newest):
                if window.size is not None:
                    size += len(text.encode(errors="surrogatepass"))
                    if texts and size > window.size:
                        break
                texts.append(text)
            start = high - len(texts) if newest else low + 1
            return Slice(texts[::-1] if newest else texts, start, Head(*head[:2]))

    def lookup(self, log: str, ids: Sequence[str]) -> Found:
        with self._step():
            head = _existing(log, self._log(log))
            return Found(Head(*head[:2]), self._there(log, ids))

    def newest(self, logs: Sequence[str]) -> dict[str, Slice]:
        found = {}
        with self._step():
            for log in logs:
                if head := self._log(log):
                    texts = [text for _, text in self._entries(log, head.count, head.count + 1)]
                    found[log] = Slice(texts, head.count, Head(*head[:2]))
        return found

    def rewrite(
        self,
        log: str,
        after: str | int | None,
        entries: Sequence[Entry],
        at: int,
        token: str,
        *,
        expected: int | None = None,
        generation: str | None = None,
    ) -> int | Found:
        with self._step():
            head = _existing(log, self._log(log))
            written, _, removed = head.generation.rpartition(".")
            if written == token:
                return int(removed)
            kept = self._position(log, after, 0)
            there = self._there(log, [entry.id for entry in entries])
            there = {id: found for id, found in there.items() if found[0] <= kept}
            if there or not _as_told(head, expected, generation):
                return Found(Head(*head[:2]), there)
            self._cut(log, kept, head.count)
            cut = head.count - kept
            self._append(log, head._replace(count=kept), entries, at, f"{token}.{cut}")
            return cut

    def swap(self, log: str, entry: Entry, at: int, token: str) -> None:
        with self._step():
            head = _existing(log, self._log(log))
            position = self._position(log, entry.id, 0)
            self.store(_entry(log, position), f"{entry.id}{SEPARATOR}{entry.text}")
            self._append(log, head, [], at, token)

    def fork(self, log: str, through: str | None, document: Document) -> int | None:
        with self._step():
            head = _existing(log, self._log(log))
            count = self._position(log, through, head.count)
            if self._read(SESSIONS, document.key) is not None:
                return None
            copied = [Entry(*pair, {}) for pair in self._entries(log, 1, count + 1)]
            self._write(SESSIONS, document, None)
            empty = _Log(0, document.revision, document.updated_at)
            return self._append(document.key, empty, copied, document.updated_at)

    def where(self, kind: Kind, key: str, position: int | None = None) -> str:
        place = _key(kind.name, key) if position is None else _entry(key, position)
        return f"{type(self).__name__}, key {place!r}"

    def close(self) -> None:
        self.closed = True

    def _step(self) -> AbstractContextManager[Any]:
        if self.closed:
            raise PersistenceClosedError
        return self.transaction()

    def _read(self, kind: Kind, key: str) -> Document | None:
        found = self.load(_key(kind.name, key))
        if found is None:
            return None
        header, _, text = found.partition("\n")
        try:
            created_at, updated_at, fields, revision = json.loads(header)
        except (ValueError, TypeError) as error:
            raise CorruptRecordError(kind.noun, key, self.where(kind, key)) from error
        if kind is SESSIONS:
            updated_at = _existing(key, self._log(key)).updated_at
        return Document(key, text, created_at, updated_at, fields, revision)

    def _existing(self, kind: Kind, key: str) -> Document:
        found = self._read(kind, key)
        if found is None:  # though it has an index entry
            raise CorruptRecordError(kind.noun, key, self.where(kind, key))
        return found

    def _write(self, kind: Kind, document: Document, old: Document | None) -> None:
        for place in _places(kind, old) if old else ():
            self.erase(place)
        for place in _places(kind, document):
            self.store(place, "")
        key, text, created_at, updated_at, fields, revision = document
        header = json.dumps([created_at, updated_at, dict(fields), revision])
        self.store(_key(kind.name, key), f"{header}\n{text}")
        if kind is SESSIONS:
            head = self._log(key) or _Log(0, revision, 0)
            self.store(_key("log", key), json.dumps(head._replace(updated_at=updated_at)))

    def _delete(self, kind: Kind, key: str) -> bool:
        for owned, field in owned_by(kind):
            query = Query({field: key})
            if owned is ITEMS:
                query = Query(order="key", prefix=key + SEPARATOR)
            for own in self._keys(owned, query, None):
                self._delete(owned, own)
        document = self._read(kind, key)
        if document is None:
            return False
        for place in (*_places(kind, document), _key(kind.name, key)):
            self.erase(place)
        if kind is SESSIONS:
            self._cut(key, 0, _existing(key, self._log(key)).count)
            self.erase(_key("log", key))
        return True

    def _keys(self, kind: Kind, query: Query, limit: int | None) -> list[str]:
        """Return the keys of the query's documents, at most `limit`."""
        if query.order == "key":
            prefix = _key(kind.name, "")
            start, stop = prefix + query.prefix, _end(prefix + query.prefix)
            own = len(prefix)
        else:
            prefix = _index(kind, "active" if query.order == "active" else "newest", query.where)
            start, stop = prefix, _end(prefix)
            own = len(prefix + _descending(0))
            unit = 1000 if query.order == "active" else 1
            if query.until is not None:
                start = prefix + _descending(-(-query.until // unit) - 1)
            if query.since is not None:
                stop = prefix + _descending(query.since // unit - 1)
        reverse, after = query.order == "oldest", None
        if query.after is not None:
            time = "" if query.order == "key" else _descending(query.after.time)
            after = prefix + time + query.after.key
            start, stop = (start, min(stop, after)) if reverse else (max(start, after), stop)
        # The document at the place itself may come first.
        more = None if limit is None else limit + 1
        found = [place for place, _ in self.scan(start, stop, more, reverse) if place != after]
        return [place[own:] for place in found[:limit]]

    def _log(self, log: str) -> _Log | None:
        found = self.load(_key("log", log))
        try:
            return None if found is None else _Log(*json.loads(found))
        except (ValueError, TypeError) as error:
            raise CorruptRecordError("session", log, self.where(SESSIONS, log)) from error

    def _entries(
        self, log: str, start: int, stop: int, limit: int | None = None, reverse: bool = False
    ) -> Iterator[tuple[str, str]]:
        """Return ids and texts of the entries at these positions."""
        bounds = (_entry(log, start), _entry(log, max(start, stop)))
        for _, found in self.scan(*bounds, limit, reverse):
            id, _, text = found.partition(SEPARATOR)
            yield id, text

    def _position(self, log: str, entry: str | int | None, default: int) -> int:
        if entry is None:
            return default
        if isinstance(entry, int):
            return entry
        found = self.load(_key("position", log, entry))
        if found is None:
            raise RecordNotFoundError("message", entry)
        return int(found)

    def _there(self, log: str, ids: Sequence[str]) -> dict[str, tuple[int, str]]:
        there = {}
        for id in ids:
            if found := self.load(_key("position", log, id)):
                ((_, text),) = self._entries(log, int(found), int(found) + 1)
                there[id] = (int(found), text)
        return there

    def _append(
        self,
        log: str,
        head: _Log,
        entries: Sequence[Entry],
        at: int,
        generation: str | None = None,
    ) -> int:
        for position, (id, text, _) in enumerate(entries, head.count + 1):
            self.store(_entry(log, position), f"{id}{SEPARATOR}{text}")
            self.store(_key("position", log, id), str(position))
        count = head.count + len(entries)
        session = self._existing(SESSIONS, log)
        changed = session._replace(updated_at=max(session.updated_at, at))
        if changed.updated_at // 1000 != session.updated_at // 1000:
            for place in _places(SESSIONS, session):
                self.erase(place)
            for place in _places(SESSIONS, changed):
                self.store(place, "")
        head = _Log(count, generation or head.generation, changed.updated_at)
        self.store(_key("log", log), json.dumps(head))
        return count

    def _cut(self, log: str, kept: int, count: int) -> None:
        for position, (id, _) in enumerate([*self._entries(log, kept + 1, count + 1)], kept + 1):
            self.erase(_entry(log, position))
            self.erase(_key("position", log, id))


def _existing(log: str, head: _Log | None) -> _Log:
    if head is None:
        raise RecordNotFoundError("session", log)
    return head


def _as_told(head: _Log, expected: int | None, generation: str | None) -> bool:
    return expected in (None, head.count) and generation in (None, head.generation)


def _stored(document: Document) -> Stored:
    return Stored(document.key, document.text, document.updated_at, document.revision)


def _key(*parts: str) -> str:
    """Return a key of the map. Only the last part may hold a separator."""
    return SEPARATOR.join(parts)


def _entry(log: str, position: int) -> str:
    return _key("entry", log, f"{max(position, 0):010}")


def _index(kind: Kind, order: str, where: Mapping[str, str]) -> str:
    """Return how the keys of an index begin. JSON escapes the separators in a value."""
    return _key("index", kind.name, order, json.dumps(sorted(where.items())), "")


def _places(kind: Kind, document: Document) -> Iterator[str]:
    """Return the keys of the document's index entries."""
    for order, combinations in (("newest", kind.indexes), ("active", kind.active)):
        for names in combinations:
            if all(name in document.fields for name in names):
                where = {name: document.fields[name] for name in names}
                time = _descending(_time(order, document))
                yield _index(kind, order, where) + time + document.key


def _time(order: str, document: Document) -> int:
    if order == "active":
        return document.updated_at // 1000
    return 0 if order == "key" else document.created_at


def _descending(time: int) -> str:
    """Return a text that is the greater, the earlier the time is."""
    return f"{2**63 - time:020}"


def _end(prefix: str) -> str:
    """Return the least text that is greater than all with this prefix."""
    prefix = prefix.rstrip("\U0010ffff")
    last = ord(prefix[-1]) + 1
    return prefix[:-1] + ("\ue000" if last == 0xD800 else chr(last))
