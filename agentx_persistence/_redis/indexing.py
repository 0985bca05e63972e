"""Keeping documents and their index entries together.

A document tells the version of its index entries; an entry of any other version counts for
nothing, and whoever meets one removes it. So a saved document is never without its entries, not
even for a moment, and a version is never used again, so that what removes old entries late cannot
meet new ones.
"""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from agentx_persistence._redis.client import Argument, Client, Command, Subject
from agentx_persistence._redis.keys import Entries, Index, Keys, Member, member, place
from agentx_persistence._redis.scripts import (
    ABANDON,
    BEGIN,
    COMMIT,
    DELETE,
    DISOWN,
    PUT,
    Script,
)
from agentx_persistence.documents import Document
from agentx_persistence.documents.store import SESSIONS
from agentx_persistence.errors import BackendError

# How often a step is done again because others changed the same document meanwhile.
ATTEMPTS = 100

_OWNERS = ("container_id", "image_id")


class Indexing(ABC):
    def __init__(self, client: Client, keys: Keys) -> None:
        self._client, self._keys = client, keys

    @abstractmethod
    def put(self, kind: str, document: Document, indexes: Mapping[str, str]) -> None:
        """See `DocumentStore.put`."""

    @abstractmethod
    def delete(self, kind: str, id: str) -> bool:
        """See `DocumentStore.delete`."""

    def disown(self, kind: str, index: Index | None, stale: Member) -> None:
        """Remove an index entry, unless it is the document's."""
        subject = (kind, stale.id)
        reply = self._client.script(DISOWN, subject, self._pair(*subject), [stale.version])
        if reply is not None:
            self._sweep(subject, reply)
            entry = member(stale.place, stale.version)
            self._client.command(("ZREM", self._keys.index(kind, index), entry))

    def _pair(self, kind: str, id: str) -> list[bytes]:
        return [self._keys.document(kind, id), self._keys.journal(kind, id)]

    def _log(self, kind: str, id: str) -> list[bytes]:
        return [*self._keys.log(id)[1:]] if kind == SESSIONS else []

    def _sweep(self, subject: Subject, removable: Sequence[bytes]) -> None:
        """Remove all entries of these versions, given as versions and entries in turn.

        Those by which an owner's deletion finds what it owns go last, when the journal is clear: a
        deletion that is repeated finds what is left to do, at whatever point it was interrupted.
        """
        if not removable:
            return
        versions = removable[::2]
        last: list[Command] = []
        for version, stored in zip(versions, removable[1::2], strict=True):
            removals, of_owners = self._removals(subject, version, Entries.load(stored))
            self._client.pipeline(removals, [subject] * len(removals))
            last += of_owners
        self._client.command(("HDEL", self._keys.journal(*subject), *versions), subject)
        self._client.pipeline(last, [subject] * len(last))

    def _removals(
        self, subject: Subject, version: bytes, entries: Entries
    ) -> tuple[list[Command], list[Command]]:
        """Return the commands that remove the entries, and those that remove them from owners."""
        kind, id = subject
        entry = member(place(entries.created_at, id), version)
        removals: tuple[list[Command], list[Command]] = ([], [])
        for index in (None, *entries.indexes.items()):
            of_owner = index is not None and index[0] in _OWNERS
            removals[of_owner].append(("ZREM", self._keys.index(kind, index), entry))
        return removals


class AtomicIndexing(Indexing):
    """For one server: document and entries change in one script.

    Which entries the document had is known only after asking, and keys must be named beforehand.
    So the script changes nothing if it meets other entries than it was told of, and says which.
    """

    def put(self, kind: str, document: Document, indexes: Mapping[str, str]) -> None:
        id = document.key
        entries = Entries(document.created_at, indexes)
        enter = entries.keys(self._keys, kind)
        arguments: list[Argument] = [
            len(enter),
            document.text.encode(),
            document.created_at,
            document.updated_at,
            entries.dump(),
            _new_version(),
            place(document.created_at, id),
        ]
        self._run(PUT, (kind, id), enter, arguments)

    def delete(self, kind: str, id: str) -> bool:
        log = self._log(kind, id)
        return bool(self._run(DELETE, (kind, id), log, [len(log)]))

    def _run(
        self, script: Script, subject: Subject, keys: Sequence[bytes], arguments: Sequence[Argument]
    ) -> Any:
        kind, id = subject
        document = self._keys.document(kind, id)
        leave: list[bytes] = []
        known: list[bytes] = [b"", b""]
        for _ in range(ATTEMPTS):
            reply = self._client.script(
                script, subject, [document, *keys, *leave], [*arguments, *known]
            )
            if not isinstance(reply, list):
                return reply
            version, stored = reply
            entries = Entries.load(stored) if stored else None
            leave = entries.keys(self._keys, kind) if entries else []
            known = [version, place(entries.created_at, id) if entries else b""]
        raise _contended(document)


class JournalledIndexing(Indexing):
    """For a cluster, where document and entries are in different slots and change one by one.

    A journal beside the document tells which entries may be there. So a process that dies half-way
    leaves none that the next save or deletion of this id would not remove.
    """

    def put(self, kind: str, document: Document, indexes: Mapping[str, str]) -> None:
        subject = (kind, document.key)
        entries = Entries(document.created_at, indexes)
        pair, stored = self._pair(*subject), entries.dump()
        for _ in range(ATTEMPTS):
            version = self._client.script(BEGIN, subject, pair, [stored, _new_version()])
            entry = member(place(document.created_at, document.key), version)
            additions: list[Command] = [
                ("ZADD", key, 0, entry) for key in entries.keys(self._keys, kind)
            ]
            self._client.pipeline(additions, [subject] * len(additions))
            times = (document.created_at, document.updated_at)
            arguments = [version, document.text.encode(), *times, stored]
            removable = self._client.script(COMMIT, subject, pair, arguments)
            if removable is not None:
                self._sweep(subject, removable)
                return
            # A deletion or a reader came between, and they may have removed some entries already.
            removals = [*chain(*self._removals(subject, version, entries))]
            self._client.pipeline(removals, [subject] * len(removals))
        raise _contended(pair[0])

    def delete(self, kind: str, id: str) -> bool:
        subject = (kind, id)
        keys = [*self._pair(kind, id), *self._log(kind, id)]
        existed, *removable = self._client.script(ABANDON, subject, keys, [])
        self._sweep(subject, removable)
        return bool(existed)


def _new_version() -> bytes:
    return secrets.token_hex(8).encode()


def _contended(key: bytes) -> BackendError:
    return BackendError("redis", f"others kept changing {key.decode()!r}")
