"""Copies of conversations that go on by themselves."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from agentx_persistence import (
    ForkOrigin,
    InvalidRecordError,
    Persistence,
    RecordConflictError,
    RecordNotFoundError,
)
from tests.contract.records import image, message, saved_session, session, texts


def test_a_fork_has_the_history_and_says_where_it_comes_from(
    persistence: Persistence, ten: list[str]
) -> None:
    sessions = persistence.sessions
    history = sessions.get_messages("session")
    origin = sessions.get("session")
    assert sessions.fork("session", session("all", image_id="other", note=1)) == 10
    assert sessions.get_messages("all") == history
    forked = sessions.get("all")
    assert '"forkedFrom":{"sessionId":"session"}' in forked.to_json()
    assert (forked.image_id, forked.container_id) == ("other", "box")
    assert sessions.find_all(image_id="other") == [forked]
    part = session("part", created_at=3, updated_at=4, container_id="else")
    assert sessions.fork("session", part, through=ten[3]) == 4
    assert sessions.get_messages("part") == history[:4]
    saved = sessions.get("part")
    expected = ForkOrigin(session_id="session", message_id=ten[3])
    assert saved == part.model_copy(update={"forked_from": expected})
    assert sessions.find_all(container_id="else", order="active") == [saved]
    assert sessions.get("session") == origin
    assert sessions.add_message("part", history[4]) == 5
    assert sessions.add_message("part", history[1]) == 2
    saved_session(persistence, "empty")
    assert sessions.fork("empty", session("of nothing")) == 0
    assert sessions.get_messages("of nothing") == []


def test_later_changes_on_either_side_of_a_fork_do_not_touch_the_other(
    persistence: Persistence, ten: list[str]
) -> None:
    sessions = persistence.sessions
    sessions.fork("session", session("fork"))
    sessions.add_message("fork", message("of the fork"))
    sessions.replace_message("fork", message("1 of the fork", id=ten[0]))
    sessions.truncate_after("session", ten[7])
    sessions.replace_message("session", message("2 of the origin", id=ten[1]))
    assert texts(persistence) == ["1", "2 of the origin", *"345678"]
    assert texts(persistence, "fork") == ["1 of the fork", *"23456789", "10", "of the fork"]
    sessions.fork("fork", session("fork of a fork"), through=ten[1])
    assert sessions.delete("session") is True
    assert len(texts(persistence, "fork")) == 11
    assert sessions.pop_message("fork") is not None
    sessions.clear_messages("fork")
    assert texts(persistence, "fork of a fork") == ["1 of the fork", "2"]


def test_a_fork_over_a_session_that_is_there_is_a_conflict(
    persistence: Persistence, ten: list[str]
) -> None:
    sessions = persistence.sessions
    sessions.add_message("taken", message("kept"), create=session("taken", note="kept"))
    before = sessions.get("taken")
    for id in ("taken", "session"):
        with pytest.raises(RecordConflictError) as raised:
            sessions.fork("session", session(id, note="new"))
        assert (raised.value.kind, raised.value.id) == ("session", id)
    assert sessions.get("taken") == before
    assert texts(persistence, "taken") == ["kept"]
    assert sessions.count_messages("session") == 10


def test_a_session_cannot_be_its_own_fork(persistence: Persistence) -> None:
    for through in (None, "m"):
        with pytest.raises(RecordNotFoundError) as raised:
            persistence.sessions.fork("absent", session("absent"), through=through)
        assert (raised.value.kind, raised.value.id) == ("session", "absent")
    assert persistence.sessions.find_all() == []


def test_a_long_history_is_forked(persistence: Persistence) -> None:
    saved_session(persistence)
    history = [message(str(number)) for number in range(1201)]
    persistence.sessions.add_messages("session", history)
    forked = persistence.sessions.fork("session", session("fork"), through=history[1100].id)
    assert forked == 1101
    assert persistence.sessions.get_messages("fork") == history[:1101]


def test_a_fork_beside_appends_is_of_one_moment(persistence: Persistence) -> None:
    saved_session(persistence)
    sessions = persistence.sessions
    sessions.add_messages("session", [message() for _ in range(30)])

    def append(_: int) -> list[int]:
        for _ in range(10):
            sessions.add_messages("session", [message(), message()])
        return []

    def fork(writer: int) -> list[int]:
        return [sessions.fork("session", session(f"fork {writer} {n}")) for n in range(4)]

    with ThreadPoolExecutor(4) as threads:
        given = list(threads.map(lambda n: fork(n) if n % 2 else append(n), range(4)))
    everything = sessions.get_messages("session")
    for writer in (1, 3):
        assert given[writer] == sorted(given[writer])
        for number, count in enumerate(given[writer]):
            assert count % 2 == 0
            assert sessions.get_messages(f"fork {writer} {number}") == everything[:count]


def test_only_a_session_can_be_the_fork(persistence: Persistence, ten: list[str]) -> None:
    wrong: list[Any] = [image("fork"), None, "fork", {"session_id": "fork"}]
    for new in wrong:
        with pytest.raises(InvalidRecordError):
            persistence.sessions.fork("session", new)
    assert [s.session_id for s in persistence.sessions.find_all()] == ["session"]
