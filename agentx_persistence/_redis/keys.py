"""The keys in Redis, and what they hold.

For the base ``agentx`` and a session ``s1`` of the image ``i1`` in the container ``c1``:

* ``agentx:{s1}:sessions``: a hash with the fields of `DOCUMENT_FIELDS`, ``generation``, ``count``
  (the number of messages; absent: none), ``past`` (earlier generations) and ``forked`` (how many
  messages a fork copied)
* ``agentx:{s1}:messages``: a list of the messages' texts
* ``agentx:{s1}:positions``: a sorted set of the messages' ids by position
* ``agentx:{i1}:sessions.by.image_id``: a sorted set, one member for each session of the image
* ``agentx:{}:sessions.all``: the same for all sessions
* ``agentx:{c1}:sessions.active``: the sessions of the container by the second of ``updated_at``
* ``agentx:{s1}:sessions.journal``: in a cluster, while a write or a deletion is under way or after
  one was interrupted, a hash of the index entries that may have to be removed
* ``agentx:{s1}:messages.TOKEN``, ``agentx:{s1}:positions.TOKEN``: a copy that a fork or a large cut
  has not finished; they expire

An item is in the slot of the first element of its namespace, with its indexes by key and by time:
``agentx:{first}:items:KEY``, ``agentx:{first}:items.keys`` and
``agentx:{first}:items.by.namespace:NAMESPACE``. ``agentx:{}:items.first`` is a sorted set of all
first elements.

The braces make Redis Cluster keep all that belongs to one id in one slot
(https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags). The ids and
values in a key are percent-encoded, and the rest is one of a few fixed words, so two different ids,
values or bases never give the same key.

The members of an index by time have the score 0, so that Redis sorts them by their bytes: 14
hexadecimal digits that fall as `created_at` rises, the id, a zero byte (no id has one), and the
version of the document's index entries. UTF-8 keeps the order of the code points. With the time as
a score, a page could not start after a record that was deleted, if others have the same time. The
members of ``keys`` and ``active`` are the id, a zero byte and the version; those of ``active`` have
the negated second as their score, so that one ZADD moves them.

A member that begins with ``h`` instead of a digit marks an image that was deleted with its
container, but some of whose sessions may not be deleted yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote

from pydantic_core import from_json, to_json

from agentx_persistence.storage import ITEMS, SESSIONS, Document, Kind
from agentx_persistence.storage.kinds import SEPARATOR

DOCUMENT_FIELDS = ("text", "updated_at", "revision", "version", "entries")

_TIME_DIGITS = 14
_ZERO = 2**53
# Greater than every member that begins with a time.
AFTER_TIMES = b"(g"


class IndexKeys(NamedTuple):
    """The keys of the indexes that a document is in.

    `by_time` are the indexes by time. `other` is the index ``active`` for a session, and the index
    by key for an item.
    """

    by_time: tuple[bytes, ...]
    other: bytes | None


class Entries(NamedTuple):
    """The values from which the index entries of a document are derived, except their version."""

    created_at: int
    fields: Mapping[str, str]

    @classmethod
    def of(cls, kind: Kind, document: Document) -> Entries:
        given = document.fields
        return cls(document.created_at, {f: given[f] for f in _indexed(kind) if f in given})

    @classmethod
    def load(cls, stored: bytes) -> Entries:
        return cls(*from_json(stored))

    def dump(self) -> bytes:
        return to_json(self)

    def has(self, where: Mapping[str, str]) -> bool:
        return where.items() <= self.fields.items()


class Keys:
    def __init__(self, base: str) -> None:
        self._base = base
        # What all keys begin with.
        self.begin = f"{base}:{{".encode()

    def document(self, kind: Kind, key: str) -> bytes:
        if kind is ITEMS:
            return self._key(first_element(key), f"items:{quote(key, safe='')}")
        return self._key(key, kind.name)

    def journal(self, kind: Kind, key: str) -> bytes:
        """Return the key of the document's journal, in the slot of the document. Items have none,
        as their index entries are in the same slot."""
        return self._key(first_element(key) if kind is ITEMS else key, f"{kind.name}.journal")

    def log(self, session: str) -> tuple[bytes, bytes, bytes]:
        """Return the keys of the session's document, of its messages, and of their positions."""
        tag = f"{self._base}:{{{_quoted(session)}}}:"
        return f"{tag}sessions".encode(), f"{tag}messages".encode(), f"{tag}positions".encode()

    def forked(self, session: str, token: str) -> tuple[bytes, bytes]:
        """Return the keys of an unfinished copy: messages and positions."""
        token = _quoted(token)
        return self._key(session, f"messages.{token}"), self._key(session, f"positions.{token}")

    def index(self, kind: Kind, where: Mapping[str, str]) -> bytes:
        """Return the key of the index by time for these values."""
        if not where:
            return self._key("", f"{kind.name}.all")
        if kind is ITEMS:
            name = where["namespace"]
            return self._key(first_element(name), f"items.by.namespace:{_quoted(name)}")
        if len(where) == 1:
            ((field, value),) = where.items()
            return self._key(value, f"{kind.name}.by.{field}")
        fields = sorted(where)
        values = to_json([where[field] for field in fields]).decode()
        return self._key(values, f"{kind.name}.by.{'+'.join(fields)}")

    def items(self, key: str) -> bytes:
        """Return the key of the index by key that contains this item."""
        return self._key(first_element(key), "items.keys")

    def active(self, container: str) -> bytes:
        return self._key(container, "sessions.active")

    def firsts(self) -> bytes:
        return self._key("", "items.first")

    def indexes(self, kind: Kind, entries: Entries) -> IndexKeys:
        """Return the keys of all indexes that contain a document with these values."""
        return _indexes(self, kind, *entries.fields.items())

    def _key(self, tag: str, name: str) -> bytes:
        return f"{self._base}:{{{_quoted(tag)}}}:{name}".encode()


