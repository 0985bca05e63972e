"""The storage on MongoDB. Each method calls a class that does the work."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from pymongo.client_session import ClientSession

from agentx_persistence._mongodb.appending import Append
from agentx_persistence._mongodb.clients import TooLargeForTransactionError
from agentx_persistence._mongodb.deleting import Deletion
from agentx_persistence._mongodb.documents import Documents
from agentx_persistence._mongodb.log import Log
from agentx_persistence._mongodb.reading import Reading, look_up, read_newest
from agentx_persistence._mongodb.rewriting import Rewriting
from agentx_persistence._mongodb.scope import Scope
from agentx_persistence._mongodb.traces import traces
from agentx_persistence.errors import ConfigurationError
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
    owned_by,
)

T = TypeVar("T")

# A transaction deletes at most this many documents, because other calls wait for it.
_TRANSACTION = 5_000


class MongoStorage(Storage):
    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self.joined = scope.unit is not None

    def __repr__(self) -> str:
        return f"<MongoDB database {self._scope.database.name!r}>"

    def put(self, kind: Kind, document: Document) -> None:
        documents = Documents(self._scope, kind)
        self._scope.run(lambda again: documents.put(document, again))

    def create(self, kind: Kind, document: Document) -> bool:
        documents = Documents(self._scope, kind)
        return self._scope.run(lambda again: documents.create(document, again))

    def replace(self, kind: Kind, document: Document, revision: str) -> bool:
        documents = Documents(self._scope, kind)
        return self._scope.run(lambda again: documents.replace(document, revision, again))

    def get(self, kind: Kind, keys: Sequence[str]) -> dict[str, Stored]:
        return self._scope.run(lambda _: Documents(self._scope, kind).get(keys))

    def find(self, kind: Kind, query: Query) -> Listing:
        return self._scope.run(lambda _: Documents(self._scope, kind).find(query))

    def count(self, kind: Kind, query: Query) -> int:
        return self._scope.run(lambda _: Documents(self._scope, kind).count(query))

    def delete(self, kind: Kind, key: str, *, before: int | None = None) -> bool:
        scope = self._scope
        existed = False

        def delete(own: Scope) -> bool:
            nonlocal existed
            # If the answer of the commit was lost, only this shows that the document was there.
            existed = Deletion(own, _TRANSACTION).delete(kind, key, before, existed) or existed
            return existed

        if owned_by(kind) and scope.database.has_transactions and scope.unit is None:
            try:
                return scope.transaction(delete)
            except TooLargeForTransactionError:
                pass
        deletion = Deletion(scope)
        return scope.run(
            lambda again: deletion.delete(kind, key, before, again or existed) or existed
        )

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
        append = Append(self._scope, log, entries, at)
        return self._in_turn(log, lambda again: append.run(create, expected, generation, again))

    def read(self, log: str, window: Window) -> Slice:
        return self._scope.run(lambda _: Reading(self._scope, log, window).read())

    def lookup(self, log: str, ids: Sequence[str]) -> Found:
        return self._scope.run(lambda _: look_up(self._scope, log, ids))

    def newest(self, logs: Sequence[str]) -> dict[str, Slice]:
        return self._scope.run(lambda _: read_newest(self._scope, logs))

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
        rewriting = Rewriting(self._scope, log, at)
        return self._in_turn(
            log, lambda again: rewriting.rewrite(after, entries, token, expected, generation, again)
        )

    def swap(self, log: str, entry: Entry, at: int, token: str) -> None:
        rewriting = Rewriting(self._scope, log, at)
        self._in_turn(log, lambda again: rewriting.swap(entry, token, again))

    def fork(self, log: str, through: str | None, document: Document) -> int | None:
        rewriting = Rewriting(self._scope, log, document.updated_at)
        return self._scope.run(lambda _: rewriting.fork(through, document))

    def head(self, log: str) -> Head:
        found = Log(self._scope, log)
        return self._scope.run(lambda _: found.require(found.find_head(latest=False)).public)

    def within(self, transaction: Any) -> Storage:
        if not isinstance(transaction, ClientSession) or not transaction.in_transaction:
            reason = "within: give a pymongo ClientSession in which a transaction has been started"
            raise ConfigurationError("mongodb", reason)
        if transaction.client is not self._scope.database.clients.given:
            reason = (
                "within: give a session of the client that was given to mongodb_driver(client=)"
            )
            raise ConfigurationError("mongodb", reason)
        return MongoStorage(Scope(self._scope.database, transaction))

    def where(self, kind: Kind, key: str, position: int | None = None) -> str:
        return self._scope.database.where(kind, key, position)

    def traces(self, kind: Kind) -> Iterator[Trace]:
        return traces(self._scope, kind)

    def ping(self) -> None:
        self._scope.run(lambda _: self._scope.database.client.admin.command("ping"))

    def close(self) -> None:
        if self._scope.unit is None:
            self._scope.database.close()

    def _in_turn(self, log: str, work: Callable[[bool], T]) -> T:
        return self._scope.database.turns.run(log, lambda: self._scope.run(work))
