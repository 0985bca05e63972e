"""Goes through all keys of the store, to see what is stored of documents and logs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from urllib.parse import unquote

from agentx_persistence._redis.connection import Connection
from agentx_persistence._redis.keys import Keys, Member
from agentx_persistence.errors import CorruptRecordError
from agentx_persistence.storage import ITEMS, SESSIONS, Kind, Trace

_CHUNK = 1000
_BY_KEY = ("sessions.active", "items.keys")


def traces(connection: Connection, keys: Keys, kind: Kind) -> Iterator[Trace]:
    """Yield the documents, the logs, and the members of indexes that fit no stored document."""
    for stored in connection.scan(keys.begin):
        tag, _, name = stored.removeprefix(keys.begin).decode(errors="replace").partition("}:")
        where = f"redis, key {stored.decode(errors='replace')!r}"
        if kind is ITEMS and name.startswith("items:"):
            yield Trace(unquote(name.removeprefix("items:")), where)
        elif name == kind.name or (kind is SESSIONS and name in ("messages", "positions")):
            yield Trace(unquote(tag), where)
        elif name == f"{kind}.all" or name.startswith(f"{kind}.by."):
            yield from _members(connection, keys, kind, stored, by_key=False)
        elif name in _BY_KEY and name.startswith(f"{kind}."):
            yield from _members(connection, keys, kind, stored, by_key=True)


def _members(
    connection: Connection, keys: Keys, kind: Kind, index: bytes, *, by_key: bool
) -> Iterator[Trace]:
    """Yield the members of the index whose document is absent or has another version."""
    place = f"redis, key {index.decode()!r}, member"
    start, members = 0, [b""]
    while members:
        members = connection.command(("ZRANGE", index, start, start + _CHUNK - 1))
        start += len(members)
        found: list[tuple[bytes, Member]] = []
        for stored in members:
            if stored.startswith(b"h") and not by_key:  # the image is being deleted
                yield Trace(stored[1:].decode(errors="replace"), f"{place} {stored!r}")
                continue
            try:
                member = Member.of_key(stored) if by_key else Member.of_time(stored)
            except ValueError:
                yield Trace(None, f"{place} {stored!r}")
            else:
                found.append((stored, member))
        versions = _versions(connection, keys, kind, [member.id for _, member in found])
        for (stored, member), version in zip(found, versions, strict=True):
            if version != member.version:
                yield Trace(member.id, f"{place} {stored!r}", stale=version is not None)


def _versions(
    connection: Connection, keys: Keys, kind: Kind, ids: Sequence[str]
) -> list[bytes | None]:
    """Return the version of each document; ``None`` for one that is absent or damaged."""
    commands = [("HGET", keys.document(kind, id), "version") for id in ids]
    try:
        return connection.pipeline(commands, [(kind.noun, id) for id in ids])
    except CorruptRecordError:
        if len(ids) == 1:
            return [None]
        half = len(ids) // 2
        parts = (ids[:half], ids[half:])
        return [each for part in parts for each in _versions(connection, keys, kind, part)]
