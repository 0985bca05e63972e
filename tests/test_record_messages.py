"""Messages as providers send them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from agentx_persistence import (
    AssistantMessage,
    ContentOutput,
    ErrorMessage,
    ErrorTextOutput,
    InvalidRecordError,
    JsonOutput,
    OtherMessage,
    OtherOutput,
    OtherPart,
    SystemMessage,
    TextOutput,
    TextPart,
    ThinkingPart,
    ToolCallMessage,
    ToolCallPart,
    ToolResultMessage,
    ToolResultPart,
    UserMessage,
    parse_message,
)
from agentx_persistence.records import MESSAGES
from tests.providers import DOCUMENT, IDS, ROWS, Row, exactly


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_a_row_of_the_document_is_true(row: Row) -> None:
    message = row.message()
    (read,) = MESSAGES.validate_json(f"[{message.to_json()}]")
    assert read == message
    assert read.to_json() == message.to_json()
    assert exactly(row.sent_back(read)) == exactly(row.sent)
    if "role" in row.sent:
        assert type(read).__name__ == row.kept_as
    else:
        assert isinstance(read, AssistantMessage)
        assert type((read.content or [])[0]).__name__ == row.kept_as


@pytest.mark.parametrize("row", [row for row in ROWS if "role" in row.sent])
def test_any_message_is_kept_with_the_name_of_its_framework(row: Row) -> None:
    message = row.message("a framework")
    assert isinstance(message, OtherMessage)
    again = OtherMessage.model_validate_json(message.to_json())
    assert exactly(row.sent_back(again)) == exactly(row.sent)


def test_the_document_has_every_framework_and_its_code_is_true() -> None:
    frameworks = {row.framework for row in ROWS}
    assert frameworks == {
        "openai-chat-completions",
        "openai-responses",
        "anthropic",
        "gemini",
        "bedrock-converse",
        "ai-sdk",
        "mcp",
    }
    assert len(ROWS) == DOCUMENT.count("\n| `{")
    (code,) = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    exec(compile(code, "messages.md", "exec"), {})


@pytest.mark.parametrize("message", [UserMessage, AssistantMessage, ErrorMessage, SystemMessage])
def test_content_is_a_text_or_a_list_or_tuple_of_any_parts(message: Any) -> None:
    parts = [
        TextPart(text="a"),
        ThinkingPart(),
        ToolCallPart(id="c" * 1108, name="n", input='{"a": '),
        ToolResultPart(id="c", output=TextOutput(value="x")),
        {"type": "image", "data": "AA=="},
        {"text": "b"},
        {"type": None, "x": 1},
    ]
    for content in (parts, tuple(parts)):
        record = message(content=content)
        assert isinstance(record.content, list)
        assert message.model_validate_json(record.to_json()) == record
        assert record.text == "ab"
    assert message(content="x").text == "x"
    for content in (5, {"text": "a"}, "text".split, [5], ["text"], [TextPart], {1}, iter(parts)):
        with pytest.raises(InvalidRecordError) as raised:
            message(content=content)
        assert raised.value.field.startswith("content")


def test_an_assistant_may_say_nothing() -> None:
    absent, null = AssistantMessage(), AssistantMessage(content=None)
    assert '"content"' not in absent.to_json()
    assert '"content":null' in null.to_json()
    assert AssistantMessage.model_validate_json(null.to_json()).to_json() == null.to_json()
    assert absent.text == null.text == ""


@pytest.mark.parametrize("value", [None, "", "{", 1.5, True, [], {"a": [None]}])
def test_the_input_of_a_tool_is_any_json(value: Any) -> None:
    call = ToolCallMessage(tool_call=ToolCallPart(id="c", name="n", input=value))
    again = ToolCallMessage.model_validate_json(call.to_json())
    assert exactly(again.tool_call.input) == exactly(value)


@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_system_message_keeps_its_role(role: Any) -> None:
    message = SystemMessage(role=role, content="Be brief.")
    read = parse_message(message.to_json())
    assert isinstance(read, SystemMessage)
    assert (read.role, read.subtype, read.text) == (role, "system", "Be brief.")
    with pytest.raises(InvalidRecordError):
        SystemMessage(role="user", content="x")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("output", "text"),
    [
        (TextOutput(value="a"), "a"),
        (ErrorTextOutput(value="a"), "a"),
        (JsonOutput(value="a"), ""),
        (OtherOutput(type="table", value="a"), ""),
        ({"type": "text", "value": 5}, ""),
        ({"value": "a"}, ""),
        (ContentOutput(value=[TextPart(text="a"), {"type": "tool-result", "id": "b"}]), "a"),  # type: ignore[list-item]
    ],
)
def test_an_output_of_any_shape_is_kept(output: Any, text: str) -> None:
    result = ToolResultPart(id="c", output=output)
    message = ToolResultMessage(tool_call_id="c", tool_result=result)
    assert message.text == text
    assert ToolResultMessage.model_validate_json(message.to_json()) == message


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"content": "a"}, "a"),
        ({"content": [{"type": "output_text", "text": "a"}, {"type": "x", "text": "b"}]}, "a"),
        ({"parts": [{"text": "a"}, {"text": "b", "thought": True}, {"text": 5}, "c", 5]}, "ac"),
        ({"text": "a"}, "a"),
        ({"content": None, "text": "a"}, "a"),
        ({"content": {"text": "a"}}, ""),
        ({"item": {"content": [{"type": "input_text", "text": "a"}]}}, "a"),
        ({"message": {"parts": [{"text": "a"}]}, "item": 5}, "a"),
        ({"message": "a"}, ""),
        ({"content": [{"type": ["text"], "text": "a"}]}, ""),
        ({}, ""),
    ],
)
def test_the_text_of_another_frameworks_message_is_found(fields: Any, text: str) -> None:
    assert OtherMessage(role="model", subtype="x", **fields).text == text


def test_a_part_of_another_framework_that_would_be_read_as_one_of_ours_is_refused() -> None:
    message = UserMessage(content=[OtherPart(type="text", text="a")])
    with pytest.raises(InvalidRecordError) as raised:
        message.to_json()
    assert raised.value.field == "content.0"
    kept = UserMessage(content=[OtherPart(type="text", value="a")])
    assert UserMessage.model_validate_json(kept.to_json()) == kept


@pytest.mark.parametrize("given", [dict, json.dumps, lambda value: json.dumps(value).encode()])
def test_any_message_is_parsed(given: Any) -> None:
    for row in ROWS:
        if "role" in row.sent:
            wire = json.loads(row.message().to_json())
            assert parse_message(given(wire)) == parse_message(wire)


@pytest.mark.parametrize(
    ("value", "field", "reason"),
    [
        ({"role": "user", "content": "x"}, "subtype", "is missing; it is one of user, assistant"),
        ({"role": "user", "subtype": 5}, "subtype", "must be text"),
        ({"role": "user", "subtype": "user", "content": 5}, "content", "text or a list of parts"),
        ({"role": "user", "subtype": "user"}, "content", "is missing"),
        ({"subtype": "langchain"}, "role", "is missing"),
        ({"role": "x", "subtype": "x", "timestamp": "2026-01-01"}, "timestamp", "milliseconds"),
        ({"role": "x", "subtype": "x", "id": "a" * 256}, "id", "1 to 255 characters"),
        ({"role": "x", "subtype": "x", "y": {1}}, "y", "no exact JSON form"),
        ("{", "record", "is no JSON"),
        (b"\xff", "record", "is no JSON"),
        ('{"x":NaN}', "record", "is no JSON"),
        ("[]", "record", "must be a mapping"),
        (None, "record", "must be a mapping"),
    ],
)
def test_what_is_no_message_is_refused_and_named(value: Any, field: str, reason: str) -> None:
    with pytest.raises(InvalidRecordError) as raised:
        parse_message(value)
    assert raised.value.field == field
    assert reason in raised.value.reason
    assert "OtherMessage" not in str(raised.value)
