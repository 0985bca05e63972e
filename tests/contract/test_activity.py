"""Sessions in the order of their last change."""

from __future__ import annotations

from typing import Any

import pytest

from agentx_persistence import InvalidRecordError, Persistence
from tests.contract.records import ids_of, message, session, walk


def test_a_session_that_got_a_message_is_first_in_the_order_of_activity(
    persistence: Persistence,
) -> None:
    sessions = persistence.sessions
    for number, id in enumerate(["s0", "s1", "s2", "s3"]):
        sessions.save(session(id, created_at=9 - number, updated_at=1000 * number))
    sessions.save(session("elsewhere", container_id="other", updated_at=10**12))

    def active(**asked: Any) -> str:
        return " ".join(ids_of(sessions.find_all(container_id="box", order="active", **asked)))

    assert active() == "s3 s2 s1 s0"
    sessions.add_message("s1", message())
    assert active() == "s1 s3 s2 s0"
    assert active(limit=2) == "s1 s3"
    assert ids_of(walk(sessions, 1, container_id="box", order="active")) == ["s1", "s3", "s2", "s0"]
    sessions.save(session("s1", created_at=8, updated_at=1))
    assert active() == "s3 s2 s0 s1"
    sessions.update("s0", {"updated_at": 99_000})
    assert active() == "s0 s3 s2 s1"
    assert ids_of(sessions.find_all(container_id="other", order="active")) == ["elsewhere"]
    assert sessions.find_all(container_id="absent", order="active") == []
    sessions.delete("s3")
    sessions.update("s2", {"container_id": "other"})
    assert active() == "s0 s1"


@pytest.mark.parametrize(
    "change",
    [
        lambda sessions: sessions.add_messages("s0", [message(), message()]),
        lambda sessions: sessions.rewrite("s0", after="m"),
        lambda sessions: sessions.pop_message("s0"),
        lambda sessions: sessions.replace_message("s0", message("other", id="m")),
        lambda sessions: sessions.truncate_after("s0", "m"),
        lambda sessions: sessions.clear_messages("s0"),
        lambda sessions: sessions.update("s0", {"title": "t"}),
    ],
    ids=["add", "rewrite", "pop", "replace", "truncate", "clear", "update"],
)
def test_each_change_counts_as_activity(persistence: Persistence, change: Any) -> None:
    sessions = persistence.sessions
    for id in ("s0", "s1"):
        sessions.save(session(id))
        sessions.add_messages(id, [message(id="m"), message()])
        sessions.save(session(id, created_at=1, updated_at=5_000))
    change(sessions)
    saved = sessions.get("s0")
    assert saved.updated_at > 5_000
    assert sessions.find_all(container_id="box", order="active") == [saved, sessions.get("s1")]
    assert sessions.find_all(container_id="box", order="active", since=6_000) == [saved]


def test_activity_is_exact_to_the_second_and_then_by_id(persistence: Persistence) -> None:
    for id, updated_at in {"a": 5_001, "b": 5_999, "c": 5_000, "d": 6_000, "e": -1}.items():
        persistence.sessions.save(session(id, updated_at=updated_at))

    def active(**asked: Any) -> str:
        return "".join(
            ids_of(persistence.sessions.find_all(container_id="box", order="active", **asked))
        )

    assert active() == "dabce"
    assert (
        "".join(ids_of(walk(persistence.sessions, 2, container_id="box", order="active")))
        == "dabce"
    )
    assert active(since=6_000) == "d"
    assert active(until=5_000) == "e"
    assert active(since=5_000, until=6_000) == "abc"
    assert active(since=0) == "dabc"
    assert active(since=-1000) == "dabce"


def test_activity_lists_by_container_and_by_nothing_else(persistence: Persistence) -> None:
    sessions = persistence.sessions
    for wrong in ({}, {"image_id": "i"}, {"container_id": "c", "image_id": "i"}):
        for call in (sessions.find_all, sessions.find_page):
            with pytest.raises(InvalidRecordError) as raised:
                call(order="active", **wrong)  # type: ignore[operator]
            assert raised.value.field == "order"
    for repository in (persistence.containers, persistence.images):
        with pytest.raises(InvalidRecordError):
            repository.find_all(order="active")