@lru_cache(maxsize=4096)
def _quoted(text: str) -> str:
    return quote(text, safe="")


@lru_cache(maxsize=4096)
def _indexes(keys: Keys, kind: Kind, *given: tuple[str, str]) -> IndexKeys:
    fields, other = dict(given), None
    by_time = tuple(
        keys.index(kind, {name: fields[name] for name in names})
        for names in kind.indexes
        if all(name in fields for name in names)
    )
    if kind is ITEMS:
        other = keys.items(fields["namespace"])
    elif kind is SESSIONS and "container_id" in fields:
        other = keys.active(fields["container_id"])
    return IndexKeys(by_time, other)


@lru_cache
def _indexed(kind: Kind) -> tuple[str, ...]:
    """Return the fields that the indexes of this kind need, in a fixed order."""
    return tuple(sorted({name for names in kind.indexes for name in names}))


def first_element(item: str) -> str:
    """Return the first element of a namespace or of the key of an item."""
    return item.partition(SEPARATOR)[0]


def place(created_at: int, id: str) -> bytes:
    """Return the first part of the document's members in indexes by time: all but the version."""
    return b"%0*x%b" % (_TIME_DIGITS, _ZERO - created_at, id.encode())


def time_bound(time: int) -> bytes:
    """Return the lower bound of the members with this time or an earlier one."""
    return b"%0*x" % (_TIME_DIGITS, _ZERO - time)


def member(place: bytes, version: bytes) -> bytes:
    return b"%b\0%b" % (place, version)


class Member(NamedTuple):
    """The parts of an index member. `time` is that of the index's order."""

    place: bytes
    id: str
    version: bytes
    time: int

    @classmethod
    def of_time(cls, stored: bytes) -> Member:
        place, _, version = stored.partition(b"\0")
        time = _ZERO - int(place[:_TIME_DIGITS], 16)
        return cls(place, place[_TIME_DIGITS:].decode(), version, time)

    @classmethod
    def of_key(cls, stored: bytes, time: int = 0) -> Member:
        place, _, version = stored.partition(b"\0")
        return cls(place, place.decode(), version, time)
