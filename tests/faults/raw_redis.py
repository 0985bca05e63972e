"""The keys of a Redis server or cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

from redis import Redis
from redis import RedisCluster as ClusterClient

from agentx_persistence._redis.keys import Entries, Keys, member, place
from agentx_persistence.storage import ITEMS, KINDS, Kind
from tests.backends.backend import Backend
from tests.faults.raw import Raw

# The key of an index, a member of it, and its score.
_Entry = tuple[str, bytes, int]

_INDEXES = (".all", ".active", ".keys", ".first")


@contextmanager
def _connected(url: str, cluster: bool = False) -> Iterator[Any]:
    client = ClusterClient.from_url(url) if cluster else Redis.from_url(url)
    try:
        yield client
    finally:
        if isinstance(client, ClusterClient):
            client.disconnect_connection_pools()
        client.close()


def read(backend: Backend) -> Raw:
    raw, base = Raw(), backend.options["base"]
    journalled: set[_Entry] = set()
    cluster = backend.options.get("cluster", False)
    expected: set[_Entry] = set()
    found: set[_Entry] = set()
    kinds = {kind.name: kind for kind in KINDS}
    with _connected(backend.arguments[0], cluster) as client:
        keys = list(client.scan_iter(f"{base}:*", count=5000))
        for key in keys:
            tag, _, name = key.decode().removeprefix(f"{base}:{{").partition("}:")
            id = unquote(tag)
            if name in kinds or name.startswith("items:"):
                kind = kinds[name.partition(":")[0]]
                id = unquote(name.partition(":")[2]) if kind is ITEMS else id
                expected |= _read_document(raw, base, kind, id, client.hgetall(key))
            elif name == "messages":
                _read_messages(raw, client, base, tag, id)
            elif name == "positions":
                if f"{base}:{{{tag}}}:sessions".encode() not in keys:
                    raw.problems.append(f"positions of the session {id}, which is not there")
            elif ".by." in name or name.endswith(_INDEXES):
                members = client.zrange(key, 0, -1, withscores=True)
                found |= {(f"{{{tag}}}:{name}", entry, int(score)) for entry, score in members}
            elif name.endswith(".journal"):
                raw.repairable.append(f"the key {key.decode()!r} is left")
                kind = kinds[name.removesuffix(".journal")]
                for version, stored in client.hgetall(key).items():
                    journalled |= _entries(base, kind, id, Entries.load(stored[1:]), version, 0)
            elif name.startswith(("messages.", "positions.")) and client.pttl(key) > 0:
                continue  # the copy of a fork that was killed: it expires by itself
            else:
                raw.problems.append(f"the key {key.decode()!r} is left")
    _compare(raw, found, expected, journalled, cluster=cluster)
    return raw


def _compare(
    raw: Raw, found: set[_Entry], expected: set[_Entry], journalled: set[_Entry], *, cluster: bool
) -> None:
    marks = {each for each in found if each[1].startswith(b"h") and ".by." in each[0]}
    raw.repairable += [f"a deletion of the container was interrupted: {mark}" for mark in marks]
    found -= marks
    # Where an append changes the score in a second step, that may have been missed.
    scores = {(key, entry): score for key, entry, score in expected}
    late = {e for e in found - expected if cluster and scores.get(e[:2], e[2]) < e[2]}
    raw.repairable += [f"score that is not the last one: {entry}" for entry in late]
    found = found - late | {(key, entry, scores[key, entry]) for key, entry, _ in late}
    stray = {entry for entry in found - expected if entry[:2] not in {j[:2] for j in journalled}}
    if cluster:
        # The last that goes, and the journal with it: listing or deleting the owner removes it.
        of_owners = (
            ":sessions.by.image_id",
            ":sessions.by.container_id",
            ":images.by.container_id",
        )
        last = {entry for entry in stray if entry[0].endswith((*of_owners, ":items.first"))}
        raw.repairable += [f"index entry without its record: {entry}" for entry in last]
        stray -= last
    raw.problems += [f"index entry without its record: {entry}" for entry in stray]
    raw.problems += [f"record without its index entry: {entry}" for entry in expected - found]


def _read_document(
    raw: Raw, base: str, kind: Kind, id: str, fields: dict[bytes, bytes]
) -> set[_Entry]:
    if kind.name in raw.ids:
        raw.ids[kind.name].add(id)
    if kind.name == "sessions":
        raw.counts[id] = int(fields.get(b"count", 0))
    record = json.loads(fields[b"text"])
    entries = Entries.load(fields[b"entries"])
    if record["createdAt"] != entries.created_at:
        raw.problems.append(f"{kind} {id}: created_at")
    for field, value in entries.fields.items():
        said = {"container_id": "containerId", "image_id": "imageId", "name": "name"}.get(field)
        if said and record[said] != value:
            raw.problems.append(f"{kind} {id}: is indexed with {field} {value!r}")
    at = int(fields[b"updated_at"])
    return _entries(base, kind, id, entries, fields[b"version"], at)


def _entries(
    base: str, kind: Kind, id: str, entries: Entries, version: bytes, at: int
) -> set[_Entry]:
    keys = Keys(base)
    indexes = keys.indexes(kind, entries)
    by_time = member(place(entries.created_at, id), version)
    found = {(key, by_time, 0) for key in indexes.by_time}
    if indexes.other:
        found.add(
            (indexes.other, member(id.encode(), version), 0 if kind is ITEMS else -(at // 1000))
        )
    if kind is ITEMS:
        found.add((keys.firsts(), id.partition("\x1f")[0].encode(), 0))
    return {(key.decode().removeprefix(f"{base}:"), entry, score) for key, entry, score in found}


def _read_messages(raw: Raw, client: Any, base: str, tag: str, session: str) -> None:
    texts = client.lrange(f"{base}:{{{tag}}}:messages", 0, -1)
    placed = client.zrange(f"{base}:{{{tag}}}:positions", 0, -1, withscores=True)
    listed = [(n, json.loads(text)["id"]) for n, text in enumerate(texts, 1)]
    raw.messages[session] = listed
    if sorted((int(score), id.decode()) for id, score in placed) != listed:
        raw.problems.append(f"session {session}: ids and messages differ")
