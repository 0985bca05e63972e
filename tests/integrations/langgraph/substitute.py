"""A pytest plugin for LangGraph's own tests: its savers and stores are ours.

`SqliteSaver` and the others keep their names and constructors. Each one that is made gets a
container of its own in one store, so that it is empty.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import langgraph.checkpoint.sqlite
import langgraph.checkpoint.sqlite.aio
import langgraph.store.memory
import langgraph.store.sqlite
import langgraph.store.sqlite.aio
from langgraph.store.base import validate_op_namespace

from agentx_persistence import Persistence
from agentx_persistence.integrations.langgraph import PersistentSaver, PersistentStore
from tests.backends.backend import Backend
from tests.integrations.environments import BACKEND

_opened: list[Persistence] = []


def _options() -> dict[str, Any]:
    import json

    if not _opened:
        _opened.append(Backend(**json.loads(os.environ[BACKEND])).open())
    return {"container_id": uuid.uuid4().hex}


def pytest_unconfigure() -> None:
    for persistence in _opened:
        persistence.close()


class _Saver(PersistentSaver):
    def __init__(self, connection: Any = None, *, serde: Any = None) -> None:
        options = _options()
        super().__init__(_opened[0], serde=serde, **options)

    def setup(self) -> None:
        pass

    @classmethod
    @contextlib.contextmanager
    def from_conn_string(cls, address: str) -> Iterator[PersistentSaver]:
        yield cls()


class _AsyncSaver(_Saver):
    async def setup(self) -> None:  # type: ignore[override]
        pass

    @classmethod
    @contextlib.asynccontextmanager
    async def from_conn_string(cls, address: str) -> AsyncIterator[PersistentSaver]:  # type: ignore[override]
        yield cls()


class _Store(PersistentStore):
    def __init__(self, connection: Any = None) -> None:
        options = _options()
        super().__init__(_opened[0], **options)

    def setup(self) -> None:
        pass

    @classmethod
    @contextlib.contextmanager
    def from_conn_string(cls, address: str) -> Iterator[PersistentStore]:
        yield cls()


class _AsyncStore(_Store):
    async def setup(self) -> None:  # type: ignore[override]
        pass

    @classmethod
    @contextlib.asynccontextmanager
    async def from_conn_string(cls, address: str) -> AsyncIterator[PersistentStore]:  # type: ignore[override]
        yield cls()


langgraph.checkpoint.sqlite.SqliteSaver = _Saver
langgraph.checkpoint.sqlite.aio.AsyncSqliteSaver = _AsyncSaver
langgraph.store.memory.InMemoryStore = _Store
langgraph.store.sqlite.SqliteStore = _Store
langgraph.store.sqlite.aio.AsyncSqliteStore = _AsyncStore
