"""The dicts of the memory backend."""

from __future__ import annotations

from typing import Any, cast

from agentx_persistence import Persistence
from agentx_persistence._memory.index import entries_of
from tests.faults.raw import Raw


def read(persistence: Persistence) -> Raw:
    storage, raw = cast(Any, persistence)._storage, Raw()
    expected: dict[Any, list[Any]] = {}
    for kind, documents in storage._documents.items():
        raw.ids.setdefault(kind.name, set()).update(documents)
        for document in documents.values():
            for index, place in entries_of(kind, document, storage._updated_at(kind, document)):
                expected.setdefault(index, []).append(place)
    for index in expected.keys() | storage._indexes._lists.keys():
        places = storage._indexes._lists.get(index, [])
        if sorted(expected.get(index, [])) != places:
            raw.problems.append(f"index {index}: {places}")
    for session, log in storage._logs.items():
        raw.messages[session] = list(enumerate(log.ids, 1))
        raw.counts[session] = log.head[0]
        if log.positions != {id: position for position, id in raw.messages[session]}:
            raw.problems.append(f"session {session}: positions of ids")
        if len(log.texts) != len(log.ids):
            raw.problems.append(f"session {session}: {len(log.texts)} texts")
    return raw
