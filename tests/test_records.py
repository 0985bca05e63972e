from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic.alias_generators import to_camel

from agentx_persistence import (
    AssistantMessage,
    ContainerRecord,
    ErrorMessage,
    ImageRecord,
    InvalidRecordError,
    SessionRecord,
    TextPart,
    ToolCallMessage,
    ToolResultMessage,
    UserMessage,
)
from agentx_persistence.records import Record
from agentx_persistence.records.messages import MESSAGES
from tests.contract.hostile import IDS, NOT_IDS

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


def test_assigning_a_field_is_an_error_that_names_model_copy() -> None:
    record = ContainerRecord()
    for name in ("config", "unknown"):
        with pytest.raises(InvalidRecordError, match="model_copy") as raised:
            setattr(record, name, {})
        assert raised.value.field == name
    assert record.config is None


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
        (ImageRecord, {"container_id": "c", "thinking": 5}, "thinking"),
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
        (UserMessage, {"content": [{"type": "text", "text": {1}}]}, "content.0.text"),
        (UserMessage, {"content": [{"type": "x", "y": {1}}]}, "content.0.y"),
        (UserMessage, {"content": [{"type": 5}]}, "content.0.type"),
        (AssistantMessage, {"content": "x", "usage": {"inputTokens": 1.5}}, "usage.input_tokens"),
        (ToolCallMessage, {"tool_call": {"id": "t", "name": "n"}}, "tool_call.input"),
        (ToolCallMessage, {"tool_call": {"id": "t", "name": "n", "input": {1}}}, "tool_call.input"),
        (TextPart, {"txt": "x"}, "text"),
        (SessionRecord, {"title": 5}, "title"),
        (SessionRecord, {"metadata": []}, "metadata"),
        (SessionRecord, {"forked_from": {"messageId": "m"}}, "forked_from.session_id"),
        (
            ToolResultMessage,
            {
                "tool_call_id": "t",
                "tool_result": {"id": "t", "name": "n", "output": {"type": "x", "value": {5}}},
            },
            "tool_result.output.value",
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
