"""A pytest plugin for LangGraph's own tests: its savers and stores are ours.

`SqliteSaver` and the others keep their names and constructors. Each one that is made gets a
container of its own in one store, so that it is empty. LangGraph's tests are a package "tests", as
ours are, so this file imports nothing from ours.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import langgraph.checkpoint.sqlite
import langgraph.checkpoint.sqlite.aio
import langgraph.store.memory
import langgraph.store.sqlite
import langgraph.store.sqlite.aio

from agentx_persistence import Persistence, create_persistence
from agentx_persistence.integrations.langgraph import PersistentSaver, PersistentStore

_opened: list[Persistence] = []


def _persistence() -> Persistence:
    if not _opened:
        backend = json.loads(os.environ["AGENTX_TEST_BACKEND"])
        module = importlib.import_module(backend["module"])
        driver = getattr(module, f"{backend['module'].rpartition('.')[2]}_driver")
        _opened.append(create_persistence(driver(*backend["arguments"], **backend["options"])))
    return _opened[0]


def pytest_unconfigure() -> None:
    for persistence in _opened:
        persistence.close()


class _Saver(PersistentSaver):
    def __init__(self, connection: Any = None, *, serde: Any = None) -> None:
        super().__init__(_persistence(), serde=serde, container_id=uuid.uuid4().hex)

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
        super().__init__(_persistence(), container_id=uuid.uuid4().hex)

    def setup(self) -> None:
        pass

    @classmethod
    @contextlib.contextmanager
    def from_conn_string(cls, address: str, **ignored: Any) -> Iterator[PersistentStore]:
        yield cls()


class _AsyncStore(_Store):
    async def setup(self) -> None:  # type: ignore[override]
        pass

    @classmethod
    @contextlib.asynccontextmanager
    async def from_conn_string(cls, address: str, **ignored: Any) -> AsyncIterator[PersistentStore]:  # type: ignore[override]
        yield cls()


langgraph.checkpoint.sqlite.SqliteSaver = _Saver
langgraph.checkpoint.sqlite.aio.AsyncSqliteSaver = _AsyncSaver
langgraph.store.memory.InMemoryStore = _Store
langgraph.store.sqlite.SqliteStore = _Store
langgraph.store.sqlite.AsyncSqliteStore = langgraph.store.sqlite.aio.AsyncSqliteStore = _AsyncStore
