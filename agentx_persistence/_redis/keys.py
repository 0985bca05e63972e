"""How data lies in Redis.

For the base ``agentx`` and a session ``s1`` of the image ``i1``:

* ``agentx:{s1}:sessions``: a hash with the fields of `DOCUMENT_FIELDS`, and ``count``, the number
  of messages (absent: none)
* ``agentx:{s1}:messages``: a list of the messages' texts
* ``agentx:{s1}:positions``: a sorted set of the messages' ids by position
* ``agentx:{i1}:sessions.by.image_id``: a sorted set, one member for each session of the image
* ``agentx:{}:sessions.all``: the same for all sessions
* ``agentx:{s1}:sessions.journal``: in a cluster, while a save or a deletion is under way or after
  one was interrupted, a hash of the index entries that may have to be removed

The braces make Redis Cluster keep all that belongs to one id in one slot
(https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags). What is
between them is percent-encoded and what is behind them is one of a few fixed words, so that two
different ids, values or bases never make the same key.

All members of an index have the score 0, and so are in the order of their bytes: 14 hexadecimal
digits that fall as `created_at` rises, the id, a zero byte (no id has one), the version of the
document's index entries. UTF-8 keeps the order of the code points. A score would not do: where
times are equal, a page could then not start behind a record that is gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote

from pydantic_core import from_json, to_json

Index = tuple[str, str]

DOCUMENT_FIELDS = ("text", "created_at", "updated_at", "version", "entries")

_TIME_DIGITS = 14


class Keys:
    def __init__(self, base: str) -> None:
        self._base = base

    def document(self, kind: str, id: str) -> bytes:
        return self._key(id, kind)

    def journal(self, kind: str, id: str) -> bytes:
        return self._key(id, f"{kind}.journal")

    def log(self, session_id: str) -> tuple[bytes, bytes, bytes]:
        """Return the keys of the session, of its messages, and of their positions."""
        tag = f"{self._base}:{{{_tag(session_id)}}}:"
        return f"{tag}sessions".encode(), f"{tag}messages".encode(), f"{tag}positions".encode()

    def index(self, kind: str, index: Index | None) -> bytes:
        if index is None:
            return self._key("", f"{kind}.all")
        return self._key(index[1], f"{kind}.by.{index[0]}")

    def _key(self, tag: str, name: str) -> bytes:
        return f"{self._base}:{{{_tag(tag)}}}:{name}".encode()


@lru_cache(maxsize=4096)
def _tag(text: str) -> str:
    return quote(text, safe="")


class Entries(NamedTuple):
    """Which index entries a document has, apart from their version."""

    created_at: int
    indexes: Mapping[str, str]

    @classmethod
    def load(cls, stored: bytes) -> Entries:
        return cls(*from_json(stored))

    def dump(self) -> bytes:
        return to_json(self)

    def keys(self, keys: Keys, kind: str) -> list[bytes]:
        return [keys.index(kind, index) for index in (None, *self.indexes.items())]

    def has(self, index: Index | None) -> bool:
        return index is None or self.indexes.get(index[0]) == index[1]


def place(created_at: int, id: str) -> bytes:
    """Return what the index members of this document begin with."""
    return b"%0*x%b" % (_TIME_DIGITS, 2**53 - created_at, id.encode())


def member(place: bytes, version: bytes) -> bytes:
    return b"%b\0%b" % (place, version)


def behind(place: bytes) -> bytes:
    """Return the start of a ZRANGE that comes behind all versions of this place."""
    return b"(%b\1" % place


class Member(NamedTuple):
    """An index member, taken apart."""

    place: bytes
    id: str
    version: bytes

    @classmethod
    def load(cls, stored: bytes) -> Member:
        place, _, version = stored.partition(b"\0")
        return cls(place, place[_TIME_DIGITS:].decode(), version)

    @property
    def created_at(self) -> int:
        return 2**53 - int(self.place[:_TIME_DIGITS], 16)
