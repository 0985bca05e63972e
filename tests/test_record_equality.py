"""When two messages are the same, and what a record's hash and dumps are."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest
from pydantic import BaseModel

from agentx_persistence import (
    AssistantMessage,
    ContainerRecord,
    ImageRecord,
    ItemRecord,
    JsonOutput,
    Message,
    OtherMessage,
    OtherPart,
    SessionRecord,
    TextPart,
    ToolCallMessage,
    ToolCallPart,
    ToolResultMessage,
    ToolResultPart,
    Usage,
    UserMessage,
    parse_message,
)
from agentx_persistence.records import MESSAGES, Record, difference
from tests.ancestor import FILES, ancestor_data
from tests.providers import IDS, ROWS, Row

STORED: dict[str, Any] = {
    "id": "m",
    "role": "user",
    "subtype": "user",
    "content": "x",
    "timestamp": 1,
}


def stored(**fields: Any) -> Message:
    (message,) = MESSAGES.validate_json(json.dumps([{**STORED, **fields}]))
    return message


def call(value: Any) -> Message:
    part = ToolCallPart(id="c", name="n", input=value)
    return ToolCallMessage(id="m", timestamp=1, tool_call=part)


def said_again() -> list[Any]:
    """Return the message of `stored` with a timestamp that nobody gave, made in every way."""
    message = UserMessage(id="m", content="x")
    message.to_json()
    wire = {key: value for key, value in STORED.items() if key != "timestamp"}
    return [
        message,
        UserMessage(id="m", content="x"),
        UserMessage(id="n", content="y").model_copy(update={"id": "m", "content": "x"}),
        message.model_copy(),
        message.model_copy(deep=True),
        copy.copy(message),
        copy.deepcopy(message),
        pickle.loads(pickle.dumps(message)),
        parse_message(wire),
        parse_message(json.dumps(wire)),
        UserMessage.model_validate_json(json.dumps(wire)),
        UserMessage.model_construct(None, id="m", content="x"),
    ]


@pytest.mark.parametrize("given", said_again())
def test_a_timestamp_that_the_caller_did_not_give_equals_any(given: Message) -> None:
    assert given.timestamp != 1
    assert difference(stored(), given) is None
    assert difference(stored(content="y"), given) == "content"


@pytest.mark.parametrize(
    "given",
    [
        UserMessage(id="m", content="x", timestamp=2),
        UserMessage(id="m", content="x", timestamp=1).model_copy(update={"timestamp": 2}),
        UserMessage(id="m", content="x").model_copy(update={"timestamp": 2}),
        UserMessage(id="m", content="x").model_copy(update={"timestamp": 2}).model_copy(),
        pickle.loads(pickle.dumps(UserMessage(id="m", content="x", timestamp=2))),
        UserMessage.model_validate_json(UserMessage(id="m", content="x").to_json()),
        parse_message({**STORED, "timestamp": 2}),
    ],
)
def test_a_timestamp_that_was_given_counts(given: Message) -> None:
    assert difference(stored(), given) == "timestamp"


def test_a_null_in_a_declared_field_equals_an_absent_one() -> None:
    absent = UserMessage(id="m", content="x", timestamp=1)
    null = UserMessage(id="m", content="x", timestamp=1, parent_id=None)
    assert absent.to_json() != null.to_json()
    assert difference(absent, null) is None
    assert difference(null, absent) is None
    assert difference(stored(parentId="p"), null) == "parentId"
    silent = AssistantMessage(id="m", timestamp=1, content=None, usage=Usage(input_tokens=None))
    assert difference(AssistantMessage(id="m", timestamp=1, usage=Usage()), silent) is None
    assert difference(AssistantMessage(id="m", timestamp=1), silent) == "usage"


def test_a_null_in_open_json_does_not_equal_an_absent_one() -> None:
    assert difference(call({}), call({"a": None})) == "toolCall.input.a"
    assert difference(call({"a": None}), call({})) == "toolCall.input.a"
    assert difference(stored(), stored(mood=None)) == "mood"
    assert difference(call([1]), call([1, None])) == "toolCall.input.1"


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_what_a_response_model_adds_does_not_make_another_message(row: Row) -> None:
    class Response(BaseModel):
        message: Message

    message = row.message()
    answered = Response(message=message).model_dump_json(by_alias=True)
    assert "null" in answered
    given = Response.model_validate_json(answered).message
    assert difference(message, given) is None
    assert difference(given, message) is None


def test_the_order_of_keys_does_not_matter() -> None:
    one, other = {"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 3, "c": 2}, "a": 1}
    assert difference(call(one), call(other)) is None
    assert difference(stored(one=1, two=2), stored(two=2, one=1)) is None
    assert difference(call([1, 2]), call([2, 1])) == "toolCall.input.0"


@pytest.mark.parametrize("one", [1, 1.0, True, 0, 0.0, -0.0, False, None, "1", "", [], {}, 2**64])
@pytest.mark.parametrize("other", [1, 1.0, True, 0, 0.0, -0.0, False, None, "1", "", [], {}, 2**64])
def test_values_are_compared_as_json(one: Any, other: Any) -> None:
    same = json.dumps(one) == json.dumps(other)
    for place in ((one, other), ([one], [other]), ({"a": one}, {"a": other})):
        assert (difference(call(place[0]), call(place[1])) is None) is same


@pytest.mark.parametrize(
    ("one", "other", "field"),
    [
        (stored(), stored(content=[{"type": "text", "text": "x"}]), "content"),
        (stored(), stored(subtype="assistant", role="assistant"), "subtype"),
        (
            stored(content=[{"type": "text", "text": "x"}]),
            stored(content=[{"type": "text", "text": "y"}]),
            "content.0.text",
        ),
        (
            stored(content=[{"type": "text", "text": "x"}]),
            stored(content=[{"type": "audio", "text": "x"}]),
            "content.0.type",
        ),
        (
            stored(content=[{"type": "text", "text": "x"}]),
            stored(content=[{"type": "text", "value": "x"}]),
            "content.0",
        ),
        (stored(content=[]), stored(content=[{"type": "x"}]), "content.0"),
        (
            AssistantMessage(id="m", timestamp=1, usage=Usage(input_tokens=1)),
            AssistantMessage(id="m", timestamp=1, usage=Usage(input_tokens=2)),
            "usage.inputTokens",
        ),
        (
            OtherMessage(id="m", timestamp=1, role="a", subtype="x", parts=[{"a": [1]}]),
            OtherMessage(id="m", timestamp=1, role="a", subtype="x", parts=[{"a": [2]}]),
            "parts.0.a.0",
        ),
    ],
)
def test_the_first_difference_is_named(one: Message, other: Message, field: str) -> None:
    assert difference(one, other) == field
    assert difference(other, one) == field
    assert difference(one, one.model_copy(deep=True)) is None


def test_a_tool_result_is_compared_whole() -> None:
    def result(value: Any) -> Message:
        part = ToolResultPart(id="c", output=JsonOutput(value=value))
        return ToolResultMessage(id="m", timestamp=1, tool_call_id="c", tool_result=part)

    assert difference(result({"a": 1}), result({"a": 1})) is None
    assert difference(result({"a": 1}), result({"a": 2})) == "toolResult.output.value.a"


def test_a_message_of_the_callers_own_class_is_compared_as_it_is_stored() -> None:
    class Moody(UserMessage):
        mood: str

    given = Moody(id="m", content="x", mood="calm")
    assert difference(stored(mood="calm"), given) is None
    assert difference(stored(mood="sad"), given) == "mood"


@pytest.mark.parametrize(
    "record",
    [
        ContainerRecord(container_id="c", config={"a": [1]}, created_at=1, updated_at=1),
        ImageRecord(container_id="c", custom_data={"a": 1}, metadata={"tag": "x"}),  # type: ignore[arg-type]
        SessionRecord(metadata={"a": 1}),
        ItemRecord(namespace=("a",), key="k", value={"a": 1}),
        ItemRecord(namespace=("a",), key="k", value=b"a"),
        UserMessage(content=[TextPart(text="a"), OtherPart(x=[])]),
        JsonOutput(value=[1]),
    ],
    ids=lambda record: type(record).__name__,
)
def test_a_record_is_hashable_and_equal_ones_have_the_same_hash(record: Record) -> None:
    again = type(record).model_validate_json(record.to_json())
    assert len({record, again, record.model_copy(), pickle.loads(pickle.dumps(record))}) == 1
    open_values = JsonOutput(value=1), JsonOutput(value=1.0), JsonOutput(value=True)
    assert len(set(open_values)) == 1  # they are equal in Python
    assert len({ContainerRecord(), ContainerRecord()}) == 2


def check_dumps(record: Record) -> None:
    dumped, text = record.model_dump(mode="json"), record.model_dump_json()
    assert record.to_json() == text
    assert json.dumps(dumped) == json.dumps(json.loads(text))
    assert record.model_dump().keys() == dumped.keys()


@pytest.mark.parametrize(
    "record",
    [
        *[row.message() for row in ROWS],
        ItemRecord(namespace=("a",), key="k", value=b"a"),
        ImageRecord.model_validate_json('{"containerId":"c","name":null}'),
        SessionRecord(),
    ],
    ids=lambda record: type(record).__name__,
)
def test_the_dumps_are_the_wire_form(record: Record) -> None:
    check_dumps(record)


@pytest.mark.parametrize("file", FILES)
def test_the_dumps_of_the_ancestors_records_are_its_wire_form(file: str) -> None:
    data = ancestor_data(file)
    kinds: dict[str, type[Record]] = {
        "containers": ContainerRecord,
        "images": ImageRecord,
        "sessions": SessionRecord,
    }
    for kind, record in kinds.items():
        for sent in data[kind]:
            read = record.model_validate_json(json.dumps(sent))
            check_dumps(read)
            assert read.model_dump(mode="json") == sent
            assert record.model_validate(sent).to_json() == read.to_json()
    for sent in (message for messages in data["messages"].values() for message in messages):
        read = parse_message(sent)
        assert not isinstance(read, OtherMessage)
        check_dumps(read)
        assert read.model_dump(mode="json") == sent


def test_a_dump_takes_the_options_of_pydantic() -> None:
    record = ContainerRecord(container_id="c", created_at=1, updated_at=2)
    assert record.model_dump(exclude_unset=False, by_alias=False) == {
        "container_id": "c",
        "created_at": 1,
        "updated_at": 2,
        "config": None,
    }
    assert record.model_dump_json(include={"container_id"}) == '{"containerId":"c"}'
