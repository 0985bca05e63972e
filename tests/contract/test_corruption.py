from __future__ import annotations

import importlib
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentx_persistence import CorruptRecordError, Persistence, RecordConflictError
from agentx_persistence.storage.kinds import SEPARATOR, item_key
from tests.backends.backend import Backend
from tests.contract.records import container, image, item, message, saved_session, session

RAW = [
    b"",
    b" ",
    b"{",
    b'{"imageId":"i","contai',
    b'"text"',
    b"null",
    b"[]",
    b"[{}]",
    b"1",
    b"{}}",
    b"}{",
    b'{"a":1},{"a":2}',
    b"\xff\xfe{}",
    b'{"a":"\xff"}',
    b'{"a":"\xed\xa0\x80"}',
    '{"a":1}'.encode("utf-16"),
    b"\x00",
    b'{"a":\x00}',
    b'{"a":"\n"}',
    b"\x80\x04pickle",
]


def _corrupt(backend: Backend, *arguments: Any) -> bool:
    module = importlib.import_module(f"tests.backends.{backend.name}")
    corrupted: bool = module.corrupt(backend, *arguments)
    return corrupted


@pytest.mark.parametrize("raw", RAW, ids=ascii)
def test_a_damaged_message_is_named_and_left_alone(
    backend: Backend, persistence: Persistence, raw: bytes
) -> None:
    saved_session(persistence)
    messages = [message("before", id="m1"), message("damaged", id="m2"), message("after", id="m3")]
    persistence.sessions.add_messages("session", messages)
    if not _corrupt(backend, persistence, "sessions", "session", 2, raw):
        return
    sessions = persistence.sessions
    for read in (
        lambda: sessions.get_messages("session"),
        lambda: sessions.get_messages("session", last=2),
        lambda: list(sessions.iter_messages("session")),
    ):
        with pytest.raises(CorruptRecordError) as raised:
            read()
        assert raised.value.kind == "message"
        assert raised.value.id
        assert raised.value.where
    assert sessions.get_messages("session", last=1) == [messages[2]]
    assert sessions.add_message("session", message("next", id="m4")) == 4
    with pytest.raises(CorruptRecordError):
        sessions.get_messages("session")
    assert [m.id for m in sessions.get_messages("session", last=2)] == ["m3", "m4"]


@pytest.mark.parametrize("raw", RAW, ids=ascii)
def test_a_damaged_record_is_named_and_left_alone(
    backend: Backend, persistence: Persistence, raw: bytes
) -> None:
    persistence.images.save(image("whole", created_at=1))
    persistence.images.save(image("damaged", created_at=2))
    persistence.images.save(image("damaged alike", created_at=0))
    if not _corrupt(backend, persistence, "images", "damaged", None, raw):
        return
    _corrupt(backend, persistence, "images", "damaged alike", None, raw)
    images = persistence.images
    for read in (
        lambda: images.get("damaged"),
        lambda: images.find("damaged"),
        lambda: images.find_all(),
        lambda: images.find_page(container_id="box"),
        lambda: images.update_metadata("damaged", {"a": 1}),
    ):
        with pytest.raises(CorruptRecordError) as raised:
            read()
        assert (raised.value.kind, raised.value.id) == ("image", "damaged")
        assert raised.value.where
    for alike in (
        lambda: images.get("damaged alike"),
        lambda: images.update_metadata("damaged alike", {"a": 1}),
    ):
        with pytest.raises(CorruptRecordError) as raised:
            alike()
        assert raised.value.id == "damaged alike"
    assert images.get("whole").image_id == "whole"
    assert images.exists("damaged")
    with pytest.raises(CorruptRecordError):
        images.get("damaged")
    images.save(image("damaged", created_at=3))
    images.save(image("damaged alike", created_at=0))
    assert [i.image_id for i in images.find_all()] == ["damaged", "whole", "damaged alike"]


@pytest.mark.parametrize("raw", [b"", b"{", b"[{}]", b'{"a":1}', b'{"a":"\xff"}'], ids=ascii)
def test_a_damaged_message_is_reported_by_every_verb_that_reads_it(
    backend: Backend, persistence: Persistence, raw: bytes
) -> None:
    sessions = persistence.sessions
    sent = [message("whole", id="m1"), message("damaged", id="m2"), message("damaged", id="m3")]
    sessions.add_messages(saved_session(persistence), sent)
    if not _corrupt(backend, persistence, "sessions", "session", 2, raw):
        return
    _corrupt(backend, persistence, "sessions", "session", 3, raw)
    for read in (
        lambda: sessions.get_message("session", "m2"),
        lambda: sessions.find_message("session", "m2"),
        lambda: sessions.add_message("session", sent[1]),
        lambda: sessions.add_messages("session", [sent[0], sent[1]], expected=3),
        lambda: sessions.rewrite("session", after="m1"),
        lambda: sessions.rewrite("session", after=None, messages=[message()]),
        lambda: sessions.pop_message("session"),
        lambda: sessions.summaries(["session"]),
        lambda: list(sessions.iter_messages("session", reverse=True)),
        lambda: list(sessions.iter_messages("session", after="m1")),
    ):
        with pytest.raises(CorruptRecordError) as raised:
            read()
        assert raised.value.kind == "message"
        assert raised.value.id
        assert raised.value.where
    assert sessions.count_messages("session") == 3
    assert sessions.get_message("session", "m1") == sent[0]
    # A copy is as damaged as its original, and no less readable.
    assert sessions.fork("session", session("fork")) == 3
    assert sessions.get_messages("fork", first=1) == [sent[0]]
    with pytest.raises(CorruptRecordError):
        sessions.get_messages("fork")
    # What reads no message can put an end to it.
    sessions.replace_message("session", message("again", id="m2"))
    assert [m.content for m in sessions.get_messages("session", first=2)] == ["whole", "again"]  # type: ignore[union-attr]
    assert sessions.truncate_after("session", "m2") == 1
    assert [m.id for m in sessions.get_messages("session")] == ["m1", "m2"]


