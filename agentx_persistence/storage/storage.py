"""The port: what a backend has to do, and the driver that opens it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

from agentx_persistence.errors import ConfigurationError
from agentx_persistence.storage.kinds import CONTAINERS, Kind
from agentx_persistence.storage.values import (
    Document,
    Entry,
    Found,
    Head,
    Listing,
    Query,
    Slice,
    Stored,
    Trace,
    Window,
)


class Storage(ABC):
    """An open backend: documents of a few kinds, and a log for each session.

    * Each method but `delete` is one atomic step: others see it wholly or not at all, and it is
      whole or absent after a crash at any moment.
    * Texts are opaque: a storage gives them back exactly and never looks inside or compares them.
    * Keys and ids are any text without NUL and without U+001F (but for the keys of items); they
      are compared exactly, and ordered by code point.
    * Methods can be called from any thread. After `close` each raises `PersistenceClosedError`.
    * A call that is repeated because its answer was lost is applied once. A storage that repeats a
      call recognises the first attempt by its token: `Document.revision`, or the `token` of a log.
      If it cannot tell (the token has been overwritten since), it raises
      `BackendUnavailableError`.
    * A damaged document or log raises `CorruptRecordError`. A damaged text is returned as it is.
    * The log of a session exists exactly as long as the session. A missing one raises
      `RecordNotFoundError("session", log)`, a missing entry that was named
      `RecordNotFoundError("message", id)`.
    * All methods raise `BackendError`, or `BackendUnavailableError` for what may pass;
      those that write raise `RecordTooLargeError` before they have written anything.
    """

    # Whether the calls run in a transaction of the caller, where nothing is repeated.
    joined: bool = False

    @abstractmethod
    def put(self, kind: Kind, document: Document) -> None:
        """Create or replace the document with its index entries. A session keeps its log."""

    @abstractmethod
    def create(self, kind: Kind, document: Document) -> bool:
        """Create the document; return False, and change nothing, if its key is taken."""

    @abstractmethod
    def replace(self, kind: Kind, document: Document, revision: str) -> bool:
        """Replace the document, index entries included, if it is there with this revision.

        Return False, and change nothing, if it is absent or has another one. Appending to the log
        of a session does not change its revision.
        """

    @abstractmethod
    def get(self, kind: Kind, keys: Sequence[str]) -> dict[str, Stored]:
        """Return those of the documents that exist: one round trip, if the backend can."""

    @abstractmethod
    def find(self, kind: Kind, query: Query) -> Listing:
        """Return the documents of the query. The cost follows what is returned, at any depth.

        Documents that are saved meanwhile neither hide nor repeat one whose place stays the same.
        """

    @abstractmethod
    def count(self, kind: Kind, query: Query) -> int:
        """Return how many documents `find` would return, `limit` and `after` included, without
        reading their texts."""

    @abstractmethod
    def delete(self, kind: Kind, key: str) -> bool:
        """Delete the document, its log, and all that it owns; tell whether it was there.

        * What an absent document owns is deleted as well, so that an interrupted deletion can be
          repeated.
        * After the first step no call finds the document itself.
        * Each owned document is deleted with its log in one atomic step, which checks that the
          document still belongs to the owner. One that has moved away, and what it owns, is not
          touched.
        * A document that is put into the owner meanwhile may be deleted or stay.
        * A large deletion is done in bounded chunks, so that no other call waits for more than one.
        """

    @abstractmethod
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
        """Append all the entries, whose ids differ; return the number of entries afterwards.

        Return `Found`, with those of the entries that are there, and write nothing, if an id is
        there already, or if the log does not have the `expected` number of entries or this
        `generation`. Otherwise the session's `updated_at` becomes at least `at`. Without entries,
        only the creation happens.

        :param create: the session to create in the same step if there is none. If more than 0
            entries are expected, nothing is created, and the answer is `Found` with a count of 0
        """

    @abstractmethod
    def read(self, log: str, window: Window) -> Slice:
        """Return the entries of the window, oldest first."""

    @abstractmethod
    def lookup(self, log: str, ids: Sequence[str]) -> Found:
        """Return those of the entries that are there."""

    @abstractmethod
    def newest(self, logs: Sequence[str]) -> dict[str, Slice]:
        """Return the last entry (or none) and the head of each log that exists: one round trip, if
        the backend can."""

    @abstractmethod
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
        """Cut off what comes after the entry `after` (its id or position; ``None`` or 0:
        everything), append the entries, whose ids differ; return how many were cut off.

        The ids that are cut off are free again. Return `Found`, and write nothing, if an entry's
        id is in the part that is kept, or if the log does not have the `expected` number of entries
        or this `generation`. Otherwise the log's generation becomes
        ``f"{token}.{number cut off}"``, from which a repeated call takes its answer, and the
        session's `updated_at` becomes at least `at`. If a guard fails and `after` is absent, either
        of the two answers may come. A large cut is one step for readers; what it cut off is deleted
        in bounded chunks.
        """

    @abstractmethod
    def swap(self, log: str, entry: Entry, at: int, token: str) -> None:
        """Replace the text and fields of the entry with this id, which keeps its position.

        The log's generation becomes `token`, and the session's `updated_at` at least `at`.
        """

    @abstractmethod
    def fork(self, log: str, through: str | None, document: Document) -> int | None:
        """Create the session `document` with a copy of the log's entries up to and including
        `through` (``None``: all); return their number, or ``None`` if its key is taken.

        The entries are copied on the server, unless the two logs can be on different servers.
        """

    def head(self, log: str) -> Head:
        """Return the state of the log."""
        head = self.read(log, Window(first=0, headed=True)).head
        assert head is not None
        return head

    def within(self, transaction: Any) -> Storage:
        """Return a storage whose calls run in the caller's open transaction and never end it.

        :raises ConfigurationError: if the backend cannot do that
        """
        reason = "this backend has no transactions to join; use SQL or MongoDB for that"
        raise ConfigurationError("within", reason)

    @abstractmethod
    def where(self, kind: Kind, key: str, position: int | None = None) -> str:
        """Return where an operator finds the raw document, or the entry at this position."""

    def traces(self, kind: Kind) -> Iterator[Trace]:
        """Yield, in any order, what is stored of documents that `find` may not show: damaged ones,
        index entries and logs without a document, what an interrupted deletion left.

        Whole ones may be among them. This may read the whole store: only `examine` calls it. A
        storage that has nothing to yield need not implement it.
        """
        return iter(())

    def ping(self) -> None:
        """Check that the backend answers.

        :raises BackendUnavailableError: if it does not
        """
        self.get(CONTAINERS, ["ping"])

    @abstractmethod
    def close(self) -> None:
        """Close the connections and files that this storage opened. A second call does nothing.

        A call that is under way in another thread finishes or raises `PersistenceClosedError`.
        """


class PersistenceDriver(ABC):
    """Knows how to open one backend. Making a driver connects to nothing."""

    @abstractmethod
    def create_storage(self) -> Storage:
        """Connect, check, and return the open storage.

        :raises BackendUnavailableError: if the backend cannot be reached, within seconds
        :raises ConfigurationError: if repeating cannot help, such as a wrong password
        :raises SchemaError: if its tables are missing, outdated or too new
        """
