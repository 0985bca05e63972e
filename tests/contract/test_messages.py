from __future__ import annotations

import pytest

from agentx_persistence import (
    InvalidRecordError,
    Persistence,
    RecordConflictError,
    RecordNotFoundError,
)
from tests.contract.records import container, message, saved_session, session, texts


def test_a_new_session_has_no_messages(persistence: Persistence) -> None:
    saved_session(persistence)
    assert persistence.sessions.get_messages("session") == []
    assert list(persistence.sessions.iter_messages("session")) == []
    assert persistence.sessions.count_messages("session") == 0


def test_positions_count_from_one_without_gaps(persistence: Persistence) -> None:
    saved_session(persistence)
    assert [persistence.sessions.add_message("session", message()) for _ in range(3)] == [1, 2, 3]
    assert persistence.sessions.add_messages("session", [message(), message()]) == [4, 5]
    assert persistence.sessions.add_message("session", message()) == 6


def test_messages_come_back_in_the_order_of_their_positions_not_their_times(
    persistence: Persistence,
) -> None:
    saved_session(persistence)
    for timestamp in (5, 3, 9, 3, 1):
        persistence.sessions.add_message("session", message(str(timestamp), timestamp=timestamp))
    assert texts(persistence) == ["5", "3", "9", "3", "1"]


def test_an_empty_batch_adds_nothing(persistence: Persistence) -> None:
    saved_session(persistence)
    before = persistence.sessions.get("session")
    assert persistence.sessions.add_messages("session", []) == []
    assert persistence.sessions.get("session") == before


def test_the_same_message_again_keeps_its_position_and_changes_nothing(
    persistence: Persistence,
) -> None:
    saved_session(persistence)
    first, second = message("first"), message("second")
    persistence.sessions.add_messages("session", [first, second])
    before = persistence.sessions.get("session")
    assert persistence.sessions.add_message("session", first) == 1
    assert persistence.sessions.add_messages("session", [first, second]) == [1, 2]
    assert texts(persistence) == ["first", "second"]
    assert persistence.sessions.get("session") == before


def test_a_batch_with_messages_that_are_there_adds_only_the_others(
    persistence: Persistence,
) -> None:
    saved_session(persistence)
    there, new, last = message("there"), message("new"), message("last")
    persistence.sessions.add_message("session", there)
    assert persistence.sessions.add_messages("session", [there, new, new, last]) == [1, 2, 2, 3]
    assert texts(persistence) == ["there", "new", "last"]


def test_a_large_batch_adds_only_what_is_new_or_nothing(persistence: Persistence) -> None:
    saved_session(persistence)
    there = [message("there"), message("there, too")]
    persistence.sessions.add_messages("session", there)
    new = [message(str(number)) for number in range(1201)]
    wrong = message("other", id=there[1].id)
    with pytest.raises(RecordConflictError):
        persistence.sessions.add_messages("session", [*new, wrong])
    assert persistence.sessions.get_messages("session") == there
    batch = [*new[:600], there[1], *new[600:], new[0], there[0]]
    assert persistence.sessions.add_messages("session", batch) == [
        *range(3, 603),
        2,
        *range(603, 1204),
        3,
        1,
    ]
    assert persistence.sessions.get_messages("session") == [*there, *new]
    assert persistence.sessions.get_messages("session", before=new[700].id, last=1) == [new[699]]


def test_a_different_message_under_a_used_id_is_a_conflict(persistence: Persistence) -> None:
    saved_session(persistence)
    persistence.sessions.add_message("session", message("one", id="used", timestamp=1))
    before = persistence.sessions.get("session")
    other = message("two", id="used", timestamp=1)
    with pytest.raises(RecordConflictError) as raised:
        persistence.sessions.add_message("session", other)
    assert (raised.value.kind, raised.value.id) == ("message", "used")
    with pytest.raises(RecordConflictError):
        persistence.sessions.add_messages("session", [message("new"), other])
    assert texts(persistence) == ["one"]
    assert persistence.sessions.get("session") == before


def test_a_batch_that_contradicts_itself_is_a_conflict(persistence: Persistence) -> None:
    saved_session(persistence)
    with pytest.raises(RecordConflictError):
        persistence.sessions.add_messages(
            "session", [message("one", id="same"), message("two", id="same")]
        )
    assert texts(persistence) == []


def test_the_same_id_in_another_session_is_another_message(persistence: Persistence) -> None:
    saved_session(persistence, "one")
    saved_session(persistence, "two")
    assert persistence.sessions.add_message("one", message("a", id="id")) == 1
    assert persistence.sessions.add_message("two", message("b", id="id")) == 1
    assert texts(persistence, "one") == ["a"]
    assert texts(persistence, "two") == ["b"]


def test_adding_a_message_sets_the_updated_at_of_its_session(persistence: Persistence) -> None:
    persistence.sessions.save(session(created_at=1, updated_at=1))
    persistence.sessions.add_message("session", message())
    saved = persistence.sessions.get("session")
    assert saved.created_at == 1
    assert saved.updated_at > 1
    assert persistence.sessions.find_all(image_id="image") == [saved]


