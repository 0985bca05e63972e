"""Documents and their index entries in a cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from agentx_persistence._redis.connection import Call, Connection
from agentx_persistence._redis.deletion_scripts import ABANDON, KEPT
from agentx_persistence._redis.indexing import (
    ATTEMPTS,
    AtomicIndexing,
    Indexing,
    Mode,
    Version,
    checked,
    contended,
    new_version,
    refused,
)
from agentx_persistence._redis.keys import Entries, Keys, first_element, member
from agentx_persistence._redis.log_scripts import AGAIN
from agentx_persistence._redis.pool import Argument
from agentx_persistence._redis.scripts import BEGIN, DISOWN, JOURNALLED_PUT
from agentx_persistence.storage import ITEMS, SESSIONS, Document, Kind


class ItemIndexing(AtomicIndexing):
    """For items in a cluster. Only the set of first elements is in another slot than the item."""

    _firsts_here = False

    def put(self, kind: Kind, document: Document, mode: Mode, revision: str = "") -> bool:
        first = first_element(document.key)
        enter = ("ZADD", self._keys.firsts(), 0, first)
        self._connection.command(enter)
        done = super().put(kind, document, mode, revision)
        index = self._keys.items(document.key)
        if self._connection.command(("ZCARD", index)) == 1:
            # This may be the first item of its element. A deletion of the last one may have removed
            # the element from the set after it was added above.
            self._connection.command(enter)
        return done

    def delete(self, kind: Kind, keys: Sequence[str], seen: Sequence[Version]) -> list[bool]:
        gone = super().delete(kind, keys, seen)
        for first in {*map(first_element, keys)}:
            self.leave_first(first)
        return gone

    def delete_any(self, kind: Kind, key: str, before: int | None) -> bool | None:
        gone = super().delete_any(kind, key, before)
        self.leave_first(first_element(key))
        return gone


class JournalledIndexing(Indexing):
    """For a cluster, where a document and its index entries are in different slots.

    They change one after another. A journal in the slot of the document records which entries may
    exist. If a process dies half-way, the next write or deletion of the document removes the
    entries that are left over.
    """

    def __init__(self, connection: Connection, keys: Keys) -> None:
        super().__init__(connection, keys)
        self._items = ItemIndexing(connection, keys)

    def put(self, kind: Kind, document: Document, mode: Mode, revision: str = "") -> bool:
        if kind is ITEMS:
            return self._items.put(kind, document, mode, revision)
        subject, pair = (kind.noun, document.key), self._pair(kind, document.key)

        for _ in range(ATTEMPTS):
            version, arguments = self._enter(kind, document, document.updated_at)
            reply = self._connection.script(
                JOURNALLED_PUT, subject, pair, [mode, revision, *arguments], refused
            )
            if reply != 0 and reply[:1] != [-1]:
                self._sweep(kind, [document.key], [reply])
                return True
            # The write was refused, or a deletion or a listing has declared the new entries
            # removable meanwhile.
            self._withdraw(kind, document, version)
            if reply == 0:
                return False
        raise contended(pair[0])

    def create(
        self,
        document: Document,
        updated_at: int,
        work: Callable[[list[bytes], list[Argument]], Any],
    ) -> Any:
        for _ in range(ATTEMPTS):
            version, arguments = self._enter(SESSIONS, document, updated_at)
            journal = self._keys.journal(SESSIONS, document.key)
            reply = work([journal], arguments)
            # This removes the entries, unless `work` has created the session with them.
            self._withdraw(SESSIONS, document, version)
            if reply != AGAIN:
                return reply
        raise contended(self._keys.document(SESSIONS, document.key))

    def _enter(
        self, kind: Kind, document: Document, updated_at: int
    ) -> tuple[bytes, list[Argument]]:
        """Add the index entries; return their version, and the arguments for `write`."""
        key, entries = document.key, Entries.of(kind, document)
        stored = entries.dump()
        version = self._connection.script(
            BEGIN, (kind.noun, key), self._pair(kind, key), [stored, new_version()]
        )
        self._connection.pipeline(
            [
                ("ZADD", index, score, member(at, version))
                for index, score, at in self._entries_of(kind, key, entries, updated_at)
            ]
        )
        session = "session" if kind is SESSIONS else ""
        text = document.text.encode()
        return version, [text, updated_at, stored, version, document.revision, session]

    def _withdraw(self, kind: Kind, document: Document, version: bytes) -> None:
        """Remove the entries of this version, unless it is the document's current one."""
        subject, pair = (kind.noun, document.key), self._pair(kind, document.key)
        reply = self._connection.script(DISOWN, subject, pair, [version])
        if reply is not None:
            entries = Entries.of(kind, document).dump()
            self._sweep(kind, [document.key], [[version, entries, *reply]])

    def delete(self, kind: Kind, keys: Sequence[str], seen: Sequence[Version]) -> list[bool]:
        if kind is ITEMS:
            return self._items.delete(kind, keys, seen)
        calls = [
            self._abandoning(kind, key, version.version, version.revision or b"", b"")
            for key, version in zip(keys, seen, strict=True)
        ]
        replies = self._connection.scripts(ABANDON, calls)
        self._sweep(kind, keys, [reply[1:] for reply in replies])
        return [bool(reply[0]) for reply in replies]

    def delete_any(self, kind: Kind, key: str, before: int | None) -> bool | None:
        if kind is ITEMS:
            return self._items.delete_any(kind, key, before)
        again = False

        def lost(reply: Any) -> bool:
            nonlocal again
            again = True
            return bool(reply[0] == KEPT)

        call = self._abandoning(kind, key, b"", b"", b"" if before is None else before)
        answer, *removable = self._connection.script(ABANDON, *call, lost)
        if answer == KEPT:
            return None
        gone = checked(answer, call[0], call[1][0])
        self._sweep(kind, [key], [removable])
        # A deletion whose answer was lost has left its entries in the journal.
        return gone or (again and bool(removable))

    def _abandoning(self, kind: Kind, key: str, *guards: Argument) -> Call:
        """Return what the script `ABANDON` is called with."""
        return (kind.noun, key), [*self._pair(kind, key), *self._log(kind, key)], guards
