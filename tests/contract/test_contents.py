from __future__ import annotations

from typing import Any

import pytest

from agentx_persistence import (
    AssistantMessage,
    ContainerRecord,
    ErrorMessage,
    ExecutionDeniedOutput,
    FilePart,
    ImagePart,
    ImageRecord,
    InvalidRecordError,
    JsonOutput,
    OtherMessage,
    Persistence,
    SessionRecord,
    TextOutput,
    TextPart,
    ThinkingPart,
    ToolCallMessage,
    ToolCallPart,
    ToolResultMessage,
    ToolResultPart,
    Usage,
    UserMessage,
)
from tests.contract import hostile
from tests.contract.records import image, message, saved_session, session


@pytest.mark.parametrize("content", hostile.CONTENTS.values(), ids=hostile.CONTENTS)
def test_what_goes_in_comes_out_in_a_record(persistence: Persistence, content: Any) -> None:
    as_map = content if isinstance(content, dict) else {"": content}
    as_text = content if isinstance(content, str) else "a\x00b"
    record = ImageRecord(
        image_id="i",
        container_id="c",
        description=as_text,
        system_prompt=as_text,
        model=as_text,
        mcp_servers=as_map,
        provider_options=as_map,
        custom_data=as_map,
        metadata={"extra": content, "driverSessionId": as_text},
        unknown=content,
        **{"a.b": content, "": content, "$ref": content},
    )
    persistence.images.save(record)
    assert persistence.images.get("i").to_json() == record.to_json()
    (listed,) = persistence.images.find_all(container_id="c")
    assert listed.to_json() == record.to_json()
    for other in (
        ContainerRecord(container_id="c", config=as_map, extra=content),
        ContainerRecord(container_id="c", config=None),
    ):
        persistence.containers.save(other)
        assert persistence.containers.get("c").to_json() == other.to_json()
    with_extra = session("s", extra=content, newest=content, message_count=content)
    persistence.sessions.save(with_extra)
    assert persistence.sessions.get("s").to_json() == with_extra.to_json()


@pytest.mark.parametrize("content", hostile.CONTENTS.values(), ids=hostile.CONTENTS)
def test_what_goes_in_comes_out_in_a_message(persistence: Persistence, content: Any) -> None:
    text = content if isinstance(content, str) else "a\x00b"
    tool_input = content if isinstance(content, dict) else {"": content}
    messages = [
        UserMessage(content=text, unknown=content),
        UserMessage(
            content=[
                TextPart(text=text, **{"$ref": content}),
                ImagePart(data=text, media_type="image/png", name=text),
                FilePart(data="", media_type="x/y", filename=None),
                {"type": "not known yet", "x": content},
            ]
        ),
        AssistantMessage(
            content=[
                ThinkingPart(reasoning=text, token_count=2**70),
                ToolCallPart(id="t", name="n", input=tool_input),
            ],
            usage=Usage(input_tokens=0, cached=content),
            parent_id="p",
        ),
        ToolCallMessage(tool_call=ToolCallPart(id="t", name="n", input=tool_input)),
        ToolResultMessage(
            tool_call_id="t",
            tool_result=ToolResultPart(id="t", name="n", output=JsonOutput(value=content)),
        ),
        ToolResultMessage(
            tool_call_id="t",
            tool_result=ToolResultPart(id="t", name="n", output={"type": "new", "value": content}),
        ),
        ErrorMessage(content=text, error_code=text),
        OtherMessage(role="oracle", subtype="not-known-yet", body=content),
    ]
    persistence.sessions.add_messages(saved_session(persistence), messages)
    got = persistence.sessions.get_messages("session")
    assert [m.to_json() for m in got] == [m.to_json() for m in messages]
    assert got == messages
    assert list(persistence.sessions.iter_messages("session")) == messages
    for position, sent in enumerate(messages, 1):
        assert persistence.sessions.add_message("session", sent) == position


def test_an_absent_reason_stays_absent_and_a_null_value_stays_null(
    persistence: Persistence,
) -> None:
    outputs = [
        ExecutionDeniedOutput(),
        ExecutionDeniedOutput(reason=None),
        JsonOutput(value=None),
        TextOutput(value=""),
    ]
    wires = [
        '{"type":"execution-denied"}',
        '{"type":"execution-denied","reason":null}',
        '{"type":"json","value":null}',
        '{"type":"text","value":""}',
    ]
    saved_session(persistence)
    for output in outputs:
        result = ToolResultPart(id="t", name="n", output=output)
        persistence.sessions.add_message(
            "session", ToolResultMessage(tool_call_id="t", tool_result=result)
        )
    for got, wire in zip(persistence.sessions.get_messages("session"), wires, strict=True):
        assert isinstance(got, ToolResultMessage)
        assert f'"output":{wire}' in got.to_json()


def test_megabytes_of_text_come_back(persistence: Persistence) -> None:
    long = message("é🙂\x00\n" * 400_000)
    saved_session(persistence)
    persistence.sessions.add_message("session", long)
    assert persistence.sessions.get_messages("session") == [long]
    prompt = image("i", system_prompt="x" * 3_000_000)
    persistence.images.save(prompt)
    assert persistence.images.get("i") == prompt


@pytest.mark.parametrize(
    "wrong",
    [float("nan"), float("inf"), "\ud800", b"x", {1}, (1,), {1: 2}, 10**4300, object()],
    ids=["nan", "inf", "surrogate", "bytes", "set", "tuple", "number key", "integer", "object"],
)
def test_what_cannot_come_back_is_refused_and_named(persistence: Persistence, wrong: Any) -> None:
    saved_session(persistence)
    for make in (
        lambda: persistence.containers.save(
            ContainerRecord(container_id="c", config={"deep": [{"here": wrong}]})
        ),
        lambda: persistence.sessions.add_message("session", message(config=wrong)),
    ):
        with pytest.raises(InvalidRecordError, match="config"):
            make()
    sneaked = ContainerRecord(container_id="c", config={"deep": [0]})
    assert sneaked.config is not None
    sneaked.config["deep"][0] = wrong
    with pytest.raises(InvalidRecordError, match="config"):
        persistence.containers.save(sneaked)
    assert persistence.containers.find_all() == []
    assert persistence.sessions.count_messages("session") == 0


def test_nesting_deeper_than_can_be_read_is_refused(persistence: Persistence) -> None:
    deep: Any = 0
    for _ in range(300):
        deep = [deep]
    loop: list[Any] = []
    loop.append(loop)
    for wrong in (deep, loop):
        with pytest.raises(InvalidRecordError):
            SessionRecord(image_id="i", container_id="c", deep=wrong)
    assert persistence.sessions.find_all() == []
