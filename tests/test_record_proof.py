"""What cannot be given back exactly is refused, however it came into a record."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import TypeAdapter

from agentx_persistence import (
    AssistantMessage,
    ContainerRecord,
    ContentOutput,
    ImageMetadata,
    ImageRecord,
    InvalidRecordError,
    JsonOutput,
    MessageRecord,
    TextPart,
    ToolResultMessage,
    ToolResultPart,
    Usage,
    UserMessage,
    parse_message,
)
from agentx_persistence.records import MESSAGES
from tests.contract.hostile import nested


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


@pytest.mark.parametrize("value", ["text", 1, {"type": "text", "text": "a"}, JsonOutput(value=1)])
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


class _AnyThinking(ImageRecord):
    thinking: Any = None  # type: ignore[assignment]


class _AnyId(ImageRecord, ids=()):
    image_id: Any = None


class _AnyContent(UserMessage):
    content: Any  # type: ignore[assignment]


class _Named(UserMessage):
    """A class of the caller's own, which the package reads back as a `UserMessage`."""

    mood: str = "calm"
    shoe_size: int


class _OtherRole(UserMessage):
    role: Any = "owner"


class _Custom(MessageRecord):
    role: str
    subtype: str


@pytest.mark.parametrize(
    ("record", "field"),
    [
        (_AnyThinking(container_id="c", thinking=5), "thinking"),
        (_AnyId(container_id="c", image_id="a\n"), "image_id"),
        (_AnyId(container_id="c", image_id=None), "image_id"),
        (_AnyContent(content=5), "content"),
        (_AnyContent(content=None), "content"),
        (_OtherRole(content="x"), "role"),
        (MessageRecord(), "subtype"),
        (MessageRecord.model_validate_json('{"id":"m1","role":"user","content":"hi"}'), "subtype"),
        (MessageRecord.model_validate(parse_message('{"role":"user","subtype":"x"}')), "subtype"),
        (_Custom(role="user", subtype="mine"), "timestamp"),
    ],
)
def test_what_the_class_that_reads_it_refuses_is_refused(record: Any, field: str) -> None:
    assert type(record).model_validate_json(record.model_dump_json())  # its own class takes it
    with pytest.raises(InvalidRecordError) as raised:
        record.to_json()
    assert raised.value.field == field


def test_a_class_of_the_callers_own_is_accepted_if_the_package_reads_it_back() -> None:
    record = _Named(content="x", shoe_size=43, color="red")  # type: ignore[call-arg]
    (read,) = MESSAGES.validate_json(f"[{record.to_json()}]")
    assert type(read) is UserMessage
    assert read.model_extra == {"shoeSize": 43, "color": "red"}
    assert read.to_json() == record.to_json()


def test_a_copy_takes_both_spellings_and_what_a_new_record_takes() -> None:
    record = ImageRecord(container_id="c", system_prompt="a")
    copy = record.model_copy(
        update={"systemPrompt": "b", "metadata": {"driverSessionId": "d"}, "more": 1}
    )
    assert copy.system_prompt == "b"
    assert copy.metadata == ImageMetadata(driver_session_id="d")
    assert copy.model_extra == {"more": 1}
    assert ImageRecord.model_validate_json(copy.to_json()) == copy
    assert record.system_prompt == "a"


def test_a_copy_has_no_other_fields_than_the_record() -> None:
    text = (
        '{"imageId":"i","containerId":"c","sessionId":"s","name":null,"createdAt":1,"updatedAt":1}'
    )
    record = ImageRecord.model_validate_json(text)
    assert record.model_copy(update={"name": "n"}).to_json() == text.replace("null", '"n"')
    assert record.model_copy(deep=True).to_json() == text
