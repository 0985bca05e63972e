from __future__ import annotations

import json
import math
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from pydantic.alias_generators import to_camel

from agentx_persistence import (
    AssistantMessage,
    ContainerRecord,
    ContentOutput,
    ErrorMessage,
    ImageMetadata,
    ImageRecord,
    InvalidRecordError,
    SessionRecord,
    TextPart,
    ToolCallMessage,
    ToolCallPart,
    ToolResultMessage,
    ToolResultPart,
    Usage,
    UserMessage,
)
from agentx_persistence.records.messages import MESSAGES
from agentx_persistence.records import Record
from tests.contract.hostile import IDS, NOT_IDS, nested

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**40), 10**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def test_a_new_record_has_ids_and_times() -> None:
    container = ContainerRecord()
    image = ImageRecord(container_id=container.container_id)
    session = SessionRecord(image_id=image.image_id, container_id=container.container_id)
    message = UserMessage(content="hello")
    assert container.container_id.startswith("ctr_")
    assert image.image_id.startswith("img_")
    assert image.session_id.startswith("sess_")
    assert session.session_id.startswith("sess_")
    assert message.id.startswith("msg_")
    assert ContainerRecord().container_id != container.container_id
    for time in (container.created_at, image.updated_at, session.created_at, message.timestamp):
        assert 1_700_000_000_000 < time < 4_000_000_000_000


def test_the_wire_form_is_camel_case_in_declared_order_then_what_is_unknown() -> None:
    image = ImageRecord(
        zebra=1,
        image_id="i",
        system_prompt="p",
        container_id="c",
        session_id="s",
        created_at=1,
        updated_at=2,
        a_snake=2,
    )
    assert image.to_json() == (
        '{"imageId":"i","containerId":"c","sessionId":"s","systemPrompt":"p",'
        '"createdAt":1,"updatedAt":2,"zebra":1,"a_snake":2}'
    )


def test_both_spellings_are_accepted() -> None:
    snake = ImageRecord.model_validate({"image_id": "i", "container_id": "c", "session_id": "s"})
    camel = ImageRecord.model_validate({"imageId": "i", "containerId": "c", "sessionId": "s"})
    assert (snake.image_id, snake.container_id) == (camel.image_id, camel.container_id)
    assert camel.model_extra == {}
    text = '{"image_id":"i","containerId":"c"}'
    assert ImageRecord.model_validate_json(text).image_id == "i"


def test_a_record_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        ContainerRecord().config = {}  # type: ignore[misc]


@given(values=st.dictionaries(st.text(), json_values))
def test_any_json_comes_back_equal(values: dict[str, Any]) -> None:
    record = ContainerRecord(config=values, note=values)
    text = record.to_json()
    again = ContainerRecord.model_validate_json(text)
    assert again == record
    assert again.to_json() == text
    assert list(again.config or {}) == list(values)


@given(bits=st.integers(0, 2**64 - 1))
def test_floats_come_back_bit_for_bit(bits: int) -> None:
    (number,) = struct.unpack("<d", bits.to_bytes(8, "little"))
    if number != number or number in (float("inf"), float("-inf")):
        with pytest.raises(InvalidRecordError, match="number"):
            ContainerRecord(number=number)
        return
    again = ContainerRecord.model_validate_json(ContainerRecord(number=number).to_json())
    assert struct.pack("<d", (again.model_extra or {})["number"]) == struct.pack("<d", number)


@pytest.mark.parametrize("id", IDS, ids=ascii)
def test_a_legal_id_stays_exact(id: str) -> None:
    record = SessionRecord(session_id=id, image_id=id, container_id=id)
    assert SessionRecord.model_validate_json(record.to_json()).session_id == id


@pytest.mark.parametrize("id", NOT_IDS, ids=ascii)
def test_an_illegal_id_is_refused_in_python_and_in_json(id: Any) -> None:
    with pytest.raises(InvalidRecordError, match="image_id"):
        SessionRecord(image_id=id, container_id="c")
    if not isinstance(id, bytes):
        wire = json.dumps({"imageId": id, "containerId": "c"})
        with pytest.raises(InvalidRecordError):
            SessionRecord.model_validate_json(wire)


@pytest.mark.parametrize("record", [ContainerRecord, ImageRecord, SessionRecord, UserMessage])
def test_every_id_in_json_is_looked_at_wholly(record: type[Record]) -> None:
    whole = {"imageId": "i", "containerId": "c", "content": "x"}
    fields = [name for name in record.model_fields if name == "id" or name.endswith("_id")]
    assert fields
    for field in fields:
        wire = json.dumps({**whole, to_camel(field): "control\ncharacter"})
        with pytest.raises(InvalidRecordError) as raised:
            record.model_validate_json(wire)
        assert raised.value.field == field


