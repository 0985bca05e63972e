"""The storage over a `Database`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from agentx_persistence._sql.appending import Append, Appending
from agentx_persistence._sql.deletion import Deletion
from agentx_persistence._sql.documents import Documents, key_values
from agentx_persistence._sql.engine import Database
from agentx_persistence._sql.forking import Forking
from agentx_persistence._sql.joined import JoinedDatabase
from agentx_persistence._sql.listings import Listings
from agentx_persistence._sql.reading import Reading
from agentx_persistence._sql.rewriting import Rewriting
from agentx_persistence._sql.rows import LogRows
from agentx_persistence._sql.tables import TABLES
from agentx_persistence._sql.traces import traces
from agentx_persistence.storage import (
    Document,
    Entry,
    Found,
    Head,
    Kind,
    Listing,
    Query,
    Slice,
    Storage,
    Stored,
    Trace,
    Window,
)


class SqlStorage(Storage):
    def __init__(
        self,
        database: Database,
        appending: type[Appending] = Appending,
        rewriting: type[Rewriting] = Rewriting,
    ) -> None:
        self._database = database
        rows = LogRows(database)
        self._documents = Documents(database)
        self._listings = Listings(database)
        self._reading = Reading(database)
        self._appending = appending(database, self._documents, rows, self._reading)
        self._rewriting = rewriting(database, rows, self._reading)
        self._forking = Forking(database, self._documents, rows)
        self._deletion = Deletion(database, self._documents, rows)

    def __repr__(self) -> str:
        return f"{self._database.flavour.backend} {self._database.flavour.place}"

    def put(self, kind: Kind, document: Document) -> None:
        self._documents.put(kind, document)

    def create(self, kind: Kind, document: Document) -> bool:
        return self._documents.create(kind, document)

    def replace(self, kind: Kind, document: Document, revision: str) -> bool:
        return self._documents.replace(kind, document, revision)

    def amend(self, kind: Kind, document: Document, revision: str) -> bool:
        return self._documents.amend(kind, document, revision)

    def get(self, kind: Kind, keys: Sequence[str]) -> dict[str, Stored]:
        return self._documents.get(kind, keys)

    def peek(self, kind: Kind, key: str) -> Stored | None:
        return self._documents.peek(kind, key)

    def find(self, kind: Kind, query: Query) -> Listing:
        return self._listings.find(kind, query)

    def count(self, kind: Kind, query: Query) -> int:
        return self._listings.count(kind, query)

    def delete(self, kind: Kind, key: str, *, before: int | None = None) -> bool:
        return self._deletion.delete(kind, key, before)

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
        return self._appending.append(Append(log, entries, at, create, expected, generation))

    def read(self, log: str, window: Window) -> Slice:
        return self._reading.read(log, window)

    def lookup(self, log: str, ids: Sequence[str]) -> Found:
        return self._reading.lookup(log, ids)

    def head(self, log: str) -> Head:
        return self._reading.head(log)

    def newest(self, logs: Sequence[str]) -> dict[str, Slice]:
        return self._reading.newest(logs)

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
        return self._rewriting.rewrite(log, after, entries, at, token, expected, generation)

    def exchange(
        self,
        log: str,
        window: Window,
        entries: Sequence[Entry],
        at: int,
        token: str,
        accept: Callable[[Slice], None],
    ) -> Found | None:
        if self._rewriting.exchange(log, window, entries, at, token, accept):
            return None
        return super().exchange(log, window, entries, at, token, accept)

    def swap(self, log: str, entry: Entry, at: int, token: str) -> None:
        self._rewriting.swap(log, entry, at, token)

    def fork(self, log: str, through: str | None, document: Document) -> int | None:
        return self._forking.fork(log, through, document)

    def within(self, transaction: Any) -> SqlStorage:
        database = JoinedDatabase(self._database, transaction)
        kind = SqlStorage
        if database.reads_with_locks:
            from agentx_persistence._sql.mysql_joined import MysqlJoinedStorage

            kind = MysqlJoinedStorage
        storage = kind(database, type(self._appending), type(self._rewriting))
        storage.joined = True
        return storage

    def where(self, kind: Kind, key: str, position: int | None = None) -> str:
        if position is not None:
            return self._reading.where(key, position)
        values = key_values(kind, key).items()
        place = f"{self._database.flavour.place}, table {TABLES[kind].name}"
        return ", ".join([place, *(f"{name} = {value!r}" for name, value in values)])

    def traces(self, kind: Kind) -> Iterator[Trace]:
        return traces(self._database, kind)

    def ping(self) -> None:
        self._database.fetch("SELECT 1")

    def close(self) -> None:
        self._database.close()
