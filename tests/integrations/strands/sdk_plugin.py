"""A plugin with which the SDK's own tests run: their repositories and storages are ours.

Only the constructors are adapted. A store takes the place of the folder that a test names.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
import strands.session.file_session_manager
import strands.storage.in_memory_storage
from left_out import LEFT_OUT
from strands.session import RepositorySessionManager

import tests.fixtures.mock_session_repository
from agentx_persistence import Persistence, create_persistence
from agentx_persistence.integrations.strands import (
    PersistentSessionRepository,
    PersistentStorage,
)


def _open() -> Persistence:
    given = json.loads(os.environ["AGENTX_TEST_BACKEND"])
    module = importlib.import_module(given["module"])
    driver = getattr(module, f"{given['module'].rpartition('.')[2]}_driver")
    return create_persistence(driver(*given["arguments"], **given["options"]))


_persistence = _open()


class AdaptedRepository(PersistentSessionRepository):
    def __init__(self) -> None:
        super().__init__(_persistence)


class AdaptedManager(RepositorySessionManager, PersistentSessionRepository):
    def __init__(self, session_id: str, storage_dir: object = None, **kwargs: Any) -> None:
        PersistentSessionRepository.__init__(self, _persistence)
        super().__init__(session_id, self, **kwargs)


class AdaptedStorage(PersistentStorage):
    def __init__(self) -> None:
        super().__init__(_persistence)


strands.session.file_session_manager.FileSessionManager = AdaptedManager
strands.storage.InMemoryStorage = AdaptedStorage
strands.storage.in_memory_storage.InMemoryStorage = AdaptedStorage
tests.fixtures.mock_session_repository.MockedSessionRepository = AdaptedRepository


@pytest.fixture(autouse=True)
def _an_empty_store() -> Iterator[None]:
    yield
    for container in _persistence.containers.find_all():
        _persistence.containers.delete(container.container_id)
    _persistence.containers.delete("strands")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what `LEFT_OUT` names; a name that is no test is a mistake."""
    names = [f"{item.path.name}::{item.name.partition('[')[0]}" for item in items]
    files = {item.path.name for item in items}
    unknown = [name for name in LEFT_OUT.keys() - set(names) if name.partition("::")[0] in files]
    if unknown:
        raise pytest.UsageError(f"left_out.py names what is no test: {sorted(unknown)}")
    named = list(zip(names, items, strict=True))
    config.hook.pytest_deselected(items=[item for name, item in named if name in LEFT_OUT])
    items[:] = [item for name, item in named if name not in LEFT_OUT]


def pytest_unconfigure() -> None:
    _persistence.close()