@pytest.mark.parametrize(
    ("record", "fields", "named"),
    [
        (ImageRecord, {}, "container_id"),
        (ImageRecord, {"container_id": "c", "name": "x" * 501}, "name"),
        (ImageRecord, {"container_id": "c", "name": 5}, "name"),
        (ImageRecord, {"container_id": "c", "thinking": "extreme"}, "thinking"),
        (ImageRecord, {"container_id": "c", "created_at": "1"}, "created_at"),
        (ImageRecord, {"container_id": "c", "created_at": 1.0}, "created_at"),
        (ImageRecord, {"container_id": "c", "created_at": True}, "created_at"),
        (ImageRecord, {"container_id": "c", "created_at": 2**53}, "created_at"),
        (ImageRecord, {"container_id": "c", "mcp_servers": []}, "mcp_servers"),
        (ImageRecord, {"container_id": "c", "metadata": "x"}, "metadata"),
        (ImageRecord, {"container_id": "c", "metadata": {"driverSessionId": 1}}, "metadata.driver"),
        (ImageRecord, {"container_id": "c", "system_prompt": b"x"}, "system_prompt"),
        (UserMessage, {}, "content"),
        (UserMessage, {"content": None}, "content"),
        (UserMessage, {"content": ("x",)}, "content"),
        (UserMessage, {"content": "x", "role": "assistant"}, "role"),
        (UserMessage, {"content": [{"type": "image"}]}, "content.0.image.data"),
        (UserMessage, {"content": [{"type": "thinking", "reasoning": "x"}]}, "content.0"),
        (UserMessage, {"content": [{"text": "x"}]}, "content.0"),
        (
            AssistantMessage,
            {"content": [{"type": "image", "data": "", "mediaType": ""}]},
            "content",
        ),
        (AssistantMessage, {"content": "x", "usage": {"inputTokens": 1.5}}, "usage.input_tokens"),
        (ToolCallMessage, {"tool_call": {"id": "t", "name": "n"}}, "tool_call.input"),
        (ToolCallMessage, {"tool_call": {"id": "t", "name": "n", "input": []}}, "tool_call.input"),
        (
            ToolResultMessage,
            {
                "tool_call_id": "t",
                "tool_result": {"id": "t", "name": "n", "output": {"type": "text", "value": 5}},
            },
            "tool_result.output",
        ),
        (ErrorMessage, {"content": "x", "error_code": 5}, "error_code"),
    ],
)
def test_a_wrong_field_is_refused_and_named(
    record: Any, fields: dict[str, Any], named: str
) -> None:
    with pytest.raises(InvalidRecordError) as raised:
        record(**fields)
    assert raised.value.field.startswith(named)
    with pytest.raises(InvalidRecordError):
        record.model_validate(fields)


def test_an_error_does_not_show_the_content() -> None:
    with pytest.raises(InvalidRecordError) as raised:
        ImageRecord(container_id="c", system_prompt=["confidential"])
    assert "confidential" not in str(raised.value)
    assert "confidential" not in str(raised.value.__cause__)


def test_a_message_that_fits_its_subtype_badly_is_not_taken_for_an_unknown_one() -> None:
    with pytest.raises(ValueError, match="content"):
        MESSAGES.validate_json('[{"id":"m","role":"user","subtype":"user","content":5}]')


def test_the_type_of_a_part_need_not_be_given() -> None:
    message = UserMessage(id="m", timestamp=1, content=[TextPart(text="x")])
    assert message.to_json() == (
        '{"id":"m","role":"user","subtype":"user",'
        '"content":[{"type":"text","text":"x"}],"timestamp":1}'
    )


def test_what_is_torn_or_no_json_is_refused() -> None:
    for text in ("", "{", "[]", "null", '{"content":"x"', b"\xff", '{"content":"\\ud800"}'):
        with pytest.raises(InvalidRecordError):
            UserMessage.model_validate_json(text)
    for text in ('{"content":"x","n":NaN}', '{"content":"x","n":1e999}'):
        with pytest.raises(InvalidRecordError):
            UserMessage.model_validate_json(text)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "x" * 501),
        ("container_id", " "),
        ("custom_data", {"a": (1, 2)}),
        ("created_at", 1.5),
        ("description", "\ud800"),
    ],
)
def test_a_copy_with_a_wrong_change_is_refused_and_named(field: str, value: Any) -> None:
    record = ImageRecord(container_id="box")
    with pytest.raises(InvalidRecordError) as raised:
        record.model_copy(update={field: value})
    assert raised.value.field == field


