"""Finding documents by their index entries."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentx_persistence._redis.connection import Connection
from agentx_persistence._redis.documents import Documents
from agentx_persistence._redis.indexing import ATTEMPTS, contended
from agentx_persistence._redis.keys import (
    AFTER_TIMES,
    Entries,
    Member,
    first_element,
    member,
    place,
    time_bound,
)
from agentx_persistence._redis.pool import Command
from agentx_persistence._redis.scripts import ACTIVE, CORRECT
from agentx_persistence.storage import ITEMS, Kind, Listing, Place, Query, Stored
from agentx_persistence.storage.kinds import SEPARATOR

# How many documents are read by their index entries in one round trip.
CHUNK = 1000


@dataclass(frozen=True)
class Span(ABC):
    """A range of an index."""

    key: bytes

    @abstractmethod
    def members(self, connection: Connection, after: Member | None, size: int) -> list[Member]:
        """Return the first `size` members of the range, or the first ones after `after`."""

    @abstractmethod
    def counting(self) -> Command:
        """Return the command that counts all members."""

    @abstractmethod
    def holds(self, member: Member, entries: Entries, updated_at: int) -> bool | None:
        """Return whether a document with these values belongs at this place of the range.

        Return ``None`` if it belongs at another place of the same index.
        """

    def stored(self, found: Member) -> bytes:
        return member(found.place, found.version)


@dataclass(frozen=True)
class LexSpan(Span):
    """A range of an index whose members Redis sorts by their bytes: by time or by key."""

    low: bytes
    high: bytes
    reverse: bool = False
    where: Mapping[str, str] | None = None  # None: by key

    def members(self, connection: Connection, after: Member | None, size: int) -> list[Member]:
        low, high = self.low, self.high
        if after is not None:
            low, high = (low, b"(" + after.place) if self.reverse else (_after(after.place), high)
        bounds = (high, low, "BYLEX", "REV") if self.reverse else (low, high, "BYLEX")
        stored = connection.command(("ZRANGE", self.key, *bounds, "LIMIT", 0, size))
        return [*map(Member.of_key if self.where is None else Member.of_time, stored)]

    def counting(self) -> Command:
        return ("ZLEXCOUNT", self.key, self.low, self.high)

    def holds(self, member: Member, entries: Entries, updated_at: int) -> bool | None:
        if self.where is None:
            return True
        if not entries.has(self.where):
            return False
        return True if place(entries.created_at, member.id) == member.place else None


@dataclass(frozen=True)
class ActiveSpan(Span):
    """Sessions of a container by the second of their last change. Scores are negated seconds."""

    container: str
    least: str
    greatest: str
    start: tuple[int, str] | None

    def members(self, connection: Connection, after: Member | None, size: int) -> list[Member]:
        start = self.start if after is None else (-after.time, after.id)
        arguments = (self.least, self.greatest, size, *(start or ()))
        found = connection.script(ACTIVE, ("container", self.container), [self.key], arguments)
        pairs = zip(found[::2], found[1::2], strict=True)
        return [Member.of_key(stored, -int(score)) for stored, score in pairs]

    def counting(self) -> Command:
        return ("ZCOUNT", self.key, self.least, self.greatest)

    def holds(self, member: Member, entries: Entries, updated_at: int) -> bool | None:
        if entries.fields.get("container_id") != self.container:
            return False
        return True if updated_at // 1000 == member.time else None


class Listings(Documents):
    def find(self, kind: Kind, query: Query) -> Listing:
        if query.limit == 0:
            return Listing([], None)
        for _ in range(ATTEMPTS):
            found: list[tuple[Member, Stored]] = []
            moved: set[str] = set()
            more = False
            for span in self._spans(kind, query):
                more = self._walk(kind, span, query.limit, found, moved)
                if more:
                    break
            listed = {document.key for _, document in found}
            if moved <= listed and len(listed) == len(found):
                last = found[-1][0] if more and found else None
                after = last and Place(last.time, last.id)
                return Listing([document for _, document in found], after)
        raise contended(self._keys.index(kind, query.where))

    def count(self, kind: Kind, query: Query) -> int:
        spans = self._spans(kind, query)
        if not self._connection.cluster or kind is ITEMS:
            return sum(self._connection.pipeline([span.counting() for span in spans]))
        # In a cluster, a write that is under way or was interrupted may have added index entries of
        # a document that is not saved.
        count = 0
        for span in spans:
            for members in self._chunks(span):
                versions = self._connection.pipeline(
                    [("HGET", self._keys.document(kind, each.id), "version") for each in members],
                    [(kind.noun, each.id) for each in members],
                )
                pairs = zip(members, versions, strict=True)
                count += sum(member.version == version for member, version in pairs)
        return count

    def _chunks(self, span: Span, size: int = CHUNK) -> Iterator[list[Member]]:
        after, more = None, True
        while more:
            members = span.members(self._connection, after, size)
            more = len(members) == size
            if members:
                yield members
                after = members[-1]

    def _by_time(self, kind: Kind, where: Mapping[str, str]) -> Span:
        return LexSpan(self._keys.index(kind, where), b"-", AFTER_TIMES, False, where)

    def _by_prefix(self, prefix: str) -> LexSpan:
        """Return the range of the items whose keys begin with a prefix.

        The prefix must contain the whole first element, which determines the index.
        """
        low, high = b"[" + prefix.encode(), b"(" + prefix.encode() + b"\xff"
        return LexSpan(self._keys.items(prefix), low, high)

    def _spans(self, kind: Kind, query: Query) -> Iterator[Span]:
        after = query.after
        if query.order == "key":
            for span in map(self._by_prefix, self._prefixes(query)):
                low = span.low
                if after is not None:
                    low = max(low, _after(after.key.encode()), key=_bound)
                yield LexSpan(span.key, low, span.high)
        elif query.order == "active":
            container = query.where["container_id"]
            least = "-inf" if query.until is None else str(1 - -(-query.until // 1000))
            greatest = "+inf" if query.since is None else str(-(query.since // 1000))
            start = (-after.time, after.key) if after else None
            if start and query.until is not None and start[0] < int(least):
                start = None
            key = self._keys.active(container)
            yield ActiveSpan(key, container, least, greatest, start)
        else:
            reverse = query.order == "oldest"
            low = b"-" if query.until is None else b"[" + time_bound(query.until - 1)
            high = AFTER_TIMES if query.since is None else b"(" + time_bound(query.since - 1)
            if after is not None:
                behind = place(after.time, after.key)
                if reverse:
                    high = min(high, b"(" + behind)
                else:
                    low = max(low, _after(behind), key=_bound)
            key = self._keys.index(kind, query.where)
            yield LexSpan(key, low, high, reverse, query.where)

    def _prefixes(self, query: Query) -> Iterator[str]:
        """Yield the query's prefix, or, if it ends within the first element, each first element
        that begins with it, in order."""
        prefix = query.prefix
        if SEPARATOR in prefix:
            yield prefix
            return
        first = first_element(query.after.key) if query.after else prefix
        low = b"[" + max(first, prefix).encode()
        while True:
            bounds = (low, b"(" + prefix.encode() + b"\xff", "BYLEX", "LIMIT", 0, CHUNK)
            found = self._connection.command(("ZRANGE", self._keys.firsts(), *bounds))
            for element in found:
                yield element.decode()
            if len(found) < CHUNK:
                return
            low = b"(" + found[-1]

    def _walk(
        self,
        kind: Kind,
        span: Span,
        limit: int | None,
        found: list[tuple[Member, Stored]],
        moved: set[str],
    ) -> bool:
        """Append the span's documents to `found`, up to the limit; return whether more follow.

        The keys of documents that are moving to another place meanwhile are added to `moved`.
        """
        after = None
        while True:
            size = CHUNK if limit is None else min(CHUNK, limit - len(found))
            members = span.members(self._connection, after, size + 1)
            more = len(members) > size
            self._follow(kind, span, members[:size], found, moved)
            if not more or len(found) == limit:
                return more
            after = members[size - 1]

    def _follow(
        self,
        kind: Kind,
        span: Span,
        members: Sequence[Member],
        found: list[tuple[Member, Stored]],
        moved: set[str],
    ) -> None:
        """Append the documents of these index members; remove members of old versions."""
        if not members:
            return
        keys = [each.id for each in members]
        replies = self._fetch(kind, keys, [each.version for each in members])
        for each, fields in zip(members, replies, strict=True):
            doubled = bool(found) and found[-1][1].key == each.id
            current = len(fields) == 2
            if current:
                stored = Stored(each.id, fields[0], int(fields[1]), "")
                if isinstance(span, ActiveSpan) and stored.updated_at // 1000 != each.time:
                    self._correct(span, each, stored.updated_at)
            else:
                document = self._stored(kind, each.id, fields)
                index = span.key
                self._indexing.disown(kind, index, each.id, each.version, span.stored(each))
                # A write that is under way may have given the document another version and place.
                # The listing must not lose it because of that.
                if document is None:
                    continue
                entries = Entries.load(fields[4])
                held = span.holds(each, entries, document.updated_at)
                if held is None and not doubled:
                    moved.add(document.key)
                if not held:
                    continue
                stored = document
            if not doubled:
                found.append((each, stored))

    def _correct(self, span: ActiveSpan, member: Member, updated_at: int) -> None:
        """Correct the score of an active session in a cluster.

        There an append changes the score after the log, and may have been interrupted in between.
        """
        if self._connection.cluster:
            arguments: tuple[Any, ...] = (span.stored(member), -member.time, -(updated_at // 1000))
            subject = ("session", member.id)
            self._connection.script(CORRECT, subject, [span.key], arguments)


def _after(place: bytes) -> bytes:
    """Return the lower bound of a ZRANGE that starts after all versions of this place."""
    return b"(%b\1" % place


def _bound(bound: bytes) -> bytes:
    return bound[1:]
