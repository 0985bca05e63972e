"""Histories of other frameworks. The rows are those that openai-agents 0.24 (its `SQLiteSession`
and `SQLAlchemySession` write the same tables) and langchain-community 0.4 write. Inner suites in
`tests.integrations` import what these libraries themselves have written."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agentx_persistence import ConfigurationError, OtherMessage, Persistence, create_persistence
from agentx_persistence.transfer import import_foreign
from agentx_persistence.transfer.conversation import pieces

_OPENAI_TABLES = """
CREATE TABLE agent_sessions (session_id TEXT PRIMARY KEY,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE agent_messages (id INTEGER PRIMARY KEY AUTOINCREMENT, session_id TEXT NOT NULL,
    message_data TEXT NOT NULL, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    FOREIGN KEY (session_id) REFERENCES agent_sessions (session_id) ON DELETE CASCADE);
"""
_ITEMS: list[dict[str, Any]] = [
    {"role": "user", "content": "Hello 🚀"},
    {"type": "reasoning", "id": "rs_1", "summary": []},
    {"type": "function_call", "call_id": "c1", "name": "look", "arguments": '{"q":1}'},
    {"type": "function_call_output", "call_id": "c1", "output": "rain"},
    {
        "type": "message",
        "role": "assistant",
        "id": "msg_1",
        "content": [{"type": "output_text", "text": "It rains.", "annotations": []}],
    },
]
_MESSAGES: list[dict[str, Any]] = [
    {"type": "system", "data": {"content": "Be brief.", "type": "system", "id": None}},
    {"type": "human", "data": {"content": "Hello 🚀", "type": "human", "id": None}},
    {"type": "ai", "data": {"content": "", "tool_calls": [{"name": "look", "args": {"q": 1}}]}},
    {"type": "tool", "data": {"content": "rain", "tool_call_id": "c1", "status": "success"}},
]


@pytest.fixture
def memory() -> Iterator[Persistence]:
    with create_persistence() as persistence:
        yield persistence


@pytest.fixture
def openai_file(tmp_path: Path) -> str:
    path = tmp_path / "openai.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(_OPENAI_TABLES)
        for item in _ITEMS:
            for session in ("talk", "other"):
                connection.execute(
                    "INSERT INTO agent_messages (session_id, message_data, created_at)"
                    " VALUES (?, ?, '2026-01-02 03:04:05')",
                    (session, json.dumps(item)),
                )
    return str(path)


@pytest.fixture
def langchain_file(tmp_path: Path) -> str:
    path = tmp_path / "langchain.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "CREATE TABLE message_store (id INTEGER NOT NULL PRIMARY KEY, session_id TEXT,"
            " message TEXT)"
        )
        for message in _MESSAGES:
            connection.execute(
                "INSERT INTO message_store (session_id, message) VALUES ('talk', ?)",
                (json.dumps(message),),
            )
    return str(path)


def _kept(persistence: Persistence, field: str) -> list[Any]:
    messages = persistence.sessions.get_messages("talk")
    assert all(isinstance(message, OtherMessage) for message in messages)
    return [getattr(message, field) for message in messages]


def test_sessions_of_openai_agents(memory: Persistence, openai_file: str) -> None:
    report = import_foreign("openai-agents", openai_file, memory)
    assert (report.records, report.messages, report.skipped) == ({"sessions": 2}, 10, [])
    assert _kept(memory, "item") == _ITEMS
    messages = memory.sessions.get_messages("talk")
    roles = ["user", "assistant", "assistant", "tool", "assistant"]
    assert [message.role for message in messages] == roles
    assert messages[0].timestamp == memory.sessions.get("talk").updated_at == 1_767_323_045_000
    assert [piece.text for piece in pieces(messages[4])] == ["It rains."]


def test_message_histories_of_langchain(memory: Persistence, langchain_file: str) -> None:
    report = import_foreign("langchain", f"sqlite:///{langchain_file}", memory)
    assert report.messages == 4
    assert _kept(memory, "message") == _MESSAGES
    roles = [message.role for message in memory.sessions.get_messages("talk")]
    assert roles == ["system", "user", "assistant", "tool"]


def test_a_second_import_writes_only_what_came_since(
    memory: Persistence, openai_file: str, langchain_file: str
) -> None:
    for kind, file in (("openai-agents", openai_file), ("langchain", langchain_file)):
        with create_persistence() as persistence:
            import_foreign(kind, file, persistence)
            session = persistence.sessions.get("talk")
            again = import_foreign(kind, file, persistence)
            assert (again.records, again.messages) == ({}, 0)
            assert again.unchanged == persistence.sessions.count()
            assert persistence.sessions.get("talk") == session
    import_foreign("openai-agents", openai_file, memory)
    with closing(sqlite3.connect(openai_file)) as connection, connection:
        connection.execute(
            "INSERT INTO agent_messages (session_id, message_data) VALUES ('talk', '{}')"
        )
    assert import_foreign("openai-agents", openai_file, memory).messages == 1


def test_a_row_that_cannot_be_read_is_named(memory: Persistence, openai_file: str) -> None:
    with closing(sqlite3.connect(openai_file)) as connection, connection:
        connection.execute("UPDATE agent_messages SET message_data = '{' WHERE id = 3")
    report = import_foreign("openai-agents", openai_file, memory)
    assert report.messages == 9
    (reason,) = report.skipped
    assert reason.startswith("session 'talk', row 3: ")


def test_another_kind_of_store_is_refused(memory: Persistence, langchain_file: str) -> None:
    with pytest.raises(ConfigurationError, match="no table agent_messages"):
        import_foreign("openai-agents", langchain_file, memory)
    with pytest.raises(ConfigurationError, match="known are agentx, openai-agents, langchain"):
        import_foreign("other", langchain_file, memory)
