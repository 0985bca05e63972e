from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest
from agents import Agent, Runner, Session, SessionSettings
from agents.extensions.memory import EncryptedSession
from agents.testing import ScriptedModel, assistant_message

from agentx_persistence import InvalidRecordError, Persistence, SessionRecord, UserMessage
from agentx_persistence.integrations.openai_agents import PersistentSession
from tests.backends.backend import Backend
from tests.integrations.openai_agents.items import ITEMS

HELLO: Any = {"role": "user", "content": "Hello"}
HI: Any = {"role": "assistant", "content": "Hi"}


def exactly(value: object) -> str:
    """A text that is the same for equal JSON in the same order of keys only."""
    return json.dumps(value)


@pytest.mark.parametrize("kind", ITEMS)
async def test_every_kind_of_item_comes_back_exactly(persistence: Persistence, kind: str) -> None:
    session = PersistentSession(persistence, "s")
    item: Any = ITEMS[kind]

    await session.add_items([item])

    assert exactly(await session.get_items()) == exactly([item])
    assert exactly(await session.pop_item()) == exactly(item)


async def test_equal_items_are_kept_each_by_itself(persistence: Persistence) -> None:
    session = PersistentSession(persistence, "s")
    await session.add_items([HELLO, HELLO])
    await session.add_items([HELLO])
    assert await session.get_items() == [HELLO] * 3


async def test_the_session_is_created_with_its_first_item(persistence: Persistence) -> None:
    session = PersistentSession(persistence, "s", container_id="user-42")
    assert isinstance(session, Session)

    assert await session.get_items() == []
    assert await session.pop_item() is None
    await session.clear_session()
    await session.add_items([])
    assert persistence.sessions.find_all() == []

    await session.add_items([HELLO])
    (record,) = persistence.sessions.find_all(container_id="user-42")
    assert (record.session_id, record.image_id) == ("s", "openai-agents")


async def test_a_session_that_is_there_keeps_its_record(persistence: Persistence) -> None:
    record = SessionRecord(session_id="s", title="Release notes")
    persistence.sessions.save(record)
    session = PersistentSession(persistence, "s", container_id="another")
    await session.add_items([HELLO])
    await session.clear_session()
    assert await session.get_items() == []
    found = persistence.sessions.get("s")
    assert (found.title, found.container_id) == ("Release notes", "default")


async def test_items_can_be_read_without_the_framework(persistence: Persistence) -> None:
    session = PersistentSession(persistence, "s")
    await session.add_items([ITEMS[kind] for kind in ("image", "answer with citations")])  # type: ignore[misc]
    await session.add_items([ITEMS[kind] for kind in ("tool call", "tool result")])  # type: ignore[misc]
    messages = persistence.sessions.get_messages("s")
    assert [(message.role, message.text) for message in messages] == [
        ("user", "What is this?"),
        ("assistant", "Paris."),
        ("assistant", ""),
        ("tool", ""),
    ]


async def test_items_are_the_newest_ones_and_come_oldest_first(persistence: Persistence) -> None:
    settings = SessionSettings(limit=1)
    session = PersistentSession(persistence, "s", session_settings=settings)
    await session.add_items([HELLO, HI])
    assert await session.get_items() == [HI]
    assert await session.get_items(2) == [HELLO, HI]
    assert await session.get_items(0) == []


async def test_messages_of_others_are_refused_and_not_skipped(persistence: Persistence) -> None:
    session = PersistentSession(persistence, "s")
    await session.add_items([HELLO])
    persistence.sessions.add_message("s", UserMessage(content="Hello"))
    for call in (session.get_items, session.pop_item):
        with pytest.raises(InvalidRecordError, match="subtype: is 'user'"):
            await call()
    assert persistence.sessions.count_messages("s") == 2


