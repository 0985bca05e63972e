"""Random contents, the hostile ones often: what is accepted comes back equal."""

from __future__ import annotations

import enum
import os
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentx_persistence import (
    AssistantMessage,
    ContainerRecord,
    ImageRecord,
    InvalidRecordError,
    JsonOutput,
    OtherMessage,
    Persistence,
    SessionRecord,
    ToolCallPart,
    ToolResultMessage,
    ToolResultPart,
    UserMessage,
)
from tests.backends.backend import Backend
from tests.contract import hostile
from tests.contract.records import image, message, saved_session

# The long form: AGENTX_TEST_FUZZ_EXAMPLES=2000.
_EXAMPLES = int(os.environ.get("AGENTX_TEST_FUZZ_EXAMPLES", "12"))
fuzzed = settings(
    max_examples=_EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
    print_blob=True,
)

# Each of these looks like another one, to somebody.
_KEYS = [
    *("", " ", "a", "A", "a ", "á", "a\u0301", "a\x00", "a\x00b", "\ufeffa", "a\u200b", "ａ", "🙂"),
    *("1", "01", "1.0", "-0", "null", "true", "$ref", "$id", "a.b", "a..b", "__proto__", "%s", "?"),
    *(
        "imageId",
        "image_id",
        "image__id",
        "ImageId",
        "\\u0061",
        '"',
        "'",
        "\\",
        "/",
        "\n",
        "\u2028",
    ),
]
_STRINGS = [value for value in hostile.CONTENTS.values() if isinstance(value, str)]
_NUMBERS = [
    *(0, -0.0, 0.0, 1, 1.0, 2**53 + 1, 2**63, -(2**63) - 1, 2**64, 10**400, hostile.LEAST),
    *(
        5e-324,
        2.2250738585072014e-308,
        1.7976931348623157e308,
        1e16,
        1e22,
        0.1,
        1e-7,
        123456789.125,
    ),
]
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.sampled_from(_STRINGS)
keys = st.sampled_from(_KEYS) | st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
numbers = (
    st.sampled_from(_NUMBERS)
    | st.integers()
    | st.integers(-(10**60), 10**60)
    | st.floats(allow_nan=False, allow_infinity=False)
)


def _nested(value: Any, levels: int) -> Any:
    for level in range(levels):
        value = {"level": value} if level % 2 else [value]
    return value


flat = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=6),
    max_leaves=25,
)
values = flat | st.builds(_nested, flat, st.integers(1, hostile.DEEPEST - 40))
maps = st.dictionaries(keys, values, max_size=6)


@given(content=values, as_map=maps, text=texts)
@fuzzed
def _check(
    persistence: Persistence, done: Counter[str], content: Any, as_map: Any, text: str
) -> None:
    """Put the contents wherever they fit; compare what comes back by every way."""
    records: list[Any] = [
        ContainerRecord(container_id="id", config=as_map, extra=content),
        ImageRecord(
            image_id="id",
            container_id="id",
            name=text[:500],
            description=text,
            mcp_servers=as_map,
            custom_data=as_map,
            metadata={"extra": content},
            extra=content,
        ),
        SessionRecord(session_id="id", image_id="id", container_id="id", extra=content),
    ]
    repositories = (persistence.containers, persistence.images, persistence.sessions)
    for repository, record in zip(repositories, records, strict=True):
        repository.save(record)
        for found in (repository.get("id"), *repository.find_all(), *repository.find_page().items):
            assert found.to_json() == record.to_json()
            assert found == record
    assert persistence.images.find_all(name=text[:500]) == [records[1]]
    messages = [
        UserMessage(content=text, extra=content),
        AssistantMessage(content=[ToolCallPart(id=text, name=text, input=as_map)]),
        ToolResultMessage(
            tool_call_id=text,
            tool_result=ToolResultPart(id="t", name="n", output=JsonOutput(value=content)),
        ),
        OtherMessage(role="oracle", subtype="not-known-yet", body=content),
    ]
    sessions = persistence.sessions
    sessions.clear_messages("id")
    assert sessions.add_messages("id", messages) == [1, 2, 3, 4]
    for sent, got in zip(messages, sessions.get_messages("id"), strict=True):
        assert got.to_json() == sent.to_json()
    assert list(sessions.iter_messages("id")) == messages
    assert sessions.add_message("id", messages[2]) == 3
    done["contents"] += 1


def test_random_contents_come_back_equal(
    backend: Backend, persistence: Persistence, report: Callable[[str], None]
) -> None:
    done: Counter[str] = Counter()
    _check(persistence, done)
    report(
        f"contents, {backend.name}: {done['contents']:,} examples, each in 3 records, 4 messages"
    )


class _Number(enum.IntEnum):
    ONE = 1


class _Text(str):
    __slots__ = ()


_almost = st.one_of(
    flat,
    st.integers(4295, 4305).map(lambda digits: 10**digits),
    st.floats(),
    st.binary(max_size=3),
    st.text(st.characters(), max_size=4),
    st.sampled_from(
        [_Number.ONE, _Text("x"), Decimal("1.10"), (1, 2), {1}, 1j, object(), "\ud800"]
    ),
)
almost_values = st.recursive(
    _almost,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(keys | st.integers() | st.none() | st.booleans(), inner, max_size=3)
        | st.tuples(inner)
    ),
    max_leaves=5,
)


def test_what_is_accepted_comes_back_and_what_is_refused_leaves_nothing(
    backend: Backend, persistence: Persistence, report: Callable[[str], None]
) -> None:
    done: Counter[str] = Counter()
    saved_session(persistence)

    @given(content=almost_values)
    @fuzzed
    def check(content: Any) -> None:
        persistence.images.delete("id")
        persistence.sessions.clear_messages("session")
        try:
            record = image("id", custom_data={"here": content})
            sent = message(extra=content)
            persistence.images.save(record)
            persistence.sessions.add_message("session", sent)
        except InvalidRecordError:
            done["refused"] += 1
            assert not persistence.images.exists("id")
            assert persistence.sessions.count_messages("session") == 0
        else:
            done["accepted"] += 1
            assert persistence.images.get("id") == record
            assert persistence.images.get("id").custom_data == {"here": content}
            assert persistence.sessions.get_messages("session") == [sent]

    check()
    report(f"values, {backend.name}: {done['accepted']:,} accepted, {done['refused']:,} refused")


def test_a_random_id_is_refused_or_is_exactly_that_id(
    backend: Backend, persistence: Persistence, report: Callable[[str], None]
) -> None:
    done: Counter[str] = Counter()
    persistence.images.save(image("innocent", container_id="innocent", created_at=0))

    @given(id=st.text(max_size=20) | st.text(min_size=240, max_size=260) | st.sampled_from(_KEYS))
    @fuzzed
    def check(id: str) -> None:
        try:
            record = image(id, container_id=id, name=id)
        except InvalidRecordError:
            done["refused"] += 1
            return
        done["accepted"] += 1
        images = persistence.images
        images.save(record)
        assert images.get(id) == record
        assert images.find_all(container_id=id, name=id) == images.find_all(name=id) == [record]
        assert images.find_page(size=1).items == [record]
        assert persistence.sessions.find_by_image(id) is None
        if id != "innocent":
            assert images.delete(id) is True
            assert images.exists("innocent")

    check()
    report(f"ids, {backend.name}: {done['accepted']:,} accepted, {done['refused']:,} refused")
