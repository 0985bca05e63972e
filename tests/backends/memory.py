from __future__ import annotations

from typing import Any, cast

import pytest

from agentx_persistence import Persistence
from agentx_persistence.storage import KINDS
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
    storage = cast(Any, persistence)._storage
    text = raw.decode(errors="surrogateescape")
    if position is not None:
        storage._logs[id].texts[position - 1] = text
    else:
        documents = _documents(storage, kind)
        documents[id] = documents[id]._replace(text=text)
    return True


def stored(
    backend: Backend, persistence: Persistence, kind: str, id: str, position: int | None
) -> object:
    storage = cast(Any, persistence)._storage
    if position is not None:
        return storage._logs[id].texts[position - 1]
    return _documents(storage, kind)[id].text


def _documents(storage: Any, name: str) -> Any:
    (kind,) = (kind for kind in KINDS if kind.name == name)
    return storage._documents[kind]
