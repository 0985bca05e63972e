"""A plugin with which the SDK's own tests run: their sessions are ours, in an empty store.

Only the constructor is adapted. A store takes the place of the file that a test names.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Iterator
from itertools import compress
from operator import not_
from typing import Any

import agents
import pytest
from agents.extensions.memory import encrypt_session  # noqa: F401  # before its class is replaced
from agents.memory import sqlite_session
from left_out import LEFT_OUT

from agentx_persistence import Persistence, create_persistence
from agentx_persistence.integrations.openai_agents import PersistentSession


def _open() -> Persistence:
    given = json.loads(os.environ["AGENTX_TEST_BACKEND"])
    module = importlib.import_module(given["module"])
    driver = getattr(module, f"{given['module'].rpartition('.')[2]}_driver")
    return create_persistence(driver(*given["arguments"], **given["options"]))


_persistence = _open()


class AdaptedSession(PersistentSession):
    def __init__(
        self, session_id: str, db_path: object = ":memory:", *, session_settings: Any = None
    ) -> None:
        super().__init__(_persistence, session_id, session_settings=session_settings)

    def close(self) -> None:
        """There is nothing to close: the store stays open."""


agents.SQLiteSession = AdaptedSession
sqlite_session.SQLiteSession = AdaptedSession


@pytest.fixture(autouse=True)
def _an_empty_store() -> Iterator[None]:
    yield
    for session in _persistence.sessions.find_all():
        _persistence.sessions.delete(session.session_id)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what `LEFT_OUT` names; a name that is no test is a mistake."""
    places = [(item.path.name, item.name.partition("[")[0]) for item in items]
    for file in {file for file, _ in places}:
        if unknown := LEFT_OUT.get(file, {}).keys() - {name for _, name in places}:
            raise pytest.UsageError(f"left_out.py names what is no test of {file}: {unknown}")
    is_out = [name in LEFT_OUT.get(file, {}) for file, name in places]
    config.hook.pytest_deselected(items=list(compress(items, is_out)))
    items[:] = compress(items, map(not_, is_out))


def pytest_unconfigure() -> None:
    _persistence.close()
