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
from tests.backends.backend import Backend
from tests.faults.raw import Raw


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
    journalled: set[tuple[str, bytes]] = set()
    cluster = backend.options.get("cluster", False)
    expected: set[tuple[str, bytes]] = set()
    found: set[tuple[str, bytes]] = set()
    with _connected(backend.arguments[0], cluster) as client:
        keys = list(client.scan_iter(f"{base}:*", count=5000))
        for key in keys:
            tag, _, name = key.decode().removeprefix(f"{base}:{{").partition("}:")
            id = unquote(tag)
            if name in raw.ids:
                expected |= _read_document(raw, base, name, id, client.hgetall(key))
            elif name == "messages":
                _read_messages(raw, client, base, tag, id)
            elif name == "positions":
                if f"{base}:{{{tag}}}:sessions".encode() not in keys:
                    raw.problems.append(f"positions of the session {id}, which is not there")
            elif ".by." in name or name.endswith(".all"):
                found |= {(f"{{{tag}}}:{name}", m) for m in client.zrange(key, 0, -1)}
            elif name.endswith(".journal"):
                raw.repairable.append(f"the key {key.decode()!r} is left")
                for version, stored in client.hgetall(key).items():
                    kind, entries = name.removesuffix(".journal"), Entries.load(stored[1:])
                    journalled |= _entries(base, kind, id, entries, version)
            else:
                raw.problems.append(f"the key {key.decode()!r} is left")
    stray = found - expected - journalled
    if cluster:
        # The last that goes, and the journal with it: who lists or deletes the owner removes it.
        of_owners = (
            ":sessions.by.image_id",
            ":sessions.by.container_id",
            ":images.by.container_id",
        )
        last = {(key, entry) for key, entry in stray if key.endswith(of_owners)}
        raw.repairable += [f"index entry without its record: {entry}" for entry in last]
        stray -= last
    raw.problems += [f"index entry without its record: {entry}" for entry in stray]
    raw.repairable += [
        f"index entry without its record: {e}" for e in (found & journalled) - expected
    ]
    raw.problems += [f"record without its index entry: {entry}" for entry in expected - found]
    return raw


def _read_document(
    raw: Raw, base: str, kind: str, id: str, fields: dict[bytes, bytes]
) -> set[tuple[str, bytes]]:
    raw.ids[kind].add(id)
    if kind == "sessions":
        raw.counts[id] = int(fields.get(b"count", 0))
    record = json.loads(fields[b"text"])
    entries = Entries.load(fields[b"entries"])
    if record["createdAt"] != entries.created_at:
        raw.problems.append(f"{kind} {id}: created_at")
    for field, value in entries.indexes.items():
        said = {"container_id": "containerId", "image_id": "imageId", "name": "name"}.get(field)
        if said and record[said] != value:
            raw.problems.append(f"{kind} {id}: is indexed with {field} {value!r}")
    return _entries(base, kind, id, entries, fields[b"version"])


def _entries(
    base: str, kind: str, id: str, entries: Entries, version: bytes
) -> set[tuple[str, bytes]]:
    entry = member(place(entries.created_at, id), version)
    prefix = f"{base}:"
    return {(k.decode().removeprefix(prefix), entry) for k in entries.keys(Keys(base), kind)}


def _read_messages(raw: Raw, client: Any, base: str, tag: str, session: str) -> None:
    texts = client.lrange(f"{base}:{{{tag}}}:messages", 0, -1)
    placed = client.zrange(f"{base}:{{{tag}}}:positions", 0, -1, withscores=True)
    listed = [(n, json.loads(text)["id"]) for n, text in enumerate(texts, 1)]
    raw.messages[session] = listed
    if sorted((int(score), id.decode()) for id, score in placed) != listed:
        raw.problems.append(f"session {session}: ids and messages differ")
