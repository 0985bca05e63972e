"""Keeping documents and their index entries together.

A document stores the version of its index entries. Entries of another version are ignored, and the
next listing removes them. So new entries can be added before the document is saved, and old ones
removed after it, and a saved document always has its entries. A version is never used again, so a
late removal of old entries cannot remove new ones.
"""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, Literal, NamedTuple

from agentx_persistence._redis.ahead import Ahead
from agentx_persistence._redis.connection import Call, Connection
from agentx_persistence._redis.deletion_scripts import DAMAGED, DELETE, KEPT
from agentx_persistence._redis.keys import Entries, IndexKeys, Keys, first_element, member, place
from agentx_persistence._redis.pool import Argument, Command
from agentx_persistence._redis.refusals import Subject
from agentx_persistence._redis.scripts import ATOMIC_PUT, DISOWN
from agentx_persistence.errors import BackendUnavailableError, CorruptRecordError
from agentx_persistence.storage import ITEMS, SESSIONS, Document, Kind

Mode = Literal["put", "create", "replace"]

# How often a step is tried while other clients change the same document.
ATTEMPTS = 100


class Version(NamedTuple):
    """The fields of a document as they were read; `entries` is missing if it is damaged."""

    version: bytes
    entries: bytes | None
    revision: bytes | None


# The keys of some documents, and what was read of each.
Chunk = tuple[Sequence[str], Sequence[Version]]


