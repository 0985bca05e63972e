"""The document store over Redis."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

from agentx_persistence._redis.client import Argument, Client, Command
from agentx_persistence._redis.indexing import ATTEMPTS, Indexing
from agentx_persistence._redis.keys import (
    DOCUMENT_FIELDS,
    Entries,
    Index,
    Keys,
    Member,
    behind,
    place,
)
from agentx_persistence._redis.scripts import (
    APPEND,
    DAMAGED,
    NO_ENTRY,
    NO_SESSION,
    READ,
    REPLACE,
    TRUNCATE,
    Script,
)
from agentx_persistence.documents import Document, DocumentStore, Entry, Slice, Window
from agentx_persistence.documents.store import SESSIONS
from agentx_persistence.errors import (
    BackendError,
    CorruptRecordError,
    RecordConflictError,
    RecordNotFoundError,
)

# How many index entries are followed in one round trip.
_CHUNK = 1000


class RedisStore(DocumentStore):
    """Documents are hashes, logs are lists; `agentx_persistence._redis.keys` says where."""

    def __init__(self, client: Client, keys: Keys, indexing: Indexing) -> None:
        self._client, self._keys, self._indexing = client, keys, indexing

    def put(self, kind: str, document: Document, indexes: Mapping[str, str]) -> None:
        self._indexing.put(kind, document, indexes)

    def get(self, kind: str, key: str) -> Document | None:
        fetch = ("HMGET", self._keys.document(kind, key), *DOCUMENT_FIELDS)
        fields = self._client.command(fetch, (kind, key))
        return self._stored(kind, key, fields)

    def find(
        self,
        kind: str,
        index: Index | None,
        after: tuple[int, str] | None,
        limit: int | None,
    ) -> list[Document]:
        for _ in range(ATTEMPTS):
            found: list[Document] = []
            moved: set[str] = set()
            self._walk(kind, index, after, limit, found, moved)
            listed = {document.key for document in found}
            if moved <= listed and len(listed) == len(found):
                return found
        raise BackendError("redis", "others kept moving what was to be listed")

    def _walk(
        self,
        kind: str,
        index: Index | None,
        after: tuple[int, str] | None,
        limit: int | None,
        found: list[Document],
        moved: set[str],
    ) -> None:
        """Append what `find` returns, but for records that move meanwhile; add their keys."""
        key = self._keys.index(kind, index)
        start = b"-" if after is None else behind(place(*after))
        while True:
            size = _CHUNK if limit is None else min(_CHUNK, limit - len(found))
            stored = self._client.command(("ZRANGE", key, start, "+", "BYLEX", "LIMIT", 0, size))
            members = [Member.load(each) for each in stored]
            self._follow(kind, index, members, found, moved)
            if len(members) < size or len(found) == limit:
                return
            start = behind(members[-1].place)

    def _follow(
        self,
        kind: str,
        index: Index | None,
        members: Sequence[Member],
        found: list[Document],
        moved: set[str],
    ) -> None:
        """Append the documents of these index members; remove the members that are none's."""
        keys = [self._keys.document(kind, member.id) for member in members]
        subjects = [(kind, member.id) for member in members]
        versions = [member.version for member in members]
        replies = self._client.fetch(keys, versions, subjects)
        for member, fields in zip(members, replies, strict=True):
            doubled = found and found[-1].key == member.id
            if len(fields) == 2:
                text, updated_at = fields
                if not doubled:
                    found.append(
                        self._document(kind, member.id, text, member.created_at, updated_at)
                    )
                continue
            document = self._stored(kind, member.id, fields)
            self._indexing.disown(kind, index, member)
            # A save that goes on meanwhile gives the document another version, and perhaps another
            # place; that alone must not make it vanish from here.
            if document is None or doubled or not Entries.load(fields[4]).has(index):
                continue
            if place(document.created_at, document.key) == member.place:
                found.append(document)
            else:
                moved.add(document.key)

    def update(
        self, kind: str, key: str, change: Callable[[Document], Document]
    ) -> Document | None:
        for attempt in range(ATTEMPTS):
            document = self.get(kind, key)
            if document is None:
                return None
            changed = change(document)
            old = hashlib.sha1(document.text.encode(), usedforsecurity=False).hexdigest()
            arguments: list[Argument] = [old, changed.text.encode(), changed.updated_at]
            if self._client.script(
                REPLACE, (kind, key), [self._keys.document(kind, key)], arguments
            ):
                return changed
            time.sleep(random.uniform(0, min(attempt, 20) / 1000))
        raise BackendError("redis", f"others kept changing {self.where(kind, key)}")

    def delete(self, kind: str, key: str) -> bool:
        return self._indexing.delete(kind, key)

    def append(self, session_id: str, entries: Sequence[Entry], at: int) -> list[int]:
        flat = [value.encode() for value in chain.from_iterable(entries)]
        reply = self._log_script(APPEND, session_id, None, [at, *flat])
        if isinstance(reply, int):
            raise RecordConflictError("message", entries[reply - 1][0])
        positions: list[int] = reply
        if len(positions) == 1:
            (last,) = positions
            return list(range(last - len(entries) + 1, last + 1))
        return positions

    def position(self, session_id: str, entry_id: str) -> int:
        positions = self._keys.log(session_id)[2]
        _, found = self._read(session_id, "ZSCORE", positions, entry_id.encode())
        if found is None:
            raise RecordNotFoundError("message", entry_id)
        return int(found)

    def read(self, session_id: str, window: Window) -> Slice:
        after, before, first, last = window
        # Both ends as LRANGE counts them: from 0, the end included, -1 for the last entry.
        start, stop = after, -1 if before is None else before - 2
        if last is not None:
            start = -last if before is None else max(after, before - 1 - last)
        if first is not None:
            stop = after + first - 1 if before is None else min(stop, after + first - 1)
        if 0 in (first, last) or (before is not None and before - 2 < after):
            start, stop = 1, 0
        messages = self._keys.log(session_id)[1]
        count, texts = self._read(session_id, "LRANGE", messages, start, stop)
        if start < 0:
            start = max(count + start, 0)
            texts = texts[max(after - start, 0) :]
            start = max(start, after)
        return Slice(start + 1, texts)

    def count(self, session_id: str) -> int:
        return self._read(session_id, "LLEN", self._keys.log(session_id)[1])[0]

    def truncate(self, session_id: str, entry_id: str | None) -> int:
        arguments = [] if entry_id is None else [entry_id.encode()]
        gone: int = self._log_script(TRUNCATE, session_id, entry_id, arguments)
        return gone

    def where(self, kind: str, key: str, position: int | None = None) -> str:
        if position is None:
            return f"redis, key {self._keys.document(kind, key).decode()!r}"
        return f"redis, key {self._keys.log(key)[1].decode()!r}, list index {position - 1}"

    def ping(self) -> None:
        self._client.ping()

    def close(self) -> None:
        self._client.close()

    def _stored(self, kind: str, id: str, fields: Sequence[bytes | None]) -> Document | None:
        there = [field for field in fields if field is not None]
        if not there:
            return None
        if len(there) < len(fields):
            raise self._damaged_document(kind, id)
        return self._document(kind, id, *there[:3])

    def _document(
        self, kind: str, id: str, text: bytes, created_at: bytes | int, updated_at: bytes
    ) -> Document:
        try:
            # A damaged text reaches the check of the record, which tells its place.
            return Document(
                id, text.decode(errors="surrogateescape"), int(created_at), int(updated_at)
            )
        except ValueError as error:
            raise self._damaged_document(kind, id) from error

    def _damaged_document(self, kind: str, id: str) -> CorruptRecordError:
        return CorruptRecordError(kind.removesuffix("s"), id, self.where(kind, id))

    def _log_script(
        self, script: Script, session_id: str, entry_id: str | None, arguments: Sequence[Argument]
    ) -> Any:
        keys = self._keys.log(session_id)
        reply = self._client.script(script, (SESSIONS, session_id), keys, arguments)
        if reply == NO_SESSION:
            raise RecordNotFoundError("session", session_id)
        if reply == NO_ENTRY:
            raise RecordNotFoundError("message", entry_id or "")
        if reply == DAMAGED:
            raise self._damaged(session_id)
        return reply

    def _read(
        self, session_id: str, name: str, key: bytes, *arguments: Argument
    ) -> tuple[int, Any]:
        """Return the number of entries, and the reply to this command about the log."""
        document, messages, _ = self._keys.log(session_id)
        commands: list[Command] = [
            ("HMGET", document, "version", "count"),
            (name, key, *arguments),
            ("LLEN", messages),
        ]
        subject = (SESSIONS, session_id)
        (version, count), reply, length = self._client.pipeline(commands, [subject] * 3)
        if version is None or int(count or 0) != length:
            # Three commands are not one step: another client may have come between. (If it cut as
            # much as it added, the reply is what was there for a moment.)
            version, count, length, reply = self._client.script(
                READ, subject, [document, messages, key], [name, *arguments]
            )
        if version is None:
            raise RecordNotFoundError("session", session_id)
        if int(count or 0) != length:
            raise self._damaged(session_id)
        return length, reply

    def _damaged(self, session_id: str) -> CorruptRecordError:
        document, messages, positions = (key.decode() for key in self._keys.log(session_id))
        return CorruptRecordError(
            "session",
            session_id,
            f"redis, the keys {messages!r} and {positions!r} have not as many entries as the "
            f"field 'count' of {document!r} says",
        )