async def test_what_is_no_json_is_refused_and_nothing_is_written(persistence: Persistence) -> None:
    session = PersistentSession(persistence, "s")
    wrong: Any = {"role": "user", "content": object()}
    with pytest.raises(InvalidRecordError, match="item"):
        await session.add_items([HELLO, wrong])
    assert persistence.sessions.find_all() == []


def test_a_bad_id_is_refused_at_once(persistence: Persistence) -> None:
    with pytest.raises(InvalidRecordError):
        PersistentSession(persistence, "")


async def test_an_agent_remembers(persistence: Persistence) -> None:
    model = ScriptedModel()
    agent = Agent(name="test", model=model)
    for question, answer in (("One?", "1"), ("Two?", "2")):
        model.enqueue([assistant_message(answer)])
        session = PersistentSession(persistence, "s")  # as in another process
        await Runner.run(agent, question, session=session)
    assert [message.text for message in persistence.sessions.get_messages("s")] == [
        *("One?", "1", "Two?", "2")
    ]
    assert len(model.calls[-1].input) == 3


async def test_encrypted_sessions_are_stored_encrypted(persistence: Persistence) -> None:
    stored = PersistentSession(persistence, "s")
    session = EncryptedSession("s", stored, encryption_key="a key of the application")
    items: Any = list(ITEMS.values())
    await session.add_items(items)
    assert exactly(await session.get_items()) == exactly(items)
    assert exactly(await session.pop_item()) == exactly(items[-1])
    assert all(message.text == "" for message in persistence.sessions.get_messages("s"))


class _Paused:
    """Holds back what a repository writes, until it is told to go on."""

    def __init__(self, persistence: Persistence, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        add = persistence.sessions.add_messages

        def paused(*args: Any, **kwargs: Any) -> list[int]:
            self.begun.set()
            assert self.go_on.wait(30)
            return add(*args, **kwargs)

        monkeypatch.setattr(persistence.sessions, "add_messages", paused)


async def test_a_cancelled_call_is_over_when_its_cancellation_goes_on(
    persistence: Persistence, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = PersistentSession(persistence, "s")
    paused = _Paused(persistence, monkeypatch)
    adding = asyncio.create_task(session.add_items([HELLO]))
    await asyncio.to_thread(paused.begun.wait, 30)
    for _ in range(2):
        adding.cancel()
        await asyncio.sleep(0.01)
    assert not adding.done()
    paused.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await adding
    assert persistence.sessions.count_messages("s") == 1


async def test_a_cancelled_call_that_has_not_begun_is_never_made(
    persistence: Persistence, monkeypatch: pytest.MonkeyPatch
) -> None:
    paused = _Paused(persistence, monkeypatch)
    sessions = [PersistentSession(persistence, f"s{number}") for number in range(40)]
    adding = [asyncio.create_task(session.add_items([HELLO])) for session in sessions]
    await asyncio.to_thread(paused.begun.wait, 30)
    await asyncio.sleep(0.5)  # the threads are all taken now
    adding[-1].cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(adding[-1], 10)
    paused.go_on.set()
    await asyncio.gather(*adding[:-1])
    assert persistence.sessions.count() == 39
    assert persistence.sessions.find("s39") is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_process_goes_on_with_its_parents_sessions(backend: Backend) -> None:
    with backend.open() as persistence:
        session = PersistentSession(persistence, "s")
        asyncio.run(session.add_items([HELLO]))
        child = os.fork()
        if child == 0:
            status = 1
            try:
                asyncio.run(asyncio.wait_for(session.add_items([HI]), 30))
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        if backend.name != "memory":
            assert asyncio.run(session.get_items()) == [HELLO, HI]


@pytest.mark.timeout(600)
def test_its_types_are_sound(mypy: Callable[..., str]) -> None:
    assert mypy("agents", "openai_agents") == ""


def test_the_code_of_its_page_prints_what_it_says(run_page: Callable[[str], str]) -> None:
    assert run_page("openai-agents.md").splitlines() == [
        "San Francisco",
        "user Where is the Golden Gate Bridge?",
        "assistant San Francisco",
    ]
