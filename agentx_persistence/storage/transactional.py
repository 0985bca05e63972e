"""A shorter interface for writing a backend that has transactions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from agentx_persistence.errors import (
    CorruptRecordError,
    PersistenceClosedError,
    RecordNotFoundError,
)
from agentx_persistence.storage._map_keys import entry_key, key_of, time_of
from agentx_persistence.storage._map_rows import Rows
from agentx_persistence.storage.kinds import SESSIONS, Kind
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

P = ParamSpec("P")
T = TypeVar("T")


def _one_step(
    method: Callable[Concatenate[TransactionalStorage, P], T],
) -> Callable[Concatenate[TransactionalStorage, P], T]:
    """Run the method in a transaction."""

    @wraps(method)
    def step(self: TransactionalStorage, /, *args: P.args, **options: P.kwargs) -> T:
        if self.closed:
            raise PersistenceClosedError
        return self.transact(lambda: method(self, *args, **options))

    return step


class TransactionalStorage(Storage):
    """A storage over an ordered map of text keys to texts, such as a table with two columns.

    Subclasses implement the five abstract methods. The keys of the map are ordered by code point
    and hold no NUL. A text holds any character. Each method of `Storage` is one transaction, even
    the deletion of a container with all that it owns. Only `exchange` and `append_each` use
    several.
    """

    closed: bool = False

    @abstractmethod
    def transact(self, work: Callable[[], T]) -> T:
        """Call `work`, which calls the methods below, in a transaction; return what it returns.

        If `work` raises, undo all that it has done. While it runs, no other thread or process may
        write to the map.
        """

    @abstractmethod
    def load(self, key: str) -> str | None:
        """Return the text of this key, or ``None``."""

    @abstractmethod
    def store(self, key: str, text: str) -> None:
        """Set the text of this key."""

    @abstractmethod
    def erase(self, key: str) -> None:
        """Remove this key, if it is there."""

    @abstractmethod
    def scan(
        self, start: str, stop: str, limit: int | None, reverse: bool
    ) -> Iterable[tuple[str, str]]:
        """Return at most `limit` keys and their texts, in order, for ``start <= key < stop``.

        :param reverse: in descending order; the limit counts from the highest key
        """

    @_one_step
    def put(self, kind: Kind, document: Document) -> None:
        self._rows.save(kind, document)

    @_one_step
    def create(self, kind: Kind, document: Document) -> bool:
        absent = self._rows.read(kind, document.key) is None
        if absent:
            self._rows.save(kind, document)
        return absent

    @_one_step
    def replace(self, kind: Kind, document: Document, revision: str) -> bool:
        found = self._rows.read(kind, document.key)
        if found is None or found[0].revision != revision:
            return False
        self._rows.save(kind, document)
        return True

    @_one_step
    def get(self, kind: Kind, keys: Sequence[str]) -> dict[str, Stored]:
        found = [self._rows.read(kind, key) for key in keys]
        return {document.key: _stored(document) for document, _ in filter(None, found)}

    @_one_step
    def find(self, kind: Kind, query: Query) -> Listing:
        keys = self._rows.keys(kind, query, None if query.limit is None else query.limit + 1)
        documents = []
        for key in keys[: query.limit]:
            found = self._rows.read(kind, key)
            if found is None:  # although it has an index entry
                raise CorruptRecordError(kind.noun, key, self.where(kind, key))
            documents.append(found[0])
        after = None
        if len(keys) > len(documents) > 0:
            after = Place(time_of(query.order, documents[-1]), documents[-1].key)
        return Listing([*map(_stored, documents)], after)

    @_one_step
    def count(self, kind: Kind, query: Query) -> int:
        return len(self._rows.keys(kind, query, query.limit))

    @_one_step
    def delete(self, kind: Kind, key: str, *, before: int | None = None) -> bool:
        return self._rows.delete(kind, key, before)

    @_one_step
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
        found = self._rows.read(SESSIONS, log)
        if found is None and create is None:
            raise RecordNotFoundError("session", log)
        head = found[1] if found else Head(0, create.revision if create else "")
        there = self._rows.there(log, entries)
        if there or not _matches(head, expected, generation):
            return Found(head, there)
        if found is None and create is not None:
            self._rows.save(SESSIONS, create)
        if entries:
            self._rows.add(log, head.count, entries)
            self._rows.change(log, head.count + len(entries), head.generation, at)
        return head.count + len(entries)

    @_one_step
    def read(self, log: str, window: Window) -> Slice:
        head = self._rows.head(log)
        low = self._rows.position(log, window.after, 0) + 1
        high = min(self._rows.position(log, window.before, head.count + 1), head.count + 1)
        if window.last is None:
            positions = range(low, high)[: window.first]
        else:
            positions = range(low, high)[::-1][: window.last]
        texts: list[str] = []
        size = 0
        for _, text in self._rows.entries(log, positions):
            size += 0 if window.size is None else len(text.encode(errors="surrogatepass"))
            if texts and window.size is not None and size > window.size:
                break
            texts.append(text)
        if window.last is None:
            return Slice(texts, low, head)
        return Slice(texts[::-1], high - len(texts), head)

    @_one_step
    def lookup(self, log: str, ids: Sequence[str]) -> Found:
        return Found(self._rows.head(log), self._rows.there(log, [Entry(id, "") for id in ids]))

    @_one_step
    def newest(self, logs: Sequence[str]) -> dict[str, Slice]:
        slices = {}
        for log in logs:
            if found := self._rows.read(SESSIONS, log):
                count = found[1].count
                texts = [text for _, text in self._rows.entries(log, range(1, count + 1)[-1:])]
                slices[log] = Slice(texts, count, found[1])
        return slices

    @_one_step
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
        head = self._rows.head(log)
        last_token, _, cut = head.generation.rpartition(".")
        if last_token == token:
            return int(cut)
        kept = self._rows.position(log, after, 0)
        if kept > head.count:
            raise RecordNotFoundError("message", f"#{kept}")
        there = self._rows.there(log, entries)
        there = {id: found for id, found in there.items() if found[0] <= kept}
        if there or not _matches(head, expected, generation):
            return Found(head, there)
        self._rows.cut(log, kept, head.count)
        self._rows.add(log, kept, entries)
        self._rows.change(log, kept + len(entries), f"{token}.{head.count - kept}", at)
        return head.count - kept

    @_one_step
    def swap(self, log: str, entry: Entry, at: int, token: str) -> None:
        head = self._rows.head(log)
        position = self._rows.position(log, entry.id, 0)
        self._rows.add(log, position - 1, [entry])
        self._rows.change(log, head.count, token, at)

    @_one_step
    def fork(self, log: str, through: str | None, document: Document) -> int | None:
        count = self._rows.position(log, through, self._rows.head(log).count)
        if self._rows.read(SESSIONS, document.key):
            return None
        copied = [Entry(id, text) for id, text in self._rows.entries(log, range(1, count + 1))]
        self._rows.write(SESSIONS, document, Head(count, document.revision), None)
        self._rows.add(document.key, 0, copied)
        return count

    def where(self, kind: Kind, key: str, position: int | None = None) -> str:
        place = key_of(kind.name, key) if position is None else entry_key(key, position)
        return f"{type(self).__name__}, the text of {place!r}"

    def close(self) -> None:
        self.closed = True

    @property
    def _rows(self) -> Rows:
        return Rows(self)


def _matches(head: Head, expected: int | None, generation: str | None) -> bool:
    return expected in (None, head.count) and generation in (None, head.generation)


def _stored(document: Document) -> Stored:
    return Stored(document.key, document.text, document.updated_at, document.revision)
