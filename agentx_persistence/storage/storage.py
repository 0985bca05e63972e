"""The interface that a backend implements, and the driver that opens it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from agentx_persistence.errors import (
    ConfigurationError,
    CorruptRecordError,
    RecordNotFoundError,
)
from agentx_persistence.storage.kinds import CONTAINERS, SESSIONS, Kind
from agentx_persistence.storage.values import (
    Addition,
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
    """An open backend. It stores documents of a few kinds, and a log of messages for each session.

    * Each method except `delete` and `append_each` is one atomic step: other callers see all of its
      changes or none, and after a crash at any moment all of them are stored or none.
    * Texts are opaque: a storage gives them back exactly and never looks inside or compares them.
    * Keys and ids are any text without NUL and without U+001F, which only the keys of items
      contain. They are compared exactly and ordered by code point.
    * Methods can be called from any thread. After `close` each raises `PersistenceClosedError`.
    * If a storage repeats a call because the answer was lost, the call is applied once. The storage
      recognises the first attempt by a token that it stored: `Document.revision`, or the `token` of
      a log. If another write has replaced the token since, it raises `BackendUnavailableError`.
    * A damaged document or log raises `CorruptRecordError`. A damaged text is returned as it is.
    * The log of a session exists exactly as long as the session; the argument `log` is the
      session's id. A missing log raises `RecordNotFoundError("session", log)`. A missing entry that
      an argument names raises `RecordNotFoundError("message", id)`.
    * All methods raise `BackendError`, or `BackendUnavailableError` for a failure that may pass.
      Methods that write raise `RecordTooLargeError` before they have written anything.
    """

    # Whether the calls run in a transaction of the caller. In one, no call is repeated.
    joined: bool = False

    @abstractmethod
    def put(self, kind: Kind, document: Document) -> None:
        """Create or replace the document with its index entries. A session keeps its log."""

    @abstractmethod
    def create(self, kind: Kind, document: Document) -> bool:
        """Create the document; return False, and change nothing, if its key is taken."""

    @abstractmethod
    def replace(self, kind: Kind, document: Document, revision: str) -> bool:
        """Replace the document and its index entries, if the stored one has this revision.

        Return False, and change nothing, if the document is absent or has another revision.
        Appending to the log of a session does not change the session's revision.
        """

    def amend(self, kind: Kind, document: Document, revision: str) -> bool:
        """Do the same for a document that has the `fields` and the `created_at` of the stored one.

        A storage overrides this if it then has less to write.
        """
        return self.replace(kind, document, revision)

    @abstractmethod
    def get(self, kind: Kind, keys: Sequence[str]) -> dict[str, Stored]:
        """Return the existing documents among these keys, in one round trip if the backend can."""

    def peek(self, kind: Kind, key: str) -> Stored | None:
        """Return the document, if it exists, to be read and not replaced: its `revision` may be
        empty, and its `updated_at` may be 0 if it is not a session.

        A storage overrides this if it then has less to read.
        """
        return self.get(kind, (key,)).get(key)

    @abstractmethod
    def find(self, kind: Kind, query: Query) -> Listing:
        """Return the documents of the query, to be read and not replaced.

        The cost is in proportion to the documents returned, on a late page as on the first one.
        Documents that are saved between two pages neither hide nor repeat one whose place in the
        order stays the same.
        """

    @abstractmethod
    def count(self, kind: Kind, query: Query) -> int:
        """Return how many documents `find` would return, `limit` and `after` included, without
        reading their texts."""

    @abstractmethod
    def delete(self, kind: Kind, key: str, *, before: int | None = None) -> bool:
        """Delete the document, its log, and all that it owns; return whether it existed.

        * What an absent document owns is deleted as well, so that an interrupted deletion can be
          repeated.
        * After the first step no call finds the document itself.
        * Each owned document is deleted with its log in one atomic step, which checks that the
          document still belongs to the owner. If it has been moved to another owner, it stays with
          all that it owns.
        * A document that is put into the owner meanwhile may be deleted or stay.
        * A large deletion is done in bounded chunks, so that no other call waits for more than one.

        :param before: if the document exists and its `updated_at` is not less than this, write
            nothing and return False. The first step decides that: a session that has been appended
            to until then stays. If a repeated call finds such a session, and cannot tell whether
            an earlier attempt deleted another one, it raises `BackendUnavailableError`
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
        """Append all the entries and return the number of entries in the log afterwards.

        No two of `entries` have the same id. If the log already has one of the ids, or does not
        have the `expected` number of entries or this `generation`, write nothing and return
        `Found` with those of the entries that the log has. Otherwise the session's `updated_at`
        becomes at least `at`. Without entries, only the session is created.

        :param create: the session to create in the same step if it does not exist. If `expected` is
            above 0 then, or `generation` is not its revision, nothing is created, and the answer is
            `Found` with a count of 0
        """

    def append_each(self, additions: Iterable[Addition]) -> Iterator[int | Found]:
        """Append all of these, in this order; yield what `append` returns for each.

        Each is one step, and creating its session may be a step before. If taking the next addition
        raises, the earlier ones are done. Taking one must not use this storage, which may be busy.
        """
        for log, entries, at, create, expected in additions:
            if create is not None:
                self.create(SESSIONS, create)
            yield self.append(log, entries, at, expected=expected)

    @abstractmethod
    def read(self, log: str, window: Window) -> Slice:
        """Return the entries of the window, oldest first."""

    @abstractmethod
    def lookup(self, log: str, ids: Sequence[str]) -> Found:
        """Return the entries with these ids that the log has."""

    @abstractmethod
    def newest(self, logs: Sequence[str]) -> dict[str, Slice]:
        """Return the last entry (or none) and the head of each log that exists, in one round trip
        if the backend can."""

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
        """Cut off all entries after the entry `after`, append `entries`, and return how many were
        cut off.

        `after` is an id or a position; ``None`` or 0 cuts off everything, and a position after the
        last entry is missing. No two of `entries` have the same id, and they may use the ids that
        are cut off. If the kept part has one of their ids, or the log does not have the `expected`
        number of entries or this `generation`, write nothing and return `Found`. Otherwise the
        log's generation becomes ``f"{token}.{number cut off}"``, from which a repeated call takes
        its answer, and the session's `updated_at` becomes at least `at`. If one of these checks
        fails and `after` is missing as well, the call may return `Found` or raise
        `RecordNotFoundError`. Readers see even a large cut as one step; the entries cut off are
        deleted in bounded chunks.
        """

    def exchange(
        self,
        log: str,
        window: Window,
        entries: Sequence[Entry],
        at: int,
        token: str,
        accept: Callable[[Slice], None],
    ) -> Found | None:
        """Put `entries` in place of those in the window, which reaches to the end of the log.

        :param window: headed; either what comes after an entry, or the last entry, which is no
            change if there is none
        :param accept: is called with the entries of the window before they are cut off, perhaps
            more than once. It uses no storage. If it raises, nothing is changed
        :return: ``None``, or `Found` if nothing was written, because the log changed meanwhile or
            the kept part has one of the ids; see `rewrite`
        """
        if window.last:
            newest = self.newest([log])
            if not newest:
                raise RecordNotFoundError("session", log)
            found = newest[log]
        else:
            found = self.read(log, window)
        assert found.head is not None  # as the window asks for it
        count, generation = found.head
        kept = count - len(found.texts)
        # If the last entries are lost, others would be cut off in their place. Without texts, only
        # the storage can tell, which knows the position of the entry `after`.
        if found.start != kept + 1 if found.texts else count and window.after is None:
            raise CorruptRecordError("message", f"#{count}", self.where(SESSIONS, log, count))
        accept(found)
        if window.last and not found.texts:
            return None
        try:
            answer = self.rewrite(
                log, kept, entries, at, token, expected=count, generation=generation
            )
        except RecordNotFoundError as error:
            if error.kind != "message":
                raise
            return Found(self.head(log), {})  # others have cut this position off meanwhile
        return None if isinstance(answer, int) else answer

    @abstractmethod
    def swap(self, log: str, entry: Entry, at: int, token: str) -> None:
        """Replace the text and fields of the entry with this id, which keeps its position.

        The log's generation becomes `token`, and the session's `updated_at` at least `at`.
        """

    @abstractmethod
    def fork(self, log: str, through: str | None, document: Document) -> int | None:
        """Create the session `document` with a copy of the log's entries up to and including
        `through` (``None``: all); return their number, or ``None`` if the session exists already.

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
    """Opens one backend. Constructing a driver does not connect."""

    @abstractmethod
    def create_storage(self) -> Storage:
        """Connect, check, and return the open storage.

        :raises BackendUnavailableError: if the backend cannot be reached, within seconds
        :raises ConfigurationError: if repeating cannot help, such as a wrong password
        :raises SchemaError: if its tables are missing, outdated or too new
        """
