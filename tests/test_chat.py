"""The example application with FastAPI: repeats, pages, errors, and requests that are cancelled."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from agentx_persistence import SessionRecord, UserMessage, create_persistence

_EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'chat.db'}"


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(_EXAMPLES)
    from chat import app

    return app


@pytest.fixture
def client(chat: Any, url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setenv("CHAT_URL", url)
    with TestClient(chat.create_app()) as client:
        yield client


def _say(client: TestClient, conversation: str, id: str, text: str) -> Any:
    there = f"/users/ada/conversations/{conversation}"
    return client.post(there, json={"id": id, "text": text})


def test_a_message_that_is_sent_again_is_stored_and_answered_once(
    client: TestClient, chat: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _say(client, "c1", "m1", "Hello!")
    assert first.json() == {"id": "m1-answer", "role": "assistant", "text": "You said: Hello!"}
    monkeypatch.delattr(chat, "ask_model")
    assert _say(client, "c1", "m1", "Hello!").json() == first.json()
    shown = client.get("/users/ada/conversations/c1").json()
    assert [each["id"] for each in shown] == ["m1", "m1-answer"]


def test_pages_of_conversations_and_of_messages_have_everything_once(client: TestClient) -> None:
    for number in range(23):
        _say(client, f"c{number}", f"m{number}", "Hello!")
    seen: list[str] = []
    cursor = None
    while True:
        page = client.get("/users/ada/conversations", params={"cursor": cursor} if cursor else {})
        seen += [each["conversation"] for each in page.json()["conversations"]]
        if (cursor := page.json()["next"]) is None:
            break
    assert sorted(seen) == sorted(f"c{number}" for number in range(23))
    for number in range(3):
        _say(client, "long", f"l{number}", str(number))
    there = "/users/ada/conversations/long"
    newest = client.get(there, params={"last": 4}).json()
    older = client.get(there, params={"last": 4, "before": newest[0]["id"]}).json()
    assert [each["text"] for each in older + newest] == [
        text for number in range(3) for text in (str(number), f"You said: {number}")
    ]


def test_another_user_sees_nothing_of_it(client: TestClient) -> None:
    _say(client, "c1", "m1", "Hello!")
    assert client.get("/users/ben/conversations/c1").status_code == 404
    assert client.get("/users/ben/conversations").json() == {"conversations": [], "next": None}


def test_each_error_has_its_status(client: TestClient) -> None:
    assert client.get("/users/ada/conversations/none").status_code == 404
    _say(client, "c1", "m1", "Hello!")
    assert _say(client, "c1", "m1", "Something else.").status_code == 409
    refused = _say(client, "c1", " m2", "Hello!")
    assert refused.status_code == 422
    assert "id" in refused.json()["error"]


def test_a_cancelled_request_waits_for_its_call_and_a_repetition_stores_nothing_twice(
    chat: Any, url: str
) -> None:
    session, message = SessionRecord(), UserMessage(content="Hello!")
    started = threading.Event()
    with create_persistence(url) as persistence:

        def slowly() -> int:
            started.set()
            time.sleep(0.2)
            return persistence.sessions.add_message(session.session_id, message, create=session)

        async def cancelled() -> None:
            request = asyncio.ensure_future(chat.in_thread(slowly))
            await asyncio.to_thread(started.wait)
            request.cancel()
            with pytest.raises(asyncio.CancelledError):
                await request
            assert persistence.sessions.count_messages(session.session_id) == 1
            assert await chat.in_thread(slowly) == 1

        asyncio.run(cancelled())
        assert persistence.sessions.count_messages(session.session_id) == 1