def test_a_damaged_record_is_reported_by_every_verb_that_reads_it(
    backend: Backend, persistence: Persistence
) -> None:
    images = persistence.images
    images.save(image("damaged", created_at=1))
    images.save(image("whole", created_at=2))
    if not _corrupt(backend, persistence, "images", "damaged", None, b'{"imageId":'):
        return
    for read in (
        lambda: images.update("damaged", {"name": "new"}),
        lambda: images.update("damaged", lambda old: old),
        lambda: images.find_many(["whole", "damaged"]),
        lambda: images.find_all(order="oldest"),
        lambda: images.find_page(order="oldest", size=1),
    ):
        with pytest.raises(CorruptRecordError) as raised:
            read()
        assert (raised.value.kind, raised.value.id) == ("image", "damaged")
        assert raised.value.where
    assert list(images.find_many(["whole"])) == ["whole"]
    assert images.count(container_id="box") == 2
    assert [i.image_id for i in images.find_all(since=2)] == ["whole"]
    with pytest.raises(RecordConflictError):
        images.create(image("damaged"))
    with pytest.raises(CorruptRecordError):
        images.get("damaged")
    assert images.delete("damaged") is True
    images.create(image("damaged"))
    assert images.exists("damaged")


def test_a_damaged_item_is_named_and_left_alone(backend: Backend, persistence: Persistence) -> None:
    items, space = persistence.items, ("box", "state")
    for key in ("damaged", "whole"):
        items.save(item(space, key, created_at=len(key)))
    key = item_key("".join(element + SEPARATOR for element in space), "damaged")
    if not _corrupt(backend, persistence, "items", key, None, b'{"namespace":'):
        return
    for read in (
        lambda: items.get(space, "damaged"),
        lambda: items.find(space, "damaged"),
        lambda: items.find_many([(space, "whole"), (space, "damaged")]),
        lambda: items.find_all(namespace=space),
        lambda: items.find_page(namespace_prefix=("box",)),
        lambda: items.find_all(namespace=space, order="newest"),
        lambda: items.update(space, "damaged", {"value": 1}),
    ):
        with pytest.raises(CorruptRecordError) as raised:
            read()
        assert (raised.value.kind, raised.value.id) == ("item", "box/state/damaged")
        assert raised.value.where
    assert items.exists(space, "damaged")
    assert items.count(namespace=space) == 2
    assert items.get(space, "whole").key == "whole"
    assert items.find_all(namespace=space, order="oldest", limit=1)[0].key == "whole"
    assert items.delete(space, "damaged") is True
    assert [i.key for i in items.find_all(namespace=space)] == ["whole"]


def test_random_bytes_for_a_message_are_always_corrupt(
    backend: Backend, persistence: Persistence
) -> None:
    saved_session(persistence)
    persistence.sessions.add_messages("session", [message(), message(), message()])

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(raw=st.binary(max_size=40))
    def check(raw: bytes) -> None:
        if _corrupt(backend, persistence, "sessions", "session", 2, raw):
            with pytest.raises(CorruptRecordError):
                persistence.sessions.get_messages("session")

    check()


def test_a_damaged_record_can_be_deleted_with_what_it_owns(
    backend: Backend, persistence: Persistence
) -> None:
    persistence.containers.save(container())
    persistence.images.save(image("i"))
    saved_session(persistence)
    persistence.sessions.add_message("session", message())
    for kind, id in (("containers", "box"), ("images", "i"), ("sessions", "session")):
        assert _corrupt(backend, persistence, kind, id, None, b"{")
    assert persistence.containers.delete("box") is True
    assert persistence.images.find_all() == []
    assert persistence.sessions.find_all() == []


def test_a_session_that_is_not_even_text_keeps_its_messages(
    backend: Backend, persistence: Persistence
) -> None:
    sent = [message(id="m1"), message(id="m2"), message(id="m3")]
    persistence.sessions.add_messages(saved_session(persistence), sent[:2])
    if not _corrupt(backend, persistence, "sessions", "session", None, b'{"a":"\xff"}'):
        return
    sessions = persistence.sessions
    assert sessions.add_message("session", sent[2]) == 3
    assert sessions.truncate_after("session", "m2") == 1
    assert sessions.get_messages("session") == sent[:2]
    assert sessions.clear_messages("session") == 2
    with pytest.raises(CorruptRecordError):
        sessions.get("session")


def test_a_message_that_is_not_even_text_is_reported_when_it_is_added_again(
    backend: Backend, persistence: Persistence
) -> None:
    sent = message(id="m1")
    persistence.sessions.add_message(saved_session(persistence), sent)
    if not _corrupt(backend, persistence, "sessions", "session", 1, b'{"a":"\xff"}'):
        return
    with pytest.raises(CorruptRecordError):
        persistence.sessions.add_message("session", sent)
    with pytest.raises(CorruptRecordError):
        persistence.sessions.get_messages("session")
