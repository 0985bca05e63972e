"""Sessions, agents, messages and storages, beyond what the SDK's own tests ask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest
from strands import Agent
from strands.models import Model
from strands.session import RepositorySessionManager, SnapshotSessionManager
from strands.types.exceptions import SessionException, StorageError
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from agentx_persistence import Persistence
from agentx_persistence.integrations.strands import PersistentSessionRepository, PersistentStorage

SESSION = Session("s", SessionType.AGENT)
MESSAGES: dict[str, Any] = {
    "text": {"role": "user", "content": [{"text": "Grüße 🙂\x00\n"}], "tracking_id": "t"},
    "parallel calls": {
        "role": "assistant",
        "content": [
            {"toolUse": {"toolUseId": "1", "name": "look", "input": {"a": None, "b": [1, 1.0]}}},
            {"toolUse": {"toolUseId": "2", "name": "look", "input": "raw"}},
        ],
    },
    "parallel results": {
        "role": "user",
        "content": [
            {
                "toolResult": {
                    "toolUseId": "1",
                    "status": "success",
                    "content": [
                        {"json": {"x": None}},
                        {"image": {"format": "png", "source": {"bytes": bytes(range(256))}}},
                    ],
                }
            },
            {"toolResult": {"toolUseId": "2", "status": "error", "content": [{"text": "no"}]}},
        ],
    },
    "files": {
        "role": "user",
        "content": [
            {"image": {"format": "jpeg", "source": {"bytes": b"\xff\xd8"}}},
            {"video": {"format": "mp4", "source": {"location": {"type": "s3", "uri": "s3://v"}}}},
            {
                "document": {
                    "format": "pdf",
                    "name": "d",
                    "source": {"bytes": b"%PDF"},
                    "citations": {"enabled": True},
                }
            },
            {"cachePoint": {"type": "default"}},
        ],
    },
    "reasoning": {
        "role": "assistant",
        "content": [
            {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "c2ln"}}},
            {"reasoningContent": {"redactedContent": b"\x00\xfe"}},
            {"text": "So."},
        ],
        "metadata": {
            "usage": {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3},
            "metrics": {"latencyMs": 4},
        },
    },
    "citations": {
        "role": "assistant",
        "content": [
            {
                "citationsContent": {
                    "citations": [
                        {
                            "title": "X",
                            "location": {"documentPage": {"documentIndex": 0, "start": 1}},
                            "sourceContent": [{"text": "as written"}],
                        }
                    ],
                    "content": [{"text": "As written."}],
                }
            },
            {"guardContent": {"text": {"text": "ok", "qualifiers": ["query"]}}},
        ],
    },
    "nothing": {"role": "assistant", "content": []},
}


@pytest.fixture
def repository(persistence: Persistence) -> PersistentSessionRepository:
    repository = PersistentSessionRepository(persistence)
    repository.create_session(SESSION)
    repository.create_agent("s", SessionAgent("a", {"k": b"\x00"}, {"c": None}))
    return repository


def test_its_types_are_sound(mypy: Callable[..., str]) -> None:
    assert mypy("strands", "strands") == ""


@pytest.mark.parametrize("kind", MESSAGES)
def test_every_kind_of_message_comes_back_equal(
    repository: PersistentSessionRepository, kind: str
) -> None:
    message = SessionMessage.from_message(MESSAGES[kind], 0)
    repository.create_message("s", "a", message)
    assert repository.list_messages("s", "a") == [message]
    message.redact_message = {"role": "user", "content": [{"text": "redacted"}]}
    repository.update_message("s", "a", message)
    assert repository.read_message("s", "a", 0) == message


def test_a_session_and_its_agents_come_back_equal(repository: PersistentSessionRepository) -> None:
    assert repository.read_session("s") == SESSION
    agent = repository.read_agent("s", "a")
    assert agent is not None
    assert agent.state == {"k": b"\x00"}
    created = agent.created_at
    repository.update_agent("s", SessionAgent("a", {"new": 1}, {}, {"i": 2}))
    changed = repository.read_agent("s", "a")
    assert changed is not None
    assert (changed.state, changed._internal_state) == ({"new": 1}, {"i": 2})
    assert changed.created_at == created
    assert repository.read_session("absent") is None
    assert repository.read_agent("s", "absent") is None


def test_what_is_taken_or_absent_is_refused(repository: PersistentSessionRepository) -> None:
    message = SessionMessage.from_message(MESSAGES["text"], 0)
    agent = SessionAgent("a", {}, {})
    for refused in (
        lambda: repository.create_session(SESSION),
        lambda: repository.create_agent("s", agent),
        lambda: repository.update_agent("absent", agent),
        lambda: repository.create_message("s", "absent", message),
        lambda: repository.update_message("s", "a", message),
        lambda: repository.list_messages("s", "absent"),
        lambda: repository.delete_session("absent"),
    ):
        with pytest.raises(SessionException):
            refused()
    assert repository.read_message("s", "absent", 0) is None
    assert repository.read_message("s", "a", 0) is None
    assert repository.list_messages("s", "a", offset=3) == []


def test_an_index_that_is_taken_or_leaves_a_gap_is_refused(
    repository: PersistentSessionRepository,
) -> None:
    first = SessionMessage.from_message(MESSAGES["text"], 0)
    repository.create_message("s", "a", first)
    repository.create_message("s", "a", first)  # again, as after a lost answer
    for index in (0, 2):
        with pytest.raises(SessionException):
            repository.create_message(
                "s", "a", SessionMessage.from_message(MESSAGES["files"], index)
            )
    assert repository.list_messages("s", "a") == [first]


def test_messages_are_listed_in_order_and_in_pages(repository: PersistentSessionRepository) -> None:
    for index in range(12):
        message = SessionMessage.from_message(
            {"role": "user", "content": [{"text": str(index)}]}, index
        )
        repository.create_message("s", "a", message)

    def listed(**window: Any) -> list[int]:
        return [message.message_id for message in repository.list_messages("s", "a", **window)]

    assert listed() == list(range(12))
    assert listed(offset=10) == [10, 11]
    assert listed(limit=2, offset=9) == [9, 10]
    assert listed(limit=0) == []
    assert listed(offset=12) == []


def test_a_deleted_session_leaves_nothing(
    repository: PersistentSessionRepository, persistence: Persistence
) -> None:
    repository.create_message("s", "a", SessionMessage.from_message(MESSAGES["text"], 0))
    group = Mock(id="g", serialize_state=lambda: {"bytes": b"\x00", "none": None})
    repository.create_multi_agent("s", group)
    assert repository.read_multi_agent("s", "g") == {"bytes": b"\x00", "none": None}
    repository.delete_session("s")
    assert repository.read_session("s") is None
    assert repository.read_agent("s", "a") is None
    assert repository.read_multi_agent("s", "g") is None
    assert persistence.sessions.count() == persistence.items.count(namespace_prefix=("strands/s",))


def test_names_with_slashes_stay_apart(persistence: Persistence) -> None:
    repository = PersistentSessionRepository(persistence)
    places = [("a/b", "c"), ("a", "b/c"), ("a%2Fb", "c")]
    for session, agent in places:
        repository.create_session(Session(session, SessionType.AGENT))
        repository.create_agent(session, SessionAgent(agent, {"at": [session, agent]}, {}))
    for session, agent in places:
        found = repository.read_agent(session, agent)
        assert found is not None
        assert found.state == {"at": [session, agent]}


class _Model(Model):
    def update_config(self, **config: Any) -> None: ...

    def get_config(self) -> Any:
        return {}

    def structured_output(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    async def stream(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        yield {"messageStart": {"role": "assistant"}}
        yield {"contentBlockStart": {"start": {}}}
        yield {"contentBlockDelta": {"delta": {"text": f"answer {len(messages)}"}}}
        yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": "end_turn"}}


@pytest.mark.parametrize("kind", ["repository", "snapshots"])
def test_an_agent_goes_on_in_another_process(persistence: Persistence, kind: str) -> None:
    def agent() -> Agent:
        manager: Any
        if kind == "repository":
            manager = RepositorySessionManager("s", PersistentSessionRepository(persistence))
        else:
            manager = SnapshotSessionManager("s", storage=PersistentStorage(persistence))
        return Agent(model=_Model(), agent_id="a", session_manager=manager, callback_handler=None)

    first = agent()
    first("question 1")
    first.state.set("k", [1])
    first("question 2")
    again = agent()
    assert again.messages == first.messages
    assert again.state.get() == {"k": [1]}
    if kind == "repository":  # the same conversation without Strands
        messages = persistence.sessions.get_messages("strands/s/a")
        assert [(message.role, message.text) for message in messages] == [
            ("user", "question 1"),
            ("assistant", "answer 1"),
            ("user", "question 2"),
            ("assistant", "answer 3"),
        ]


async def test_bytes_under_keys_come_back_and_are_listed(persistence: Persistence) -> None:
    storage = PersistentStorage(persistence)
    keys = sorted(f"{folder}/{number}" for folder in ("a", "a b", "ab/c") for number in range(25))
    for key in keys:
        await storage.write(key, key.encode() + b"\x00\xff")
    assert await storage.list() == keys
    assert await storage.list("a/") == [key for key in keys if key.startswith("a/")]
    assert await storage.list("a/1") == [key for key in keys if key.startswith("a/1")]
    assert await storage.list("ab") == [key for key in keys if key.startswith("ab")]
    assert await storage.list("x/") == []
    assert await storage.read("ab/c/3") == b"ab/c/3\x00\xff"
    assert await storage.namespace("ab").list("c/1") == [key[3:] for key in keys if "c/1" in key]
    await storage.delete("ab/c/3")
    assert await storage.read("ab/c/3") is None
    other = PersistentStorage(persistence, "other")
    assert await other.list() == []
    with pytest.raises(StorageError):
        await storage.write("x" * 300, b"")
    with pytest.raises(StorageError):
        await storage.read("//")


def test_the_code_of_its_page_prints_what_it_says(run_page: Callable[[str], str]) -> None:
    assert run_page("strands.md").splitlines() == ["user Hello!"]
