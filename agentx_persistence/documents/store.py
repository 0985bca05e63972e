"""The port of the document family: what a backend that is no relational database has to do.

A document is a key, a JSON text, two times and a few index fields; a log is an ordered list of
entries that belongs to one session document. A store keeps the texts exactly as they are and never
looks inside. Each method is one atomic step: seen by others wholly or not at all, and still so when
the process dies half-way.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

CONTAINERS, IMAGES, SESSIONS = "containers", "images", "sessions"

# One entry of a log, such as a message: its id and its text.
Entry = tuple[str, str]


class Document(NamedTuple):
    """`created_at` and `updated_at` are what the text says of them, in Unix milliseconds."""

    key: str
    text: str
    created_at: int
    updated_at: int


class Slice(NamedTuple):
    """Consecutive entries of a log: the position of the first one, and their texts."""

    start: int
    texts: list[str] | list[bytes]


class Window(NamedTuple):
    """Which entries of a log: those between two positions, both excluded.

    Of these only so many: the `first` ones or the `last` ones.
    """

    after: int = 0
    before: int | None = None
    first: int | None = None
    last: int | None = None

    def within(self, length: int) -> tuple[int, int]:
        """Return, for a log of this length, the position in front of the window, and its last."""
        stop = length if self.before is None else min(self.before - 1, length)
        start = self.after if self.last is None else max(self.after, stop - self.last)
        return start, stop if self.first is None else min(stop, start + self.first)


class DocumentStore(ABC):
    """Keys are any text that is a legal id; `kind` is one of the three constants above.

    Methods may be called from any thread. After `close` each raises `PersistenceClosedError`.
    """

    closed = False

    @abstractmethod
    def put(self, kind: str, document: Document, indexes: Mapping[str, str]) -> None:
        """Create or replace the document with its index entries; a session keeps its log.

        :param indexes: for each index field its value; the document is found by none but these
        """

    @abstractmethod
    def get(self, kind: str, key: str) -> Document | None:
        """Return the document, or ``None``."""

    @abstractmethod
    def find(
        self,
        kind: str,
        index: tuple[str, str] | None,
        after: tuple[int, str] | None,
        limit: int | None,
    ) -> list[Document]:
        """Return documents by descending `created_at`, then by ascending key (by code point).

        The cost follows what is returned, not what is stored.

        :param index: only the documents with this value of this index field
        :param after: only those that come behind this `created_at` and key
        :param limit: only so many
        """

    @abstractmethod
    def update(
        self, kind: str, key: str, change: Callable[[Document], Document]
    ) -> Document | None:
        """Replace the document by what `change` makes of it; return that, or ``None`` if absent.

        `change` keeps key, `created_at` and index fields. It may be called more than once.
        """

    @abstractmethod
    def delete(self, kind: str, key: str) -> bool:
        """Delete the document, its index entries and its log; tell whether it was there."""

    def cascade(self, work: Callable[[], bool]) -> bool:
        """Run a deletion of several documents, in one transaction where the backend has them.

        Elsewhere, as here, step by step: it begins with what is owned, and can be repeated.
        """
        return work()

    @abstractmethod
    def append(self, session_id: str, entries: Sequence[Entry], at: int) -> list[int]:
        """Append the entries that are not there yet, all or none; return each one's position.

        An entry is there if its id is. If anything was appended, the session's `updated_at`
        becomes `at`. Positions count from 1, without gaps.

        :raises RecordNotFoundError: if there is no such session
        :raises RecordConflictError: if there is another text under one of the ids
        """

    @abstractmethod
    def position(self, session_id: str, entry_id: str) -> int:
        """Return the position of the entry.

        :raises RecordNotFoundError: if there is no such session, or no such entry
        """

    @abstractmethod
    def read(self, session_id: str, window: Window) -> Slice:
        """Return these entries, oldest first.

        :raises RecordNotFoundError: if there is no such session
        """

    def count(self, session_id: str) -> int:
        """Return the number of entries.

        :raises RecordNotFoundError: if there is no such session
        """
        newest = self.read(session_id, Window(last=1))
        return newest.start + len(newest.texts) - 1

    @abstractmethod
    def truncate(self, session_id: str, entry_id: str | None) -> int:
        """Delete the entries behind this one, or all for ``None``; return how many there were.

        :raises RecordNotFoundError: if there is no such session, or no such entry
        """

    def where(self, kind: str, key: str, position: int | None = None) -> str:
        """Say how an operator finds the raw document, or the entry at this position of its log."""
        entry = "" if position is None else f", entry {position}"
        return f"{type(self).__name__}, {kind} {key!r}{entry}"

    def ping(self) -> None:
        """Ask the backend for a sign of life; see `Storage.ping`."""
        self.get(CONTAINERS, "ping")

    def close(self) -> None:
        """Release everything that the store opened; a second time does nothing."""
        self.closed = True
