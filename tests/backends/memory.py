from __future__ import annotations

from typing import Any, cast

import pytest

from agentx_persistence import Persistence
from tests.backends.backend import Backend


@pytest.fixture
def memory_backend() -> Backend:
    return Backend("memory", "agentx_persistence.memory")


def corrupt(
    backend: Backend,
    persistence: Persistence,
    kind: str,
    id: str,
    position: int | None,
    raw: bytes,
) -> bool:
    store = cast(Any, persistence.sessions)._store
    text = raw.decode(errors="surrogateescape")
    if position is not None:
        store._logs[id].texts[position - 1] = text
    else:
        document, indexes = store._documents[kind, id]
        store._documents[kind, id] = (document._replace(text=text), indexes)
    return True


def stored(
    backend: Backend, persistence: Persistence, kind: str, id: str, position: int | None
) -> object:
    store = cast(Any, persistence.sessions)._store
    if position is not None:
        return store._logs[id].texts[position - 1]
    return store._documents[kind, id][0].text
