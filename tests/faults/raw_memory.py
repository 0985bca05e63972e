"""The dicts of the memory backend."""

from __future__ import annotations

from typing import Any, cast

from agentx_persistence import Persistence
from tests.faults.raw import Raw


def read(persistence: Persistence) -> Raw:
    store, raw = cast(Any, persistence.sessions)._store, Raw()
    expected: dict[Any, set[Any]] = {}
    for (kind, id), (document, indexes) in store._documents.items():
        raw.ids[kind].add(id)
        for index in (None, *indexes.items()):
            expected.setdefault((kind, index), set()).add((-document.created_at, id))
    for subject in expected.keys() | store._places.keys():
        places = store._places.get(subject, [])
        if sorted(expected.get(subject, ())) != places:
            raw.problems.append(f"index {subject}: {places}")
    for session, log in store._logs.items():
        raw.messages[session] = list(enumerate(log.ids, 1))
        if log.positions != {id: position for position, id in raw.messages[session]}:
            raw.problems.append(f"session {session}: positions of ids")
        if len(log.texts) != len(log.ids):
            raw.problems.append(f"session {session}: {len(log.texts)} texts")
    return raw
