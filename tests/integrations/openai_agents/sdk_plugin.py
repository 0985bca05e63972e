"""A plugin with which the SDK's own tests run: their sessions are ours, in an empty store.

Only the constructor is adapted. A store takes the place of the file that a test names.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Iterator
from typing import Any

import agents
import pytest
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
    names = {name for names in LEFT_OUT.values() for name in names}
    files = {item.path.name for item in items}
    there = {f"{item.path.name}::{item.originalname}" for item in items}  # type: ignore[attr-defined]
    unknown = {name for name in names - there if name.partition("::")[0] in files}
    if unknown:
        raise pytest.UsageError(f"left_out.py names what is no test: {sorted(unknown)}")
    kept = [item for item in items if f"{item.path.name}::{item.originalname}" not in names]  # type: ignore[attr-defined]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


def pytest_unconfigure() -> None:
    _persistence.close()