def test_a_record_constructed_without_validation_is_checked_all_the_same() -> None:
    with pytest.raises(InvalidRecordError):
        ImageRecord.model_construct(image_id="image")


def test_an_illegal_id_that_came_as_json_past_the_model_is_refused_on_the_way_out() -> None:
    record = TypeAdapter(ImageRecord).validate_json('{"containerId":" "}')
    with pytest.raises(InvalidRecordError) as raised:
        record.to_json()
    assert raised.value.field == "container_id"


@pytest.mark.parametrize(
    "value",
    [
        1.5,
        -(2**63),
        2**63,
        "é",
        [{"a": [1, True, None]}],
        [[[[[["deep"]]]]]],
        list(range(100)),
        {str(n): n for n in range(100)},
    ],
)
def test_what_was_changed_inside_into_other_json_is_written(value: Any) -> None:
    record = ImageRecord(container_id="box", custom_data={}, metadata=ImageMetadata())
    assert record.custom_data is not None
    record.custom_data["a"] = value
    assert ImageRecord.model_validate_json(record.to_json()) == record


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        pytest.param(10**4301, id="4301 digits"),
        "\ud800",
        b"a",
        (1,),
        {1},
        {1: 2},
        {"\ud800": 1},
        TextPart(text="a"),
        [[[[[[math.nan]]]]]],
        [*range(100), math.nan],
        pytest.param(nested(300), id="300 levels"),
    ],
)
def test_what_was_changed_inside_into_no_json_is_refused(value: Any) -> None:
    record = ImageRecord(container_id="box", custom_data={})
    assert record.custom_data is not None
    for changed in (value, {"b": value}, [value]):
        record.custom_data["a"] = changed
        with pytest.raises(InvalidRecordError):
            record.to_json()


def test_an_unknown_key_that_becomes_the_one_of_a_field_is_refused() -> None:
    record = ImageRecord(container_id="box", name="a", more=1)
    assert record.__pydantic_extra__ is not None
    record.__pydantic_extra__["name"] = "b"
    with pytest.raises(InvalidRecordError):
        record.to_json()


@pytest.mark.parametrize(
    "value", ["text", 1, {"type": "text", "text": "a"}, ToolCallPart(id="a", name="b", input={})]
)
def test_a_part_that_was_replaced_by_none_is_refused(value: Any) -> None:
    content = UserMessage(content=[TextPart(text="a")])
    output = ContentOutput(value=[TextPart(text="a")])
    result = ToolResultPart(id="a", name="b", output=output)
    assert isinstance(content.content, list)
    content.content[0] = output.value[0] = value
    for record in (content, ToolResultMessage(tool_call_id="a", tool_result=result)):
        with pytest.raises(InvalidRecordError):
            record.to_json()


def test_a_lone_surrogate_that_became_a_key_is_refused() -> None:
    record = ContainerRecord(config={})
    assert record.config is not None
    record.config["\ud800"] = 1
    with pytest.raises(InvalidRecordError):
        record.to_json()


def test_a_count_that_could_not_be_read_back_is_refused() -> None:
    large = AssistantMessage(content="a", usage=Usage(input_tokens=2**64))
    assert MESSAGES.validate_json(f"[{large.to_json()}]") == [large]
    with pytest.raises(InvalidRecordError):
        AssistantMessage(content="a", usage=Usage(input_tokens=10**4300)).to_json()


def test_what_a_class_of_the_callers_own_holds_is_proven() -> None:
    class Numbered(ContainerRecord):
        numbers: list[int]

    record = Numbered(numbers=[1])
    assert Numbered.model_validate_json(record.to_json()) == record
    record.numbers.append("2")  # type: ignore[arg-type]
    with pytest.raises(InvalidRecordError):
        record.to_json()


def test_a_part_of_a_class_of_the_callers_own_becomes_the_declared_one() -> None:
    class Own(ImageMetadata):
        more: int = 1

    record = ImageRecord(container_id="box", metadata=Own(more=2))
    assert type(record.metadata) is ImageMetadata
    assert record.metadata.more == 2  # type: ignore[attr-defined]
    assert ImageRecord.model_validate_json(record.to_json()) == record
