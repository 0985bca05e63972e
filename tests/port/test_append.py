"""Appending to logs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agentx_persistence.errors import RecordNotFoundError
from agentx_persistence.storage import IMAGES, SESSIONS, Addition, Query, Storage
from tests.contract.hostile import IDS, INJECTIONS
from tests.port.given import (
    document,
    entries,
    entry,
    found_keys,
    history,
    log_of,
    plain,
    session,
    text_of,
    there,
    updated_at,
)
from tests.port.test_documents import TEXTS


def test_append_returns_the_number_of_entries_afterwards(storage: Storage) -> None:
    storage.put(SESSIONS, session("log"))
    assert storage.append("log", entries("a"), 1) == 1
    assert storage.append("log", entries("c", "b"), 1) == 3
    assert history(storage) == ["a", "c", "b"]
    assert storage.head("log").count == 3


def test_append_keeps_the_generation(storage: Storage) -> None:
    log_of(storage, "a")
    generation = storage.head("log").generation
    storage.append("log", entries("b"), 1)
    assert storage.head("log") == (2, generation)


def test_entries_texts_come_back_exactly(storage: Storage) -> None:
    storage.put(SESSIONS, session("log"))
    added = [entry(id, text) for id, text in TEXTS.items()]
    assert storage.append("log", added[:2], 1) == 2
    assert storage.append("log", added[2:], 1) == len(TEXTS)
    assert history(storage) == [*TEXTS.values()]
    found = storage.lookup("log", [*TEXTS])
    assert {id: plain(text) for id, (_, text) in found.there.items()} == TEXTS


def test_ids_of_entries_and_logs_are_compared_exactly(storage: Storage) -> None:
    ids = list(dict.fromkeys(IDS + INJECTIONS))
    log_of(storage, ids)
    assert history(storage) == ids
    found = storage.lookup("log", ids)
    assert {id: position for id, (position, _) in found.there.items()} == {
        id: number for number, id in enumerate(ids, 1)
    }
    for id in ids[::9]:
        log_of(storage, [id, "same"], id)
    for id in ids[::9]:
        assert history(storage, id) == [id, "same"]


def test_an_id_that_is_there_is_found_and_nothing_is_written(storage: Storage) -> None:
    log_of(storage, "abc")
    head = storage.head("log")
    answer = storage.append("log", [entry("x"), entry("c", "other"), entry("a")], 9000)
    assert there(answer) == {"a": (1, "a"), "c": (3, "c")}
    assert not isinstance(answer, int)
    assert answer.head == head
    assert history(storage) == ["a", "b", "c"]
    assert updated_at(storage) == 1000
    assert storage.append("log", entries("x"), 1) == 4


def test_the_same_id_may_be_in_several_logs(storage: Storage) -> None:
    log_of(storage, "ab", "one")
    log_of(storage, "ba", "two")
    assert history(storage, "one") == ["a", "b"]
    assert history(storage, "two") == ["b", "a"]


def test_append_needs_the_expected_number_of_entries(storage: Storage) -> None:
    log_of(storage, "ab")
    head = storage.head("log")
    for expected in (0, 1, 3):
        answer = storage.append("log", entries("c"), 9000, expected=expected)
        assert there(answer) == {}
        assert not isinstance(answer, int)
        assert answer.head == head
    answer = storage.append("log", entries("c", "b"), 9000, expected=1)
    assert there(answer) == {"b": (2, "b")}
    assert history(storage) == ["a", "b"]
    assert updated_at(storage) == 1000
    assert storage.append("log", entries("c"), 1, expected=2) == 3


def test_append_needs_the_generation(storage: Storage) -> None:
    log_of(storage, "ab")
    old = storage.head("log").generation
    assert storage.append("log", entries("c"), 1, generation=old, expected=2) == 3
    assert storage.rewrite("log", "b", [], 1, "cut") == 1
    answer = storage.append("log", entries("d"), 9000, generation=old)
    assert there(answer) == {}
    assert not isinstance(answer, int)
    assert answer.head == (2, "cut.1")
    assert history(storage) == ["a", "b"]
    assert storage.append("log", entries("d"), 1, generation="cut.1") == 3


def test_append_creates_no_session_that_is_not_as_expected(storage: Storage) -> None:
    for expected, generation in ((1, None), (None, "other"), (0, "other")):
        answer = storage.append(
            "log",
            entries("a"),
            1,
            create=session("log"),
            expected=expected,
            generation=generation,
        )
        assert not isinstance(answer, int)
        assert (answer.head.count, answer.there) == (0, {})
        assert text_of(storage, SESSIONS, "log") is None


def test_append_to_an_absent_session_is_refused(storage: Storage) -> None:
    for added in ([], entries("a")):
        with pytest.raises(RecordNotFoundError) as caught:
            storage.append("log", added, 1)
        assert (caught.value.kind, caught.value.id) == ("session", "log")
    assert text_of(storage, SESSIONS, "log") is None


def test_append_creates_the_session_that_is_given(storage: Storage) -> None:
    created = session("log", text="created")
    assert storage.append("log", entries("a", "b"), 7000, create=created) == 2
    assert history(storage) == ["a", "b"]
    assert storage.head("log") == (2, created.revision)
    stored = storage.get(SESSIONS, ["log"])["log"]
    assert (plain(stored.text), stored.revision) == ("created", created.revision)
    assert updated_at(storage) == 7000
    for where in ({"container_id": "box"}, {"image_id": "picture"}):
        assert found_keys(storage, SESSIONS, Query(where)) == ["log"]
    query = Query({"container_id": "box"}, "active", since=7000)
    assert found_keys(storage, SESSIONS, query) == ["log"]


def test_append_does_not_create_a_session_that_is_there(storage: Storage) -> None:
    log_of(storage, "a")
    head = storage.head("log")
    other = session("log", text="other", at=5, container_id="other")
    assert storage.append("log", [], 9000, create=other) == 1
    assert updated_at(storage) == 1000
    assert storage.append("log", entries("b"), 1000, create=other) == 2
    assert text_of(storage, SESSIONS, "log") == "text"
    assert found_keys(storage, SESSIONS, Query({"container_id": "other"})) == []
    assert storage.head("log") == (2, head.generation)
    assert there(storage.append("log", entries("a"), 1, create=other)) == {"a": (1, "a")}


def test_append_without_entries_only_creates(storage: Storage) -> None:
    assert storage.append("log", [], 9000, create=session("log", at=500)) == 0
    assert history(storage) == []
    storage.append("log", entries("a"), 1000)
    assert storage.append("log", [], 9000) == 1
    assert updated_at(storage) == 1000


def test_append_raises_updated_at_and_never_lowers_it(storage: Storage) -> None:
    storage.put(SESSIONS, session("log", at=5000))
    for id, at, then in (("a", 4000, 5000), ("b", 5001, 5001), ("c", 9999, 9999), ("d", 6, 9999)):
        storage.append("log", entries(id), at)
        assert updated_at(storage) == then
    storage.put(SESSIONS, session("log", at=1, updated_at=7))
    assert updated_at(storage) == 7
    storage.append("log", entries("e"), -5)
    assert updated_at(storage) == 7


def test_many_entries_go_in_one_step(storage: Storage) -> None:
    ids = [f"id-{number}" for number in range(2500)]
    log_of(storage, ids)
    assert history(storage) == ids
    assert isinstance(storage.append("log", entries("new", "id-2499"), 1), tuple)
    assert storage.head("log").count == 2500


def test_a_key_may_be_that_of_a_session_and_an_image(storage: Storage) -> None:
    storage.put(IMAGES, document(IMAGES, "log"))
    with pytest.raises(RecordNotFoundError):
        storage.append("log", entries("a"), 1)
    log_of(storage, "a")
    assert storage.delete(IMAGES, "log") is True
    assert history(storage) == ["a"]


def test_append_each_appends_in_order_and_answers_each(storage: Storage) -> None:
    log_of(storage, "a", "old")
    additions = [
        Addition("new", entries("x"), 7000, session("new", updated_at=500), 0),
        Addition("old", entries("b"), 2000),
        Addition("old", entries("c", "a"), 9000),
        Addition("old", entries("c"), 9000, expected=1),
        Addition("new", entries("y"), 6000, expected=1),
        Addition("old", entries("d"), 2000, session("old", "other"), 2),
        Addition("empty", [], 9000, session("empty", at=500)),
    ]
    first, second, used, unexpected, *rest = storage.append_each(additions)
    assert (first, second, rest) == (1, 2, [2, 3, 0])
    assert there(used) == {"a": (1, "a")}
    assert there(unexpected) == {}
    assert (history(storage, "new"), history(storage, "old")) == (["x", "y"], ["a", "b", "d"])
    assert [updated_at(storage, log) for log in ("new", "old")] == [7000, 2000]
    assert text_of(storage, SESSIONS, "old") == "text"
    active = Query({"container_id": "box"}, "active")
    assert found_keys(storage, SESSIONS, active) == ["new", "old", "empty"]
    assert [*storage.append_each([])] == []


def test_append_each_does_what_comes_before_an_error(storage: Storage) -> None:
    def additions() -> Iterator[Addition]:
        yield Addition("log", entries("a"), 1000, session())
        yield Addition("log", entries("b"), 1000)
        raise InterruptedError("the source is gone")

    answers = storage.append_each(additions())
    assert [next(answers), next(answers)] == [1, 2]
    with pytest.raises(InterruptedError):
        next(answers)
    assert history(storage) == ["a", "b"]
    answers = storage.append_each([Addition("absent", entries("a"), 1)])
    with pytest.raises(RecordNotFoundError, match="absent"):
        next(answers)