def test_saving_a_session_again_keeps_its_messages(persistence: Persistence) -> None:
    saved_session(persistence)
    persistence.sessions.add_message("session", message("kept"))
    persistence.sessions.save(session(container_id="elsewhere"))
    assert texts(persistence) == ["kept"]
    assert persistence.sessions.add_message("session", message("next")) == 2


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        ({}, "1 2 3 4 5 6 7 8 9 10"),
        ({"first": 3}, "1 2 3"),
        ({"last": 3}, "8 9 10"),
        ({"first": 0}, ""),
        ({"last": 0}, ""),
        ({"first": 99}, "1 2 3 4 5 6 7 8 9 10"),
        ({"last": 99}, "1 2 3 4 5 6 7 8 9 10"),
        ({"after": 7}, "8 9 10"),
        ({"before": 4}, "1 2 3"),
        ({"after": 10}, ""),
        ({"before": 1}, ""),
        ({"after": 2, "before": 6}, "3 4 5"),
        ({"after": 6, "before": 2}, ""),
        ({"after": 2, "before": 9, "first": 2}, "3 4"),
        ({"after": 2, "before": 9, "last": 2}, "7 8"),
        ({"last": 3, "before": 8}, "5 6 7"),
        ({"first": 3, "after": 8}, "9 10"),
    ],
)
def test_a_window_of_messages(
    persistence: Persistence, ten: list[str], window: dict[str, int], expected: str
) -> None:
    asked = {
        name: ten[value - 1] if name in ("after", "before") else value
        for name, value in window.items()
    }
    assert " ".join(texts(persistence, **asked)) == expected


def test_the_wrong_window_is_refused(persistence: Persistence, ten: list[str]) -> None:
    for wrong in ({"first": -1}, {"last": True}, {"first": 1, "last": 1}, {"after": ""}):
        with pytest.raises(InvalidRecordError):
            persistence.sessions.get_messages("session", **wrong)


def test_an_unknown_session_is_refused_by_every_method(persistence: Persistence) -> None:
    sessions = persistence.sessions
    calls = [
        lambda: sessions.add_message("unknown", message()),
        lambda: sessions.add_messages("unknown", [message(), message()]),
        lambda: sessions.add_messages("unknown", []),
        lambda: sessions.get_messages("unknown"),
        lambda: sessions.get_messages("unknown", last=5, before="x"),
        lambda: sessions.iter_messages("unknown"),
        lambda: sessions.count_messages("unknown"),
        lambda: sessions.clear_messages("unknown"),
        lambda: sessions.truncate_after("unknown", "x"),
    ]
    for call in calls:
        with pytest.raises(RecordNotFoundError) as raised:
            call()
        assert (raised.value.kind, raised.value.id) == ("session", "unknown")
    assert not sessions.exists("unknown")


def test_an_unknown_message_is_refused(persistence: Persistence, ten: list[str]) -> None:
    saved_session(persistence, "other")
    foreign = message()
    persistence.sessions.add_message("other", foreign)
    for id in ("unknown", foreign.id):
        for call in (
            lambda: persistence.sessions.get_messages("session", after=id),  # noqa: B023
            lambda: persistence.sessions.get_messages("session", before=id),  # noqa: B023
            lambda: persistence.sessions.get_messages("session", after=ten[0], before=id),  # noqa: B023
            lambda: persistence.sessions.truncate_after("session", id),  # noqa: B023
        ):
            with pytest.raises(RecordNotFoundError) as raised:
                call()
            assert (raised.value.kind, raised.value.id) == ("message", id)
    assert persistence.sessions.count_messages("session") == 10


def test_truncating_rewinds_and_the_next_message_takes_the_place(
    persistence: Persistence, ten: list[str]
) -> None:
    assert persistence.sessions.truncate_after("session", ten[5]) == 4
    assert persistence.sessions.truncate_after("session", ten[5]) == 0
    assert texts(persistence) == ["1", "2", "3", "4", "5", "6"]
    assert persistence.sessions.count_messages("session") == 6
    again = message("again", id=ten[8])
    assert persistence.sessions.add_message("session", again) == 7
    assert texts(persistence, last=2) == ["6", "again"]


def test_clearing_keeps_the_session(persistence: Persistence, ten: list[str]) -> None:
    assert persistence.sessions.clear_messages("session") == 10
    assert persistence.sessions.clear_messages("session") == 0
    assert persistence.sessions.exists("session")
    assert texts(persistence) == []
    assert persistence.sessions.add_message("session", message("new", id=ten[0])) == 1


def test_iterating_gives_every_message_of_a_long_history(persistence: Persistence) -> None:
    saved_session(persistence)
    messages = [message(str(number)) for number in range(1201)]
    persistence.sessions.add_messages("session", messages)
    assert list(persistence.sessions.iter_messages("session")) == messages


def test_iterating_tells_when_the_session_is_deleted_meanwhile(persistence: Persistence) -> None:
    saved_session(persistence)
    persistence.sessions.add_messages("session", [message() for _ in range(1201)])
    messages = persistence.sessions.iter_messages("session")
    next(messages)
    persistence.sessions.delete("session")
    with pytest.raises(RecordNotFoundError):
        list(messages)


def test_only_a_message_can_be_added(persistence: Persistence) -> None:
    saved_session(persistence)
    for wrong in ({"content": "x"}, "x", None, container()):
        with pytest.raises(InvalidRecordError):
            persistence.sessions.add_message("session", wrong)  # type: ignore[arg-type]
    assert persistence.sessions.count_messages("session") == 0
