"""What is wrong with a field is said in the caller's terms; what resembles a field is warned of."""

from __future__ import annotations

import datetime
import warnings
from typing import Any

import pytest

import agentx_persistence
from agentx_persistence import (
    AssistantMessage,
    ErrorMessage,
    ImageRecord,
    InvalidRecordError,
    MisspeltFieldWarning,
    OtherMessage,
    OtherPart,
    SessionRecord,
    TextPart,
    ToolCallMessage,
    ToolResultMessage,
    Usage,
    UserMessage,
    parse_message,
)
from agentx_persistence.records import Record

INTERNAL = {
    name
    for name in vars(agentx_persistence.records.parts) | vars(agentx_persistence.records.messages)
    if name[0].isupper() and name != "OtherMessage"
}


@pytest.mark.parametrize(
    ("record", "fields", "message"),
    [
        (UserMessage, {}, "message: content: is missing"),
        (UserMessage, {"content": 5}, "message: content: must be text or a list of parts"),
        (UserMessage, {"content": "\ud800"}, "content: a lone surrogate (half of a UTF-16 pair)"),
        (
            UserMessage,
            {"content": [{"type": "text", "text": "\ud800"}]},
            "content.0.text: a lone surrogate (half of a UTF-16 pair)",
        ),
        (UserMessage, {"content": [5]}, "content.0: must be a mapping"),
        (UserMessage, {"content": [{"type": 5}]}, "content.0.type: must be text"),
        (UserMessage, {"content": "x", "x": {"a": ["\ud800"]}}, "x: a lone surrogate"),
        (UserMessage, {"content": "x", "timestamp": "2026-01-01T00:00:00Z"}, "Unix milliseconds"),
        (UserMessage, {"content": "x", "timestamp": 1767225600.5}, "Unix milliseconds"),
        (
            UserMessage,
            {"content": "x", "timestamp": datetime.datetime.now(datetime.UTC)},
            "timestamp: must be Unix milliseconds",
        ),
        (SessionRecord, {"created_at": 2**60}, "created_at: must be Unix milliseconds"),
        (SessionRecord, {"title": b"x"}, "session: title: must be text"),
        (SessionRecord, {"metadata": [1]}, "metadata: must be a mapping"),
        (SessionRecord, {"forked_from": "x"}, "forked_from: must be a mapping"),
        (ImageRecord, {"container_id": "c", "metadata": 5}, "metadata: must be a mapping"),
        (AssistantMessage, {"usage": Usage}, "usage: must be a mapping"),
        (AssistantMessage, {"usage": {"inputTokens": 1.5}}, "usage.input_tokens: must be a whole"),
        (AssistantMessage, {"usage": {"inputTokens": "1"}}, "usage.input_tokens: must be a whole"),
        (TextPart, {"txt": "x"}, "text: is missing (did you misspell it as 'txt'?)"),
        (
            ErrorMessage,
            {"contents": "x"},
            "content: is missing (did you misspell it as 'contents'?)",
        ),
        (ToolCallMessage, {"tool_call": {"id": "c", "name": "n"}}, "tool_call.input: is missing"),
        (
            ToolResultMessage,
            {"tool_call_id": "c", "tool_result": {"id": "c", "output": 5}},
            "tool_result.output: must be a mapping",
        ),
    ],
)
def test_an_error_says_what_is_meant_and_names_no_class(
    record: type[Record], fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidRecordError) as raised:
        record(**fields)
    assert message in str(raised.value)
    assert not any(name in str(raised.value) for name in INTERNAL)
    if record in (UserMessage, AssistantMessage) and "content" in fields:
        subtype = {UserMessage: "user", AssistantMessage: "assistant"}[record]
        with pytest.raises(InvalidRecordError) as raised:
            parse_message({"role": subtype, "subtype": subtype, **fields})
        assert message.removeprefix("message: ") in str(raised.value)


@pytest.mark.parametrize(
    ("make", "misspelt", "meant"),
    [
        (lambda: ImageRecord(container_id="c", system_promt="x"), "system_promt", "system_prompt"),
        (lambda: ImageRecord(container_id="c", systemPromt="x"), "systemPromt", "system_prompt"),
        (lambda: SessionRecord(tittle="x"), "tittle", "title"),
        (lambda: UserMessage(content="x", timestmp=1), "timestmp", "timestamp"),
        (lambda: Usage(input_token=1), "input_token", "input_tokens"),
        (
            lambda: ImageRecord(container_id="c").model_copy(update={"descripton": "x"}),
            "descripton",
            "description",
        ),
    ],
)
def test_a_misspelt_field_is_kept_with_a_warning_that_names_the_field(
    make: Any, misspelt: str, meant: str
) -> None:
    with pytest.warns(
        MisspeltFieldWarning, match=f"{misspelt!r}: did you mean {meant!r}"
    ) as warned:
        record = make()
    assert warned[0].filename == __file__
    assert misspelt in record.model_extra


def test_what_is_no_misspelt_field_is_not_warned_of() -> None:
    wire = '{"containerId":"c","systemPromt":"x"}'
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ImageRecord.model_validate_json(wire).model_extra == {"systemPromt": "x"}
        assert ImageRecord.model_validate({"containerId": "c", "systemPromt": "x"})
        assert ImageRecord(container_id="c", color="red", user="ann")  # type: ignore[call-arg]
        # A field that was given as well is not meant by another one.
        assert ImageRecord(container_id="c", model="a", mode="b")  # type: ignore[call-arg]
        # What belongs to another framework.
        assert OtherPart(typ="x", types=[])
        assert OtherMessage(role="user", subtype="x", roles=[], timestamps=[], parent="x")
        parse_message({"role": "user", "subtype": "user", "content": "x", "contents": 1})
