"""What the SDK's own sessions have written is imported, item by item."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from agents import SQLiteSession
from agents.extensions.memory import SQLAlchemySession
from sqlalchemy import create_engine, text

from agentx_persistence import Persistence
from agentx_persistence.integrations.openai_agents import PersistentSession
from agentx_persistence.transfer import import_foreign
from tests.backends.backend import Backend
from tests.backends.urls import url_of
from tests.integrations.openai_agents.items import ITEMS

_ALL: list[Any] = list(ITEMS.values())
_MORE: Any = {"role": "user", "content": "One more"}


async def _written(session: Any, items: list[Any]) -> list[Any]:
    """Add the items by the SDK; return what it gives back then."""
    await session.add_items(items)
    found: list[Any] = await session.get_items()
    return found


async def _check(persistence: Persistence, session_id: str, expected: list[Any]) -> None:
    """The messages hold the items exactly, and our own session gives them back."""
    messages: list[Any] = persistence.sessions.get_messages(session_id)
    assert json.dumps([message.item for message in messages]) == json.dumps(expected)
    assert await PersistentSession(persistence, session_id).get_items() == expected


async def test_what_a_sqlite_session_wrote_is_imported(
    persistence: Persistence, tmp_path: Path
) -> None:
    path = tmp_path / "sdk.db"
    talk, other = SQLiteSession("talk", path), SQLiteSession("other", path)
    expected = {"talk": await _written(talk, _ALL), "other": await _written(other, _ALL[:3])}
    await other.pop_item()
    expected["other"].pop()

    report = import_foreign("openai-agents", str(path), persistence)

    assert (report.records, report.skipped) == ({"sessions": 2}, [])
    for session_id, items in expected.items():
        await _check(persistence, session_id, items)
    again = import_foreign("openai-agents", str(path), persistence)
    assert (again.records, again.messages) == ({}, 0)

    expected["talk"] = await _written(talk, [_MORE])
    assert import_foreign("openai-agents", str(path), persistence).messages == 1
    await _check(persistence, "talk", expected["talk"])
    talk.close()
    other.close()


async def test_what_a_sqlalchemy_session_wrote_is_imported(
    backend: Backend, persistence: Persistence
) -> None:
    if backend.name != "postgresql":
        pytest.skip("written once: to PostgreSQL, whose client can be used by async code, too")
    url, _ = url_of(backend, "postgresql+psycopg")
    talk = SQLAlchemySession.from_url("talk", url=url, create_tables=True)
    try:
        expected = await _written(talk, _ALL)
        report = import_foreign("openai-agents", url, persistence)
        assert (report.messages, report.skipped) == (len(_ALL), [])
        await _check(persistence, "talk", expected)

        expected = await _written(talk, [_MORE])
        assert import_foreign("openai-agents", url, persistence).messages == 1
        await _check(persistence, "talk", expected)
    finally:
        await talk.engine.dispose()
        engine = create_engine(url)
        with engine.begin() as connection:
            connection.execute(text("DROP TABLE agent_messages, agent_sessions"))
        engine.dispose()
