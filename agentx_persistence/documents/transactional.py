"""The shorter port, for a backend that has transactions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from pydantic_core import to_json

from agentx_persistence.documents.store import (
    SESSIONS,
    Document,
    DocumentStore,
    Entry,
    Slice,
    Window,
)
from agentx_persistence.errors import RecordConflictError, RecordNotFoundError

_ENTRIES = "messages"
_LAST_KEY = chr(0x10FFFF)


class TransactionalStore(DocumentStore):
    """A store that is asked for documents only; it makes logs of them.

    An entry of a log is a document of a fourth kind, with an index for its session; its position is
    its `created_at`.
    """

    @abstractmethod
    def transaction(self) -> AbstractContextManager[Any]:
        """Make all that this thread does inside one atomic step, of which an error leaves nothing.

        Nobody else changes anything meanwhile. Inside another transaction it is a part of that.
        """

    @abstractmethod
    def replace(self, kind: str, document: Document) -> None:
        """Replace text and `updated_at` of a document that is there."""

    @abstractmethod
    def remove(self, kind: str, key: str) -> bool:
        """Delete the document and its index entries; tell whether it was there."""

    def cascade(self, work: Callable[[], bool]) -> bool:
        with self.transaction():
            return work()

    def update(
        self, kind: str, key: str, change: Callable[[Document], Document]
    ) -> Document | None:
        with self.transaction():
            found = self.get(kind, key)
            if found is None:
                return None
            changed = change(found)
            self.replace(kind, changed)
            return changed

    def delete(self, kind: str, key: str) -> bool:
        with self.transaction():
            if kind == SESSIONS:
                self._cut(key, 0)
            return self.remove(kind, key)

    def append(self, session_id: str, entries: Sequence[Entry], at: int) -> list[int]:
        with self.transaction():
            session, length = self._session(session_id), self._length(session_id)
            positions, end = [], length
            for id, text in entries:
                key = _key(session_id, id)
                found = self.get(_ENTRIES, key)
                if found is None:
                    end += 1
                    found = Document(key, text, end, at)
                    self.put(_ENTRIES, found, dict([_index(session_id)]))
                elif found.text != text:
                    raise RecordConflictError("message", id)
                positions.append(found.created_at)
            if end > length:
                self.replace(SESSIONS, session._replace(updated_at=at))
            return positions

    def position(self, session_id: str, entry_id: str) -> int:
        with self.transaction():
            self._session(session_id)
            found = self.get(_ENTRIES, _key(session_id, entry_id))
            if found is None:
                raise RecordNotFoundError("message", entry_id)
            return found.created_at

    def read(self, session_id: str, window: Window) -> Slice:
        with self.transaction():
            self._session(session_id)
            start, stop = window.within(self._length(session_id))
            found = self._newest(session_id, (stop + 1, _LAST_KEY), max(stop - start, 0))
            return Slice(start + 1, [entry.text for entry in reversed(found)])

    def truncate(self, session_id: str, entry_id: str | None) -> int:
        with self.transaction():
            self._session(session_id)
            return self._cut(session_id, self.position(session_id, entry_id) if entry_id else 0)

    def _cut(self, session_id: str, kept: int) -> int:
        gone = self._newest(session_id, None, self._length(session_id) - kept)
        for entry in gone:
            self.remove(_ENTRIES, entry.key)
        return len(gone)

    def _session(self, session_id: str) -> Document:
        found = self.get(SESSIONS, session_id)
        if found is None:
            raise RecordNotFoundError("session", session_id)
        return found

    def _length(self, session_id: str) -> int:
        return sum(entry.created_at for entry in self._newest(session_id, None, 1))

    def _newest(self, session_id: str, after: tuple[int, str] | None, limit: int) -> list[Document]:
        return self.find(_ENTRIES, _index(session_id), after, limit)


def _index(session_id: str) -> tuple[str, str]:
    return "session_id", session_id


def _key(session_id: str, entry_id: str) -> str:
    return to_json([session_id, entry_id]).decode()
