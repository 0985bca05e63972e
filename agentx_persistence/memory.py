"""The memory backend: dicts and a lock. It is gone with the process."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from threading import Lock

from agentx_persistence.documents import (
    Document,
    DocumentStorage,
    DocumentStore,
    Entry,
    Slice,
    Window,
)
from agentx_persistence.documents.store import SESSIONS
from agentx_persistence.errors import (
    PersistenceClosedError,
    RecordConflictError,
    RecordNotFoundError,
)
from agentx_persistence.forking import ForkAware, renew_after_fork
from agentx_persistence.persistence import PersistenceDriver, Storage


def memory_driver() -> PersistenceDriver:
    """Return the driver of a store that lives in this process. Each storage starts empty.

    A child process gets a copy, as of everything in memory.
    """
    return _MemoryDriver()


class _MemoryDriver(PersistenceDriver):
    def __repr__(self) -> str:
        return "memory_driver()"

    def create_storage(self) -> Storage:
        return DocumentStorage(MemoryStore())


class _Log:
    def __init__(self) -> None:
        self.texts: list[str] = []
        self.ids: list[str] = []
        self.positions: dict[str, int] = {}
        self.appended_at: int | None = None  # since the session was saved

    def truncate(self, length: int) -> int:
        for id in self.ids[length:]:
            self.positions.pop(id, None)  # an append may have been interrupted before that
        gone = len(self.texts) - length
        del self.texts[length:], self.ids[length:]
        return gone


class MemoryStore(DocumentStore, ForkAware):
    """Texts, not objects: what a caller got or gave shares nothing with what is stored."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._documents: dict[tuple[str, str], tuple[Document, dict[str, str]]] = {}
        # For each kind and index value the places of its documents, in the order of `find`.
        self._places: defaultdict[tuple[str, tuple[str, str] | None], list[tuple[int, str]]] = (
            defaultdict(list)
        )
        self._logs: dict[str, _Log] = {}
        renew_after_fork(self)

    def before_fork(self) -> None:
        self._lock.acquire()  # so that the child's copy is of no half-done step

    def after_fork_in_parent(self) -> None:
        self._lock.release()

    def after_fork(self) -> None:
        self._lock = Lock()

    def put(self, kind: str, document: Document, indexes: Mapping[str, str]) -> None:
        with self._open():
            self._remove(kind, document.key)
            self._documents[kind, document.key] = (document, dict(indexes))
            for index in (None, *indexes.items()):
                insort(self._places[kind, index], (-document.created_at, document.key))
            if kind == SESSIONS:
                self._logs.setdefault(document.key, _Log()).appended_at = None

    def get(self, kind: str, key: str) -> Document | None:
        with self._open():
            return self._document(kind, key) if (kind, key) in self._documents else None

    def find(
        self,
        kind: str,
        index: tuple[str, str] | None,
        after: tuple[int, str] | None,
        limit: int | None,
    ) -> list[Document]:
        with self._open():
            places = self._places.get((kind, index), [])
            start = 0 if after is None else bisect_right(places, (-after[0], after[1]))
            stop = None if limit is None else start + limit
            return [self._document(kind, key) for _, key in places[start:stop]]

    def update(
        self, kind: str, key: str, change: Callable[[Document], Document]
    ) -> Document | None:
        with self._open():
            found = self._documents.get((kind, key))
            if found is None:
                return None
            changed = change(self._document(kind, key))
            self._documents[kind, key] = (changed, found[1])
            return changed

    def delete(self, kind: str, key: str) -> bool:
        with self._open():
            if kind == SESSIONS:
                self._logs.pop(key, None)
            return self._remove(kind, key)

    def append(self, session_id: str, entries: Sequence[Entry], at: int) -> list[int]:
        with self._open():
            log = self._log(session_id)
            texts, ids, positions = log.texts, log.ids, log.positions
            length = len(texts)
            placed = []
            try:
                for id, text in entries:
                    position = positions.get(id)
                    if position is None:
                        texts.append(text)
                        ids.append(id)
                        position = positions[id] = len(texts)
                    elif texts[position - 1] != text:
                        raise RecordConflictError("message", id)
                    placed.append(position)
                if len(texts) > length:
                    log.appended_at = at
            except BaseException:
                log.truncate(length)
                raise
            return placed

    def position(self, session_id: str, entry_id: str) -> int:
        with self._open():
            return self._position(self._log(session_id), entry_id)

    def read(self, session_id: str, window: Window) -> Slice:
        with self._open():
            texts = self._log(session_id).texts
            start, stop = window.within(len(texts))
            return Slice(start + 1, texts[start:stop])

    def count(self, session_id: str) -> int:
        with self._open():
            return len(self._log(session_id).texts)

    def truncate(self, session_id: str, entry_id: str | None) -> int:
        with self._open():
            log = self._log(session_id)
            return log.truncate(0 if entry_id is None else self._position(log, entry_id))

    def where(self, kind: str, key: str, position: int | None = None) -> str:
        entry = "" if position is None else f", message {position}"
        return f"memory, {kind} {key!r}{entry}"

    def ping(self) -> None:
        with self._open():
            return

    def _open(self) -> Lock:
        if self.closed:
            raise PersistenceClosedError
        return self._lock

    def _remove(self, kind: str, key: str) -> bool:
        found = self._documents.pop((kind, key), None)
        if found is None:
            return False
        document, indexes = found
        for index in (None, *indexes.items()):
            places = self._places[kind, index]
            del places[bisect_right(places, (-document.created_at, key)) - 1]
            if not places:
                del self._places[kind, index]
        return True

    def _document(self, kind: str, key: str) -> Document:
        document = self._documents[kind, key][0]
        if kind == SESSIONS and (at := self._logs[key].appended_at) is not None:
            return document._replace(updated_at=at)
        return document

    def _log(self, session_id: str) -> _Log:
        try:
            return self._logs[session_id]
        except KeyError:
            raise RecordNotFoundError("session", session_id) from None

    @staticmethod
    def _position(log: _Log, entry_id: str) -> int:
        try:
            return log.positions[entry_id]
        except KeyError:
            raise RecordNotFoundError("message", entry_id) from None