class Indexing(ABC):
    def __init__(self, connection: Connection, keys: Keys) -> None:
        self._connection, self._keys = connection, keys

    @abstractmethod
    def put(self, kind: Kind, document: Document, mode: Mode, revision: str = "") -> bool:
        """Write the document; return False if `mode` refuses that."""

    @abstractmethod
    def create(
        self,
        document: Document,
        updated_at: int,
        work: Callable[[list[bytes], list[Argument]], Any],
    ) -> Any:
        """Create a session by a script that calls `write` (see `scripts`); return its reply.

        :param work: runs the script; is called with the keys and the arguments for `write`
        """

    @abstractmethod
    def delete(self, kind: Kind, keys: Sequence[str], seen: Sequence[Version]) -> list[bool]:
        """Delete each document that still has the version (and the revision, if not ``None``) given
        for it, with its log. Return for each whether it was deleted."""

    def delete_each(self, kind: Kind, chunks: Iterable[Chunk]) -> None:
        """Delete the documents of one chunk after the other, as `delete` does."""
        for keys, seen in chunks:
            self.delete(kind, keys, seen)

    @abstractmethod
    def delete_any(self, kind: Kind, key: str, before: int | None) -> bool | None:
        """Delete the document, whatever version it has; return whether it existed.

        :param before: if not ``None``, and the document has not changed before this time, do
            nothing and return ``None``
        """

    def disown(self, kind: Kind, index: bytes, id: str, version: bytes, stored: bytes) -> None:
        """Remove the member from the index, unless it has the document's current version."""
        subject = (kind.noun, id)
        reply = self._connection.script(DISOWN, subject, self._pair(kind, id), [version])
        if reply is not None:
            self._sweep(kind, [id], [reply])
            self._connection.command(("ZREM", index, stored))

    def leave_first(self, first: str) -> None:
        """Remove this element from the set of first elements, if no item begins with it.

        Only for a cluster: on a single server the scripts do it.
        """
        index, firsts = self._keys.items(first), self._keys.firsts()
        if not self._connection.command(("EXISTS", index)):
            self._connection.command(("ZREM", firsts, first))
            if self._connection.command(("EXISTS", index)):
                self._connection.command(("ZADD", firsts, 0, first))

    def _pair(self, kind: Kind, id: str) -> list[bytes]:
        return [self._keys.document(kind, id), self._keys.journal(kind, id)]

    def _log(self, kind: Kind, id: str) -> list[bytes]:
        return [*self._keys.log(id)[1:]] if kind is SESSIONS else []

    def _sweep(self, kind: Kind, ids: Sequence[str], removable: Sequence[Sequence[bytes]]) -> None:
        """Remove the index entries of old versions.

        :param removable: for each id, versions and `entries` in turn

        Entries in an owner's index are removed last, after those in the journal. So a repeated
        deletion of the owner finds what is left to do, wherever it was interrupted.
        """
        first: list[Command] = []
        journals: list[Command] = []
        last: list[Command] = []
        for id, found in zip(ids, removable, strict=True):
            for version, stored in zip(found[::2], found[1::2], strict=True):
                entries = Entries.load(stored)
                owned = self._owned(kind, entries)
                for key, _, at in self._entries_of(kind, id, entries, 0):
                    (last if key in owned else first).append(("ZREM", key, member(at, version)))
            if found:
                journals.append(("HDEL", self._keys.journal(kind, id), *found[::2]))
        for commands in (first, journals, last):
            self._connection.pipeline(commands)

    def _entries_of(
        self, kind: Kind, id: str, entries: Entries, updated_at: int
    ) -> list[tuple[bytes, int, bytes]]:
        """Return the key, the score and the `place` of each index entry (see `keys`)."""
        indexes, at = self._keys.indexes(kind, entries), place(entries.created_at, id)
        found = [(key, 0, at) for key in indexes.by_time]
        if indexes.other:
            found.append((indexes.other, -(updated_at // 1000), id.encode()))
        return found

    def _owned(self, kind: Kind, entries: Entries) -> set[bytes]:
        return {
            self._keys.index(kind, {field: entries.fields[field]})
            for field in kind.owners
            if field in entries.fields
        }


class AtomicIndexing(Indexing):
    """For one server: a document and its index entries change in one script.

    The keys of a script must be known before it runs, but the old index entries are only known once
    the document is read. So if the document has other entries than the caller expects, the script
    changes nothing and returns them, and the caller runs it again.
    """

    # Whether scripts can change the set of first elements together with an item.
    _firsts_here = True

    def put(self, kind: Kind, document: Document, mode: Mode, revision: str = "") -> bool:
        seen = Version(b"", None, None)
        subject = (kind.noun, document.key)
        where = self._keys.document(kind, document.key)

        for _ in range(ATTEMPTS):
            keys, arguments = self._write(kind, document, document.updated_at, seen)
            reply = self._connection.script(
                ATOMIC_PUT, subject, [where, *keys], [mode, revision, *arguments], refused
            )
            if not isinstance(reply, list):
                return bool(reply)
            seen = Version(reply[1], reply[2], None)
        raise contended(where)

    def create(
        self,
        document: Document,
        updated_at: int,
        work: Callable[[list[bytes], list[Argument]], Any],
    ) -> Any:
        keys, arguments = self._write(SESSIONS, document, updated_at, Version(b"", None, None))
        return work(keys, arguments)

    def _write(
        self, kind: Kind, document: Document, updated_at: int, seen: Version
    ) -> tuple[list[bytes], list[Argument]]:
        """Return the keys and the arguments for `write` (see `scripts`)."""
        key, entries = document.key, Entries.of(kind, document)
        firsts = kind is ITEMS and self._firsts_here
        enter = self._keys.indexes(kind, entries)
        leave, left_at = self._left(kind, key, seen)
        arguments: list[Argument] = [
            document.text.encode(),
            updated_at,
            entries.dump(),
            new_version(),
            document.revision,
            "session" if kind is SESSIONS else "item" if firsts else "",
            place(entries.created_at, key),
            key.encode(),
            0 if kind is ITEMS else -(updated_at // 1000),
            len(enter.by_time),
            "1" if enter.other else "0",
            seen.version,
            left_at,
            len(leave.by_time),
            "1" if leave.other else "0",
        ]
        keys = [*enter.by_time, *_one(enter.other), *leave.by_time, *_one(leave.other)]
        if firsts:
            keys.append(self._keys.firsts())
            arguments.append(first_element(key))
        return keys, arguments

    def _left(self, kind: Kind, key: str, seen: Version) -> tuple[IndexKeys, bytes]:
        if seen.entries is None:
            return IndexKeys((), None), b""
        entries = Entries.load(seen.entries)
        return self._keys.indexes(kind, entries), place(entries.created_at, key)

    def delete(self, kind: Kind, keys: Sequence[str], seen: Sequence[Version]) -> list[bool]:
        replies = self._connection.script(DELETE, *self._deletion(kind, keys, seen))
        return [reply == 1 for reply in replies]

    def delete_each(self, kind: Kind, chunks: Iterable[Chunk]) -> None:
        left = iter(chunks)

        def following() -> Ahead[Call]:
            """Read the next chunk, if there is one, to be prepared later."""
            return Ahead(self._deletion(kind, *chunk) for chunk in [*islice(left, 1)])

        calls = following()
        while (call := next(calls, None)) is not None:
            calls = following()
            self._connection.scripts(DELETE, [call], meanwhile=calls.take)

    def delete_any(self, kind: Kind, key: str, before: int | None) -> bool | None:
        seen, tried = Version(b"", None, None), b""

        def lost(_: Any) -> bool:
            nonlocal tried
            tried = seen.version  # an attempt may have deleted the document with this version
            return False

        for _ in range(ATTEMPTS):
            call = self._deletion(kind, [key], [seen], before)
            (reply,) = self._connection.script(DELETE, *call, lost)
            if reply == KEPT:
                if tried not in (b"", seen.version):
                    raise self._connection.answer_lost(call[0])
                return None
            if not isinstance(reply, list):
                return checked(reply, call[0], self._keys.document(kind, key)) or tried != b""
            seen = Version(reply[0], reply[1], None)
        raise contended(self._keys.document(kind, key))

    def _deletion(
        self,
        kind: Kind,
        keys: Sequence[str],
        seen: Sequence[Version],
        before: int | None = None,
    ) -> Call:
        """Return what the script `DELETE` is called with."""
        left = [self._left(kind, key, version) for key, version in zip(keys, seen, strict=True)]
        common = _common([indexes for indexes, _ in left])
        first = first_element(keys[0]) if kind is ITEMS and self._firsts_here else ""
        names: list[bytes] = [*common.by_time, *_one(common.other)]
        arguments: list[Argument] = [2 if kind is SESSIONS else 0, first]
        arguments += (len(common.by_time), len(_one(common.other)))
        arguments.append("" if before is None else before)
        for key, version, (indexes, at) in zip(keys, seen, left, strict=True):
            by_time = [index for index in indexes.by_time if index not in common.by_time]
            other = _one(indexes.other if indexes.other != common.other else None)
            names += self._keys.log(key) if kind is SESSIONS else [self._keys.document(kind, key)]
            names += (*by_time, *other)
            guards = (version.version, version.revision or b"")
            arguments += (*guards, member(at, version.version), len(by_time), len(other))
        if first:
            names += (self._keys.items(keys[0]), self._keys.firsts())
        return (kind.noun, keys[0]), names, arguments


def _common(indexes: Sequence[IndexKeys]) -> IndexKeys:
    """Return the keys that all of these have."""
    by_time = frozenset.intersection(*(frozenset(each.by_time) for each in indexes))
    others = {each.other for each in indexes}
    return IndexKeys(tuple(by_time), others.pop() if len(others) == 1 else None)


def _one(key: bytes | None) -> tuple[bytes, ...]:
    return () if key is None else (key,)


def checked(reply: int, subject: Subject, key: bytes) -> bool:
    """Return whether the document was deleted.

    :raises CorruptRecordError: if it is damaged
    """
    if reply == DAMAGED:
        raise CorruptRecordError(*subject, f"redis, key {key.decode()!r}")
    return reply == 1


def refused(reply: Any) -> bool:
    return bool(reply == 0)


def new_version() -> bytes:
    return secrets.token_urlsafe(6).encode()


def contended(key: bytes) -> BackendUnavailableError:
    return BackendUnavailableError(
        "redis", f"other clients kept changing {key.decode()!r}; try again later"
    )
