"""What LangChain's SQL message history has written is imported, message by message."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_community.chat_message_histories import SQLChatMessageHistory
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    messages_from_dict,
)
from sqlalchemy import create_engine, text

from agentx_persistence import Persistence
from agentx_persistence.transfer import import_foreign
from tests.backends.backend import Backend
from tests.backends.urls import url_of

_MESSAGES: list[BaseMessage] = [
    SystemMessage("Be brief."),
    HumanMessage("Grüße 🚀", id="h1", name="Ann"),
    HumanMessage([{"type": "text", "text": "And this?"}, {"type": "image_url", "image_url": "x"}]),
    AIMessage(
        "",
        tool_calls=[{"name": "look", "args": {"q": [1, 1.5, None]}, "id": "c1"}],
        usage_metadata={"input_tokens": 3, "output_tokens": 4, "total_tokens": 7},
        response_metadata={"model_name": "m"},
    ),
    ToolMessage("rain", tool_call_id="c1", artifact={"raw": "…"}, status="error"),
    AIMessageChunk("It ra"),
    AIMessage("It rains.", additional_kwargs={"refusal": None}),
    ChatMessage("So it does.", role="critic"),
]
_ROLES = ["system", "user", "user", "assistant", "tool", "assistant", "assistant", "chat"]


@pytest.fixture
def source(backend: Backend, tmp_path: Path) -> Iterator[str]:
    """The URL of a database: on the server of the store, or else a file."""
    drivers = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}
    if backend.name not in drivers:
        yield f"sqlite:///{tmp_path}/langchain.db"
        return
    url, _ = url_of(backend, drivers[backend.name])
    yield url
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE message_store"))
    engine.dispose()


def test_what_a_history_holds_is_imported(persistence: Persistence, source: str) -> None:
    talk = SQLChatMessageHistory("talk", connection=source)
    other = SQLChatMessageHistory("other", connection=source)
    talk.add_messages(_MESSAGES)
    other.add_messages(_MESSAGES[:2])

    report = import_foreign("langchain", source, persistence)

    assert (report.records, report.messages, report.skipped) == ({"sessions": 2}, 10, [])
    assert _imported(persistence, "talk") == talk.messages
    assert _imported(persistence, "other") == other.messages
    assert [message.role for message in persistence.sessions.get_messages("talk")] == _ROLES
    again = import_foreign("langchain", source, persistence)
    assert (again.records, again.messages) == ({}, 0)

    talk.add_message(HumanMessage("One more"))
    assert import_foreign("langchain", source, persistence).messages == 1
    assert _imported(persistence, "talk") == talk.messages
    for history in (talk, other):
        history.engine.dispose()


def _imported(persistence: Persistence, session_id: str) -> list[BaseMessage]:
    """Return what LangChain reads in the imported messages."""
    messages: list[Any] = persistence.sessions.get_messages(session_id)
    return messages_from_dict([message.message for message in messages])
