"""A message that is said again: by a retry that builds it anew, by another framework, by chance."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from agentx_persistence import (
    AssistantMessage,
    ErrorMessage,
    Message,
    OtherMessage,
    Persistence,
    RecordConflictError,
    TextPart,
    ToolCallMessage,
    ToolCallPart,
    ToolResultMessage,
    ToolResultPart,
    Usage,
    UserMessage,
    parse_message,
)
from tests.contract.records import saved_session

Make = Callable[[], Message]


def _call(**input: Any) -> ToolCallPart:
    return ToolCallPart(id="t", name="n", input=input)


# Each makes the message anew, as a retry does, with another generated timestamp.
ANEW: dict[str, Make] = {
    "user": lambda: UserMessage(id="m", content="x"),
    "assistant": lambda: AssistantMessage(
        id="m", content=[TextPart(text="x"), _call(a=1)], usage=Usage(input_tokens=1)
    ),
    "tool call": lambda: ToolCallMessage(id="m", tool_call=_call(a=[1, {"b": None}])),
    "tool result": lambda: ToolResultMessage(
        id="m",
        tool_call_id="t",
        tool_result=ToolResultPart(id="t", name="n", output={"type": "json", "value": {"a": 1}}),
    ),
    "error": lambda: ErrorMessage(id="m", content="x"),
    "other": lambda: OtherMessage(id="m", role="oracle", subtype="adk", body={"a": None}),
    "parsed": lambda: parse_message({"id": "m", "role": "user", "subtype": "user", "content": "x"}),
    "with unknown fields": lambda: UserMessage(id="m", content="x", extra={"a": [1, 2.5, None]}),
}

# Pairs that are one message.
SAME: dict[str, tuple[Message, Message]] = {
    "null or absent": (
        UserMessage(id="m", content="x", timestamp=1),
        UserMessage(id="m", content="x", timestamp=1, parent_id=None),
    ),
    "null or absent inside": (
        AssistantMessage(id="m", content="x", timestamp=1, usage=Usage(input_tokens=1)),
        AssistantMessage(
            id="m", content="x", timestamp=1, usage=Usage(input_tokens=1, output_tokens=None)
        ),
    ),
    "another order of keys": (
        ToolCallMessage(id="m", timestamp=1, tool_call=_call(a=1, b={"c": 1, "d": 2})),
        ToolCallMessage(id="m", timestamp=1, tool_call=_call(b={"d": 2, "c": 1}, a=1)),
    ),
    "another order of unknown fields": (
        UserMessage(id="m", content="x", timestamp=1, p=1, q=2),
        UserMessage(id="m", content="x", timestamp=1, q=2, p=1),
    ),
    "a timestamp that the second caller did not give": (
        UserMessage(id="m", content="x", timestamp=1),
        UserMessage(id="m", content="x"),
    ),
    "either spelling": (
        UserMessage(id="m", content="x", timestamp=1, parent_id="p"),
        UserMessage.model_validate({"id": "m", "content": "x", "timestamp": 1, "parentId": "p"}),
    ),
}

# Pairs that are not, and where they differ.
OTHER: dict[str, tuple[Message, Message, str]] = {
    "content": (
        UserMessage(id="m", content="x"),
        UserMessage(id="m", content="y"),
        "content",
    ),
    "a timestamp that was given": (
        UserMessage(id="m", content="x", timestamp=1),
        UserMessage(id="m", content="x", timestamp=2),
        "timestamp",
    ),
    "a part": (
        UserMessage(id="m", content=[TextPart(text="x"), TextPart(text="y")]),
        UserMessage(id="m", content=[TextPart(text="x"), TextPart(text="z")]),
        "content.1.text",
    ),
    "one more part": (
        UserMessage(id="m", content=[TextPart(text="x")]),
        UserMessage(id="m", content=[TextPart(text="x"), TextPart(text="y")]),
        "content",
    ),
    "the subtype": (
        UserMessage(id="m", content="x"),
        ErrorMessage(id="m", content="x"),
        "subtype",
    ),
    "a wire name": (
        UserMessage(id="m", content="x", parent_id="p"),
        UserMessage(id="m", content="x"),
        "parentId",
    ),
    "null in open JSON": (
        ToolCallMessage(id="m", tool_call=_call(a=None)),
        ToolCallMessage(id="m", tool_call=_call()),
        "toolCall.input",
    ),
    "one and one point nought": (
        ToolCallMessage(id="m", tool_call=_call(a=1)),
        ToolCallMessage(id="m", tool_call=_call(a=1.0)),
        "toolCall.input.a",
    ),
    "one and true": (
        ToolCallMessage(id="m", tool_call=_call(a=[1])),
        ToolCallMessage(id="m", tool_call=_call(a=[True])),
        "toolCall.input.a.0",
    ),
    "nought and false": (
        UserMessage(id="m", content="x", extra=0),
        UserMessage(id="m", content="x", extra=False),
        "extra",
    ),
    "an unknown field": (
        UserMessage(id="m", content="x", extra={"a": 1}),
        UserMessage(id="m", content="x", extra={"a": 2}),
        "extra.a",
    ),
    "an unknown field that is null": (
        UserMessage(id="m", content="x", extra=None),
        UserMessage(id="m", content="x"),
        "extra",
    ),
}


def _later(message: Message) -> Message:
    """Return the message as a retry of a minute later has it: its timestamp is generated, too."""
    given = json.loads(message.to_json())
    del given["timestamp"]
    return parse_message(given)


@pytest.mark.parametrize("make", ANEW.values(), ids=ANEW)
def test_a_message_that_is_built_anew_is_the_same_one(persistence: Persistence, make: Make) -> None:
    sessions = persistence.sessions
    first = make().model_copy(update={"timestamp": 1})
    sessions.add_messages(saved_session(persistence), [first, UserMessage(content="next")])
    before = sessions.get("session")
    for again in (make(), _later(make()), first):
        assert sessions.add_message("session", again) == 1
        assert sessions.add_messages("session", [again, again]) == [1, 1]
        assert sessions.add_message("session", again, expected=77) == 1
    assert sessions.get_messages("session")[0].to_json() == first.to_json()
    assert sessions.count_messages("session") == 2
    assert sessions.get("session") == before


@pytest.mark.parametrize(("one", "other"), SAME.values(), ids=SAME)
def test_the_same_message_keeps_its_position_and_changes_nothing(
    persistence: Persistence, one: Message, other: Message
) -> None:
    sessions = persistence.sessions
    sessions.add_message(saved_session(persistence), one)
    assert sessions.add_message("session", other) == 1
    assert sessions.add_messages("session", [other, UserMessage(content="next")]) == [1, 2]
    assert sessions.get_messages("session")[0].to_json() == one.to_json()


@pytest.mark.parametrize(("one", "other", "field"), OTHER.values(), ids=OTHER)
@pytest.mark.parametrize("reverse", [False, True], ids=["so", "turned round"])
def test_another_message_is_a_conflict_that_names_the_field(
    persistence: Persistence, one: Message, other: Message, field: str, reverse: bool
) -> None:
    sessions = persistence.sessions
    if reverse:
        one, other = other, one
    sessions.add_message(saved_session(persistence), one)
    new = UserMessage(content="new")
    for call in (
        lambda: sessions.add_message("session", other),
        lambda: sessions.add_messages("session", [new, other]),
        lambda: sessions.add_message("session", other, expected=1),
        lambda: sessions.add_messages("empty", [one, other], create=None),
    ):
        with pytest.raises(RecordConflictError) as raised:
            call()
        assert (raised.value.kind, raised.value.id) == ("message", "m")
        found = raised.value.field or ""
        assert found == field or found.startswith(f"{field}.")
        assert found in str(raised.value)
    assert sessions.get_messages("session") == [one]


def test_what_a_framework_makes_of_a_message_is_the_same_one(persistence: Persistence) -> None:
    """FastAPI's response models write null for what is absent, and send every field back."""
    sent = AssistantMessage(
        id="m", content=[TextPart(text="x"), _call(a={"b": None})], usage=Usage(input_tokens=3)
    )
    persistence.sessions.add_message(saved_session(persistence), sent)
    written = json.loads(sent.model_dump_json())
    assert written == json.loads(sent.to_json()) == sent.model_dump(mode="json")
    again = parse_message({**written, "parentId": None})
    assert persistence.sessions.add_message("session", again) == 1
    assert persistence.sessions.add_message("session", parse_message(sent.to_json())) == 1
    (stored,) = persistence.sessions.get_messages("session")
    assert persistence.sessions.add_message("session", stored) == 1


def test_a_replaced_message_is_the_one_that_counts(persistence: Persistence) -> None:
    sessions = persistence.sessions
    sessions.add_message(saved_session(persistence), UserMessage(id="m", content="x"))
    sessions.replace_message("session", UserMessage(id="m", content="y"))
    assert sessions.add_message("session", UserMessage(id="m", content="y")) == 1
    with pytest.raises(RecordConflictError) as raised:
        sessions.add_message("session", UserMessage(id="m", content="x"))
    assert raised.value.field == "content"
