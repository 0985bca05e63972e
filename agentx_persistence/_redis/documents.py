"""Documents: writing them together with their index entries, and reading them by key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agentx_persistence._redis.connection import Connection
from agentx_persistence._redis.indexing import AtomicIndexing, Version
from agentx_persistence._redis.journal import JournalledIndexing
from agentx_persistence._redis.keys import DOCUMENT_FIELDS, Keys
from agentx_persistence._redis.pool import Argument
from agentx_persistence._redis.scripts import FETCH, SEEN, Script
from agentx_persistence.errors import CorruptRecordError, RecordTooLargeError
from agentx_persistence.storage import SESSIONS, Document, Kind, Storage, Stored


class Documents(Storage):
    """Documents are hashes, logs are lists. The module `keys` describes the keys of both."""

    def __init__(self, connection: Connection, base: str, limit: int) -> None:
        """:param limit: the largest size of a text, in bytes, that the server accepts"""
        self._connection, self._keys, self._limit = connection, Keys(base), limit
        indexing = JournalledIndexing if connection.cluster else AtomicIndexing
        self._indexing = indexing(connection, self._keys)

    def put(self, kind: Kind, document: Document) -> None:
        self._check_size(kind.noun, document.key, document.text)
        self._indexing.put(kind, document, "put")

    def create(self, kind: Kind, document: Document) -> bool:
        self._check_size(kind.noun, document.key, document.text)
        return self._indexing.put(kind, document, "create")

    def replace(self, kind: Kind, document: Document, revision: str) -> bool:
        self._check_size(kind.noun, document.key, document.text)
        return self._indexing.put(kind, document, "replace", revision)

    def _check_size(self, noun: str, id: str, text: str) -> None:
        # A character has at most four bytes, so short texts need no encoding to be checked.
        if 4 * len(text) > self._limit and len(text.encode()) > self._limit:
            raise RecordTooLargeError(noun, id, len(text.encode()), self._limit)

    def get(self, kind: Kind, keys: Sequence[str]) -> dict[str, Stored]:
        commands = [("HMGET", self._keys.document(kind, key), *DOCUMENT_FIELDS) for key in keys]
        if len(keys) == 1:
            replies = [self._connection.command(commands[0], (kind.noun, keys[0]))]
        else:
            replies = self._connection.pipeline(commands, [(kind.noun, key) for key in keys])
        found = {}
        for key, fields in zip(keys, replies, strict=True):
            document = self._stored(kind, key, fields)
            if document is not None:
                found[key] = document
        return found

    def _fetch(self, kind: Kind, keys: Sequence[str], versions: Sequence[bytes]) -> list[Any]:
        """Return `DOCUMENT_FIELDS` of each document, in one round trip.

        If the document's index entries have the version given for it, return only text and
        `updated_at`.
        """
        if not self._connection.cluster:
            return self._at_once(FETCH, kind, keys, versions)
        names = [self._keys.document(kind, key) for key in keys]
        commands = [("HMGET", name, *DOCUMENT_FIELDS) for name in names]
        replies = self._connection.pipeline(commands, [(kind.noun, key) for key in keys])
        return [
            fields[:2]
            if fields[3] == version and None not in fields and _is_int(fields[1])
            else fields
            for fields, version in zip(replies, versions, strict=True)
        ]

    def _versions(self, kind: Kind, keys: Sequence[str]) -> list[Version]:
        if not self._connection.cluster:
            replies = self._at_once(SEEN, kind, keys, ())
        else:
            names = [self._keys.document(kind, key) for key in keys]
            replies = self._connection.pipeline(
                [("HMGET", name, "version", "entries", "revision") for name in names],
                [(kind.noun, key) for key in keys],
            )
        return [Version(fields[0] or b"", fields[1], fields[2]) for fields in replies]

    def _at_once(
        self, script: Script, kind: Kind, keys: Sequence[str], arguments: Sequence[Argument]
    ) -> list[Any]:
        """Run a script that returns a value, or an error, for each of these documents."""
        names = [self._keys.document(kind, key) for key in keys]
        replies = self._connection.script(script, (kind.noun, keys[0]), names, arguments)
        for key, name, reply in zip(keys, names, replies, strict=True):
            if isinstance(reply, Exception):
                where = f"redis, key {name.decode()!r}: {reply}"
                raise CorruptRecordError(kind.noun, key, where) from reply
        return list(replies)

    def _stored(self, kind: Kind, key: str, fields: Sequence[bytes | None]) -> Stored | None:
        text, updated_at, revision, *rest = fields
        if text is None or updated_at is None or revision is None or None in rest:
            if any(field is not None for field in fields):
                raise self._damaged(kind, key)
            return None
        try:
            return Stored(key, text, int(updated_at), revision.decode())
        except ValueError as error:
            raise self._damaged(kind, key) from error

    def _damaged(self, kind: Kind, key: str) -> CorruptRecordError:
        return CorruptRecordError(kind.noun, key, self.where(kind, key))

    def where(self, kind: Kind, key: str, position: int | None = None) -> str:
        if position is None or kind is not SESSIONS:
            return f"redis, key {self._keys.document(kind, key).decode()!r}"
        messages = self._keys.log(key)[1].decode()
        return f"redis, key {messages!r}, list index {position - 1}"

    def ping(self) -> None:
        self._connection.ping()

    def close(self) -> None:
        self._connection.close()


def _is_int(stored: bytes) -> bool:
    return stored.removeprefix(b"-").isdigit()
