"""A storage that encrypts the texts of another one: any storage can be wrapped like this.

Each text is encrypted with a random nonce, so that the same text never gives the same bytes twice:
a storage that looked into texts, or compared them, would not pass its tests under this one.
"""

from __future__ import annotations

import os
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from hashlib import shake_256
from typing import Any

from agentx_persistence import PersistenceDriver
from agentx_persistence.storage import (
    Document,
    Entry,
    Found,
    Kind,
    Listing,
    Query,
    Slice,
    Storage,
    Stored,
    Text,
    Trace,
    Window,
)
from tests.backends.backend import Backend
from tests.port.given import plain

_KEY = b"a key that only these tests know"
_NONCE = 16


def encrypt(text: bytes) -> str:
    nonce = os.urandom(_NONCE)
    return b64encode(nonce + _xored(nonce, text)).decode()


def _decrypt(text: Text) -> str:
    data = b64decode(text, validate=True)
    # A damaged text goes on as it is.
    return _xored(data[:_NONCE], data[_NONCE:]).decode(errors="surrogateescape")


def _xored(nonce: bytes, data: bytes) -> bytes:
    stream = shake_256(_KEY + nonce).digest(len(data))
    mixed = int.from_bytes(data, "big") ^ int.from_bytes(stream, "big")
    return mixed.to_bytes(len(data), "big")


def _hidden(document: Document) -> Document:
    return document._replace(text=encrypt(document.text.encode()))


def _all_hidden(entries: Sequence[Entry]) -> list[Entry]:
    return [entry._replace(text=encrypt(entry.text.encode())) for entry in entries]


def _shown(stored: Stored) -> Stored:
    return stored._replace(text=_decrypt(stored.text))


def _shown_slice(slice: Slice) -> Slice:
    return slice._replace(texts=[*map(_decrypt, slice.texts)])


def _shown_found(answer: Any) -> Any:
    if not isinstance(answer, Found):
        return answer
    there = {id: (position, _decrypt(text)) for id, (position, text) in answer.there.items()}
    return answer._replace(there=there)


def _cut_to_size(texts: Sequence[Text], size: int, from_the_end: bool) -> Sequence[Text]:
    kept = 0
    for text in reversed(texts) if from_the_end else texts:
        size -= len(plain(text).encode(errors="surrogateescape"))
        if kept and size < 0:
            break
        kept += 1
    return texts[len(texts) - kept :] if from_the_end else texts[:kept]


class EncryptingStorage(Storage):
    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    def put(self, kind: Kind, document: Document) -> None:
        self.storage.put(kind, _hidden(document))

    def create(self, kind: Kind, document: Document) -> bool:
        return self.storage.create(kind, _hidden(document))

    def replace(self, kind: Kind, document: Document, revision: str) -> bool:
        return self.storage.replace(kind, _hidden(document), revision)

    def get(self, kind: Kind, keys: Sequence[str]) -> dict[str, Stored]:
        return {key: _shown(stored) for key, stored in self.storage.get(kind, keys).items()}

    def find(self, kind: Kind, query: Query) -> Listing:
        listing = self.storage.find(kind, query)
        return listing._replace(documents=[*map(_shown, listing.documents)])

    def count(self, kind: Kind, query: Query) -> int:
        return self.storage.count(kind, query)

    def delete(self, kind: Kind, key: str, *, before: int | None = None) -> bool:
        return self.storage.delete(kind, key, before=before)

    def append(
        self,
        log: str,
        entries: Sequence[Entry],
        at: int,
        *,
        create: Document | None = None,
        expected: int | None = None,
        generation: str | None = None,
    ) -> Any:
        create = create and _hidden(create)
        options: Any = {"create": create, "expected": expected, "generation": generation}
        return _shown_found(self.storage.append(log, _all_hidden(entries), at, **options))

    def read(self, log: str, window: Window) -> Slice:
        if window.size is None:
            return _shown_slice(self.storage.read(log, window))
        # The size meant is that of plain texts, which only this wrapper knows.
        whole = window._replace(size=None, headed=True)
        found = _shown_slice(self.storage.read(log, whole))
        texts = _cut_to_size(found.texts, window.size, window.last is not None)
        assert found.start is not None
        skipped = 0 if window.last is None else len(found.texts) - len(texts)
        return Slice(texts, found.start + skipped, found.head)

    def lookup(self, log: str, ids: Sequence[str]) -> Any:
        return _shown_found(self.storage.lookup(log, ids))

    def newest(self, logs: Sequence[str]) -> dict[str, Slice]:
        return {log: _shown_slice(slice) for log, slice in self.storage.newest(logs).items()}

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
    ) -> Any:
        options: Any = {"expected": expected, "generation": generation}
        hidden = _all_hidden(entries)
        return _shown_found(self.storage.rewrite(log, after, hidden, at, token, **options))

    def swap(self, log: str, entry: Entry, at: int, token: str) -> None:
        self.storage.swap(log, *_all_hidden([entry]), at, token)

    def fork(self, log: str, through: str | None, document: Document) -> int | None:
        return self.storage.fork(log, through, _hidden(document))

    def within(self, transaction: Any) -> Storage:
        return EncryptingStorage(self.storage.within(transaction))

    def where(self, kind: Kind, key: str, position: int | None = None) -> str:
        return self.storage.where(kind, key, position)

    def traces(self, kind: Kind) -> Iterator[Trace]:
        return self.storage.traces(kind)

    def ping(self) -> None:
        self.storage.ping()

    def close(self) -> None:
        self.storage.close()


class _EncryptingDriver(PersistenceDriver):
    def __init__(self, wrapped: Backend) -> None:
        self._wrapped = wrapped

    def create_storage(self) -> Storage:
        return EncryptingStorage(self._wrapped.driver().create_storage())


def encrypting_driver(wrapped: Backend) -> PersistenceDriver:
    return _EncryptingDriver(wrapped)
