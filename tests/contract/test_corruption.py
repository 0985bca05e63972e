from __future__ import annotations

import importlib
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentx_persistence import CorruptRecordError, Persistence
from tests.backends.backend import Backend
from tests.contract.records import container, image, message, saved_session

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
