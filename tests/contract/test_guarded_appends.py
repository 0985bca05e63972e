"""Appending under a guard: to a session to create, or to an expected number of messages."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from agentx_persistence import (
    InvalidRecordError,
    Persistence,
    RecordConflictError,
)
from agentx_persistence.storage import SESSIONS
from tests.backends.backend import SHARED, Backend
from tests.contract.records import image, message, saved_session, session, stored, texts
from tests.contract.test_concurrency import in_processes


def test_a_message_creates_its_session_in_the_same_step(persistence: Persistence) -> None:
    sessions, first = persistence.sessions, message("first")
    new = session("new", title="Release notes", created_at=1, updated_at=2)
    assert sessions.add_message("new", first, create=new) == 1
    saved = sessions.get("new")
    assert saved.updated_at > 2
    assert saved == new.model_copy(update={"updated_at": saved.updated_at})
    assert sessions.get_messages("new") == [first]
    assert sessions.find_all(container_id="box") == sessions.find_all(image_id="image") == [saved]
    assert sessions.find_all(container_id="box", order="active") == [saved]
    assert sessions.add_message("new", first, create=new) == 1
    other = session("new", title="Other", container_id="elsewhere")
    assert sessions.add_message("new", message("second"), create=other) == 2
    assert sessions.get("new").model_copy(update={"updated_at": 0}) == new.model_copy(
        update={"updated_at": 0}
    )
    assert sessions.find_all(container_id="elsewhere") == []
    assert texts(persistence, "new") == ["first", "second"]


def test_a_batch_creates_its_session_or_nothing(persistence: Persistence) -> None:
    sessions = persistence.sessions
    with pytest.raises(RecordConflictError):
        sessions.add_messages(
            "new", [message("a", id="same"), message("b", id="same")], create=session("new")
        )
    assert not sessions.exists("new")
    batch = [message(str(number)) for number in range(700)]
    assert sessions.add_messages("new", batch, create=session("new")) == [*range(1, 701)]
    assert sessions.get_messages("new") == batch
    assert sessions.add_messages("empty", [], create=session("empty", updated_at=5)) == []
    assert sessions.get("empty").updated_at == 5
    assert sessions.count_messages("empty") == 0
    with pytest.raises(RecordConflictError, match="0 messages, not the expected 2"):
        sessions.add_messages("other", [], create=session("other"), expected=2)
    assert not sessions.exists("other")
    with pytest.raises(RecordConflictError, match="700 messages, not the expected 2"):
        sessions.add_messages("new", [], expected=2)
    assert sessions.add_messages("new", [], expected=700) == []


@pytest.mark.parametrize("known", [[], ["a"], ["a", "b"]], ids=["none", "some", "all"])
def test_a_session_that_is_deleted_during_the_call_is_created(
    persistence: Persistence, monkeypatch: pytest.MonkeyPatch, known: list[str]
) -> None:
    """Whichever of the storage's methods the call uses, the deletion comes right before it."""
    sessions, storage = persistence.sessions, persistence._storage
    batch = [message(id, id=id) for id in "abc"]
    for number in range(1, 4):
        sessions.add_messages("new", [m for m in batch if m.id in known], create=session("new"))
        calls: list[str] = []

        def deleting(name: str, number: int = number, calls: list[str] = calls) -> Any:
            method = getattr(storage, name)

            def call(*arguments: Any, **options: Any) -> Any:
                calls.append(name)
                if len(calls) == number:
                    storage.delete(SESSIONS, "new")
                return method(*arguments, **options)

            return call

        with monkeypatch.context() as patch:
            for name in ("append", "lookup"):
                patch.setattr(storage, name, deleting(name))
            assert sessions.add_messages("new", batch, create=session("new")) == [1, 2, 3]
        assert sessions.get_messages("new") == batch
        sessions.delete("new")


def test_the_session_to_create_is_the_one_of_the_message(persistence: Persistence) -> None:
    wrong: list[Any] = [session("other"), image("new"), {"session_id": "new"}, "new"]
    for create in wrong:
        with pytest.raises(InvalidRecordError):
            persistence.sessions.add_message("new", message(), create=create)
    assert persistence.sessions.find_all() == []


def test_a_session_that_was_deleted_is_created_anew_and_empty(persistence: Persistence) -> None:
    sessions = persistence.sessions
    sessions.add_messages("s", [message("1", id="m"), message("2")], create=session("s"))
    assert sessions.delete("s") is True
    assert sessions.add_message("s", message("3", id="m"), create=session("s", title="t")) == 1
    assert texts(persistence, "s") == ["3"]


