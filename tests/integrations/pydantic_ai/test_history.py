from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai.messages import (
    AudioUrl,
    BinaryContent,
    DocumentUrl,
    ImageUrl,
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    SystemPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
    VideoUrl,
)
from pydantic_ai.models.test import TestModel
from pydantic_ai.usage import RequestUsage
from pydantic_core import from_json

from agentx_persistence import InvalidRecordError, Persistence, UserMessage
from agentx_persistence.integrations.pydantic_ai import PersistentHistory
from tests.backends.backend import Backend
from tests.integrations.races import at_once

_AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)

MESSAGES: dict[str, ModelMessage] = {
    "prompts": ModelRequest(
        [SystemPromptPart("Be brief.", timestamp=_AT), UserPromptPart("Hello", timestamp=_AT)],
        instructions="Answer in French.",
    ),
    "media": ModelRequest(
        [
            UserPromptPart(
                [
                    "What is this?",
                    ImageUrl("https://example.org/a.png"),
                    AudioUrl("https://example.org/a.mp3"),
                    VideoUrl("https://example.org/a.mp4"),
                    DocumentUrl("https://example.org/a.pdf"),
                    BinaryContent(bytes(range(256)), media_type="image/png"),
                ],
                timestamp=_AT,
            )
        ]
    ),
    "answer": ModelResponse(
        [
            ThinkingPart("Hm.", id="rs_1", signature="c2ln", provider_name="openai"),
            TextPart("Bonjour"),
            ToolCallPart("weather", {"city": "Paris", "days": 1.0}, tool_call_id="call_1"),
            ToolCallPart("weather", '{"city": ', tool_call_id="call_2"),
        ],
        usage=RequestUsage(input_tokens=1, output_tokens=2, details={"reasoning_tokens": 1}),
        model_name="test",
        timestamp=_AT,
        provider_details={"logprobs": [-1e-07]},
    ),
    "tool results": ModelRequest(
        [
            ToolReturnPart("weather", {"sunny": True}, tool_call_id="call_1", timestamp=_AT),
            ToolReturnPart(
                "weather", "No city.", tool_call_id="call_2", timestamp=_AT, outcome="retried"
            ),
        ]
    ),
}


@pytest.mark.parametrize("kind", MESSAGES)
def test_every_kind_of_message_comes_back_equal(persistence: Persistence, kind: str) -> None:
    history = PersistentHistory(persistence, "s")
    history.append([MESSAGES[kind]])
    # The framework itself reads an image as another class than it wrote: that is equal enough.
    sent = ModelMessagesTypeAdapter.dump_json([MESSAGES[kind]])
    assert history.load() == ModelMessagesTypeAdapter.validate_json(sent)
    (stored,) = persistence.sessions.get_messages("s")
    assert [stored.message] == from_json(sent)  # type: ignore[union-attr]


async def test_an_agent_goes_on_with_what_was_stored(persistence: Persistence) -> None:
    agent = Agent(TestModel(custom_output_text="Bonjour"))
    said: list[ModelMessage] = []
    for prompt in ("Hello", "Again"):
        history = PersistentHistory(persistence, "s", container_id="user-42")
        assert history.load() == said
        result = await agent.run(prompt, message_history=history.load())
        history.append(result.new_messages())
        said = result.all_messages()
    assert history.load() == said
    assert history.load(last=1) == said[-1:]
    (record,) = persistence.sessions.find_all(container_id="user-42")
    assert record.image_id == "pydantic-ai"
    messages = persistence.sessions.get_messages("s")
    assert [message.role for message in messages] == ["user", "assistant"] * 2


def test_nothing_is_created_for_nothing(persistence: Persistence) -> None:
    PersistentHistory(persistence, "s").append([])
    assert persistence.sessions.find_all() == []


def test_messages_of_others_are_refused_and_not_skipped(persistence: Persistence) -> None:
    history = PersistentHistory(persistence, "s")
    history.append([MESSAGES["answer"]])
    persistence.sessions.add_message("s", UserMessage(content="Hello"))
    with pytest.raises(InvalidRecordError, match="subtype"):
        history.load()


def append(persistence: Persistence, number: int, worker: int) -> Any:
    request = ModelRequest([UserPromptPart(f"{worker}")])
    PersistentHistory(persistence, f"race {number}").append([request, MESSAGES["answer"]])


def test_eight_creators_make_one_session_and_lose_nothing(backend: Backend, tries: int) -> None:
    with backend.open() as persistence:
        at_once(backend, persistence, [append] * 8, tries)
        assert persistence.sessions.count() == tries
        for number in range(tries):
            found = PersistentHistory(persistence, f"race {number}").load()
            assert found[1::2] == [MESSAGES["answer"]] * 8
            prompts = {part.content for message in found[::2] for part in message.parts}  # type: ignore[union-attr]
            assert prompts == {str(worker) for worker in range(8)}


@pytest.mark.timeout(600)
def test_its_types_are_sound(mypy: Callable[..., str]) -> None:
    assert mypy("pydantic_ai", "pydantic_ai") == ""


def test_the_code_of_its_page_prints_what_it_says(run_page: Callable[[str], str]) -> None:
    assert run_page("pydantic-ai.md").splitlines() == [
        "San Francisco",
        "user ['Where is the Golden Gate Bridge?']",
        "assistant ['San Francisco']",
    ]
