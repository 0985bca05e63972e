"""The storage over Redis, and its deletions, which consist of several steps.

1. The document itself is deleted first, so that no other call finds it from then on.
2. The documents that it owns are found by its indexes, whether it still exists or not. So an
   interrupted deletion can be repeated.
3. An owned document is deleted only if its index entries still have the version with which it was
   found, and so only if it still has the same owner.
4. When an image is deleted with its container, a mark stays in the container's index until the
   image's sessions are deleted as well. So a repeated deletion of the container finds them.
5. A session of a deleted image is deleted only if the image is still absent after the session was
   read, and if the session has not been saved since. Appends do not count.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from agentx_persistence._redis.indexing import Chunk, Version
from agentx_persistence._redis.listing import Listings, Span
from agentx_persistence._redis.logs import Logs
from agentx_persistence._redis.traces import traces
from agentx_persistence.storage import CONTAINERS, IMAGES, ITEMS, SESSIONS, Kind, Trace
from agentx_persistence.storage.kinds import SEPARATOR

_CHUNK = 500


class RedisStorage(Logs, Listings):
    def __repr__(self) -> str:
        return f"Redis {self._connection.target.place}"

    def delete(self, kind: Kind, key: str, *, before: int | None = None) -> bool:
        there = self._indexing.delete_any(kind, key, before)
        if there is None:
            return False
        if kind is IMAGES:
            self._delete_sessions_of(key)
        elif kind is CONTAINERS:
            self._delete_images_in(key)
            by_container = self._by_time(SESSIONS, {"container_id": key})
            by_prefix = self._by_prefix(key + SEPARATOR)
            for owned, span in ((SESSIONS, by_container), (ITEMS, by_prefix)):
                chunks = self._owned(owned, span)
                self._indexing.delete_each(owned, map(_whatever_revision, chunks))
            if self._connection.cluster:
                self._indexing.leave_first(key)  # an interrupted deletion may have left it
        return there

    def traces(self, kind: Kind) -> Iterator[Trace]:
        return traces(self._connection, self._keys, kind)

    def _owned(self, kind: Kind, span: Span) -> Iterator[Chunk]:
        """Yield the documents of this index in chunks; remove members of old versions."""
        for members in self._chunks(span, _CHUNK):
            found = self._versions(kind, [each.id for each in members])
            pairs = [*zip(members, found, strict=True)]
            for member, seen in pairs:
                if seen.version != member.version:
                    stored = span.stored(member)
                    self._indexing.disown(kind, span.key, member.id, member.version, stored)
            owned = [(each, seen) for each, seen in pairs if seen.version == each.version]
            if owned:
                yield [each.id for each, _ in owned], [seen for _, seen in owned]

    def _delete_images_in(self, container: str) -> None:
        index = self._keys.index(IMAGES, {"container_id": container})
        for mark in self._connection.command(("ZRANGE", index, "[h", "+", "BYLEX")):
            self._finish(index, mark)
        by_container = self._by_time(IMAGES, {"container_id": container})
        for chunk in self._owned(IMAGES, by_container):
            marks = [b"h" + id.encode() for id in chunk[0]]
            self._connection.command(("ZADD", index, *_scored(marks)))
            self._indexing.delete(IMAGES, *_whatever_revision(chunk))
            for mark in marks:
                self._finish(index, mark)

    def _finish(self, index: bytes, mark: bytes) -> None:
        """Delete the sessions of a marked image, and then the mark (see step 4)."""
        self._delete_sessions_of(mark[1:].decode())
        self._connection.command(("ZREM", index, mark))

    def _delete_sessions_of(self, image: str) -> None:
        document = self._keys.document(IMAGES, image)
        by_image = self._by_time(SESSIONS, {"image_id": image})
        for ids, versions in self._owned(SESSIONS, by_image):
            if self._connection.command(("EXISTS", document)):
                return  # the image was moved before it could be deleted, or was saved again
            self._indexing.delete(SESSIONS, ids, versions)


def _whatever_revision(chunk: Chunk) -> Chunk:
    ids, versions = chunk
    return ids, [Version(version, entries, None) for version, entries, _ in versions]


def _scored(members: Sequence[bytes]) -> list[bytes | int]:
    return [value for member in members for value in (0, member)]