def test_eight_creators_at_once_make_one_session_with_all_messages(
    persistence: Persistence,
) -> None:
    for round in range(3):
        id = f"new {round}"

        def create(number: int, id: str = id) -> int:
            return persistence.sessions.add_message(
                id, message(str(number)), create=session(id, note=number)
            )

        with ThreadPoolExecutor(8) as threads:
            positions = list(threads.map(create, range(8)))
        assert sorted(positions) == [*range(1, 9)]
        history = texts(persistence, id)
        assert [history[position - 1] for position in positions] == [str(n) for n in range(8)]
        (note,) = (persistence.sessions.get(id).model_extra or {}).values()
        assert note in range(8)
        assert len(persistence.sessions.find_all(container_id="box")) == round + 1


def _create_in_process(backend: Backend, number: int) -> list[int]:
    with backend.open() as persistence:
        return [
            persistence.sessions.add_message(
                f"new {round}", message(str(number)), create=session(f"new {round}")
            )
            for round in range(10)
        ]


@pytest.mark.needs(SHARED)
def test_processes_that_create_the_same_sessions_lose_no_message(backend: Backend) -> None:
    given = in_processes(_create_in_process, *((backend, number) for number in range(3)))
    with backend.open() as persistence:
        assert persistence.sessions.count(container_id="box") == 10
        for round in range(10):
            assert sorted(positions[round] for positions in given) == [1, 2, 3]
            assert sorted(texts(persistence, f"new {round}")) == ["0", "1", "2"]


def test_an_append_that_expects_another_number_of_messages_is_refused(
    persistence: Persistence, ten: list[str]
) -> None:
    sessions = persistence.sessions
    before = stored(persistence)
    for expected in (0, 9, 11, 2**31 - 2):
        for messages in ([message()], [message(), message()], [before[1][0], message()]):
            with pytest.raises(RecordConflictError) as raised:
                sessions.add_messages("session", messages, expected=expected)
            assert (raised.value.kind, raised.value.id) == ("session", "session")
            assert "10" in str(raised.value)
            assert str(expected) in str(raised.value)
    assert stored(persistence) == before
    assert sessions.add_message("session", message("11"), expected=10) == 11
    assert sessions.add_messages("session", [message(), message()], expected=11) == [12, 13]
    sessions.clear_messages("session")
    assert sessions.add_message("session", message(), expected=0) == 1


def test_what_is_there_already_comes_back_whatever_is_expected(
    persistence: Persistence, ten: list[str]
) -> None:
    sessions = persistence.sessions
    before = stored(persistence)
    there = before[1]
    for expected in (0, 3, 10, 99):
        assert sessions.add_message("session", there[4], expected=expected) == 5
        given = sessions.add_messages("session", [there[9], there[0]], expected=expected)
        assert given == [10, 1]
    with pytest.raises(RecordConflictError) as raised:
        sessions.add_message("session", message("other", id=ten[2]), expected=10)
    assert raised.value.kind == "message"
    assert stored(persistence) == before
    # Those that are there are no reason to refuse those that are not.
    assert sessions.add_messages("session", [there[1], message("11")], expected=10) == [2, 11]


def test_a_new_session_has_the_expected_number_of_messages_if_that_is_none(
    persistence: Persistence,
) -> None:
    sessions = persistence.sessions
    with pytest.raises(RecordConflictError):
        sessions.add_message("new", message(), create=session("new"), expected=1)
    assert not sessions.exists("new")
    assert sessions.add_message("new", message("1"), create=session("new"), expected=0) == 1
    with pytest.raises(RecordConflictError):
        sessions.add_message("new", message("2"), create=session("new"), expected=0)
    assert texts(persistence, "new") == ["1"]


@pytest.mark.parametrize("wrong", [-1, True, "1", 1.0, 2**31 - 1])
def test_what_is_no_number_of_messages_is_refused(
    persistence: Persistence, ten: list[str], wrong: Any
) -> None:
    for call in (
        lambda: persistence.sessions.add_message("session", message(), expected=wrong),
        lambda: persistence.sessions.rewrite("session", after=None, expected=wrong),
    ):
        with pytest.raises(InvalidRecordError) as raised:
            call()
        assert raised.value.field == "expected"
    assert persistence.sessions.count_messages("session") == 10


def test_of_writers_that_expect_the_same_number_one_succeeds(persistence: Persistence) -> None:
    saved_session(persistence)
    sessions = persistence.sessions

    def add(number: int) -> int:
        won = 0
        for expected in range(6):
            try:
                text = f"{number}:{expected}"
                assert sessions.add_message("session", message(text), expected=expected)
            except RecordConflictError:
                continue
            won += 1
        return won

    with ThreadPoolExecutor(4) as threads:
        won = sum(threads.map(add, range(4)))
    history = texts(persistence)
    assert won == len(history)
    assert [int(text.partition(":")[2]) for text in history] == [*range(len(history))]
