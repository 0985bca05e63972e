"""The storage over Redis."""

from __future__ import annotations

from collections.abc import Sequence

from agentx_persistence._redis.connection import Connection
from agentx_persistence._redis.deletion import Deletion
from agentx_persistence._redis.documents import Documents
from agentx_persistence._redis.indexing import AtomicIndexing, JournalledIndexing
from agentx_persistence._redis.keys import Keys
from agentx_persistence._redis.listing import Listings
from agentx_persistence._redis.logs import Logs
from agentx_persistence.errors import RecordTooLargeError
from agentx_persistence.storage import (
    SESSIONS,
    Document,
    Entry,
    Found,
    Kind,
    Listing,
    Query,
    Slice,
    Storage,
    Stored,
    Window,
)


class RedisStorage(Storage):
    """Documents are hashes, logs are lists; `agentx_persistence._redis.keys` says where."""

    def __init__(self, connection: Connection, base: str, limit: int) -> None:
        """:param limit: how many bytes the server takes for one text"""
        keys = Keys(base)
        indexing = (JournalledIndexing if connection.cluster else AtomicIndexing)(connection, keys)
        documents = Documents(connection, keys)
        self._connection, self._keys, self._limit = connection, keys, limit
        self._indexing, self._documents = indexing, documents
        self._listings = Listings(connection, keys, indexing, documents)
        self._logs = Logs(connection, keys, indexing, documents)
        self._deletion = Deletion(connection, keys, indexing, documents, self._listings)

    def put(self, kind: Kind, document: Document) -> None:
        self._check_size(kind.noun, document.key, document.text)
        self._indexing.put(kind, document, "put")

    def create(self, kind: Kind, document: Document) -> bool:
        self._check_size(kind.noun, document.key, document.text)
        return self._indexing.put(kind, document, "create")

    def replace(self, kind: Kind, document: Document, revision: str) -> bool:
        self._check_size(kind.noun, document.key, document.text)
        return self._indexing.put(kind, document, "replace", revision)

    def get(self, kind: Kind, keys: Sequence[str]) -> dict[str, Stored]:
        return self._documents.get(kind, keys)

    def find(self, kind: Kind, query: Query) -> Listing:
        return self._listings.find(kind, query)

    def count(self, kind: Kind, query: Query) -> int:
        return self._listings.count(kind, query)

    def delete(self, kind: Kind, key: str) -> bool:
        return self._deletion.delete(kind, key)

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
        if create is not None:
            self._check_size("session", create.key, create.text)
        self._check_entries(entries)
        return self._logs.append(log, entries, at, create, expected, generation)

    def read(self, log: str, window: Window) -> Slice:
        return self._logs.read(log, window)

    def lookup(self, log: str, ids: Sequence[str]) -> Found:
        return self._logs.lookup(log, ids)

    def newest(self, logs: Sequence[str]) -> dict[str, Slice]:
        return self._logs.newest(logs)

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
        self._check_entries(entries)
        return self._logs.rewrite(log, after, entries, at, token, expected, generation)

    def swap(self, log: str, entry: Entry, at: int, token: str) -> None:
        self._check_entries([entry])
        self._logs.swap(log, entry, at, token)

    def fork(self, log: str, through: str | None, document: Document) -> int | None:
        self._check_size("session", document.key, document.text)
        return self._logs.fork(log, through, document)

    def where(self, kind: Kind, key: str, position: int | None = None) -> str:
        if position is None or kind is not SESSIONS:
            return self._documents.where(kind, key)
        messages = self._keys.log(key)[1].decode()
        return f"redis, key {messages!r}, list index {position - 1}"

    def ping(self) -> None:
        self._connection.ping()

    def close(self) -> None:
        self._connection.close()

    def _check_entries(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self._check_size("message", entry.id, entry.text)

    def _check_size(self, noun: str, id: str, text: str) -> None:
        # A character is at most four bytes.
        if 4 * len(text) > self._limit and len(text.encode()) > self._limit:
            raise RecordTooLargeError(noun, id, len(text.encode()), self._limit)
