"""Cutting, replacing and copying what is in logs."""

from __future__ import annotations

import pytest

from agentx_persistence.errors import CorruptRecordError, RecordNotFoundError
from agentx_persistence.storage import SESSIONS, Query, Slice, Storage, Window
from tests.port.given import (
    entries,
    entry,
    found_keys,
    history,
    log_of,
    plain,
    session,
    text_of,
    texts,
    there,
    updated_at,
)
from tests.port.test_documents import TEXTS


def test_rewrite_cuts_off_and_appends(storage: Storage) -> None:
    log_of(storage, "abcde")
    assert storage.rewrite("log", "b", entries("x", "y"), 1, "one") == 3
    assert history(storage) == ["a", "b", "x", "y"]
    assert storage.rewrite("log", "y", [], 1, "two") == 0
    assert history(storage) == ["a", "b", "x", "y"]
    assert storage.rewrite("log", None, entries("z"), 1, "three") == 4
    assert history(storage) == ["z"]
    assert storage.rewrite("log", None, [], 1, "four") == 1
    assert history(storage) == []
    assert storage.rewrite("log", None, entries("n"), 1, "five") == 0
    assert history(storage) == ["n"]


def test_rewrite_cuts_after_a_position(storage: Storage) -> None:
    log_of(storage, "abcde")
    assert storage.rewrite("log", 3, entries("x"), 1, "one") == 2
    assert history(storage) == ["a", "b", "c", "x"]
    assert storage.rewrite("log", 4, [], 1, "two") == 0
    assert storage.rewrite("log", 0, entries("a"), 1, "three") == 4
    assert history(storage) == ["a"]


def test_a_position_after_the_last_entry_is_missing(storage: Storage) -> None:
    log_of(storage, "abc")
    head = storage.head("log")
    for new in ([], entries("x")):
        with pytest.raises(RecordNotFoundError, match="#4"):
            storage.rewrite("log", 4, new, 1, "token")
    assert (storage.head("log"), history(storage)) == (head, ["a", "b", "c"])


def test_the_generation_becomes_the_token_with_the_number_cut_off(storage: Storage) -> None:
    log_of(storage, "abcde")
    storage.rewrite("log", "b", entries("x"), 1, "one")
    assert storage.head("log") == (3, "one.3")
    storage.rewrite("log", "x", [], 1, "two")
    assert storage.head("log") == (3, "two.0")


def test_a_repeated_rewrite_knows_its_answer_and_changes_nothing(storage: Storage) -> None:
    log_of(storage, "abcde")
    head = storage.head("log")
    for _ in range(2):
        answer = storage.rewrite(
            *("log", "b", entries("x"), 1, "one"), expected=5, generation=head.generation
        )
        assert answer == 3
        assert history(storage) == ["a", "b", "x"]
    storage.append("log", entries("y"), 1)
    assert storage.rewrite("log", "b", entries("x"), 1, "one") == 3
    assert history(storage) == ["a", "b", "x", "y"]


def test_the_ids_that_are_cut_off_are_free_again(storage: Storage) -> None:
    log_of(storage, "abcde")
    assert storage.rewrite("log", "b", [entry("d", "other")], 1, "one") == 3
    assert there(storage.lookup("log", [*"abcde"])) == {
        "a": (1, "a"),
        "b": (2, "b"),
        "d": (3, "other"),
    }
    assert storage.append("log", entries("c", "e"), 1) == 5
    assert history(storage) == ["a", "b", "other", "c", "e"]
    with pytest.raises(RecordNotFoundError):
        storage.read("log", Window("x"))
    assert texts(storage.read("log", Window("d"))) == ["c", "e"]


def test_an_id_in_the_part_that_is_kept_is_found_and_nothing_is_written(storage: Storage) -> None:
    log_of(storage, "abcde")
    head = storage.head("log")
    answer = storage.rewrite("log", "c", [entry("x"), entry("b", "other")], 9000, "one")
    assert there(answer)["b"] == (2, "b")
    assert not isinstance(answer, int)
    assert answer.head == head == storage.head("log")
    assert history(storage) == [*"abcde"]
    assert updated_at(storage) == 1000
    assert there(storage.rewrite("log", "c", entries("c"), 9000, "two"))["c"] == (3, "c")


def test_rewrite_needs_the_expected_number_and_the_generation(storage: Storage) -> None:
    log_of(storage, "abc")
    head = storage.head("log")
    for expected, generation in ((2, None), (4, head.generation), (3, "other"), (None, "other")):
        answer = storage.rewrite(
            *("log", "a", entries("x"), 9000, "no"), expected=expected, generation=generation
        )
        assert not isinstance(answer, int)
        assert answer.head == head == storage.head("log")
    assert history(storage) == ["a", "b", "c"]
    assert updated_at(storage) == 1000
    answer = storage.rewrite(
        *("log", "a", entries("x"), 1, "yes"), expected=3, generation=head.generation
    )
    assert answer == 2
    assert history(storage) == ["a", "x"]


def test_rewrite_names_what_is_absent(storage: Storage) -> None:
    with pytest.raises(RecordNotFoundError) as caught:
        storage.rewrite("log", "a", entries("x"), 1, "one")
    assert (caught.value.kind, caught.value.id) == ("session", "log")
    log_of(storage, "abc")
    with pytest.raises(RecordNotFoundError) as caught:
        storage.rewrite("log", "absent", entries("x"), 9000, "one")
    assert (caught.value.kind, caught.value.id) == ("message", "absent")
    assert history(storage) == ["a", "b", "c"]
    assert updated_at(storage) == 1000


def test_rewrite_raises_updated_at_and_never_lowers_it(storage: Storage) -> None:
    log_of(storage, "ab")
    storage.rewrite("log", "a", [], 5000, "one")
    assert updated_at(storage) == 5000
    storage.rewrite("log", None, entries("x"), 6, "two")
    assert updated_at(storage) == 5000
    query = Query({"container_id": "box"}, "active", since=5000)
    assert found_keys(storage, SESSIONS, query) == ["log"]


def test_a_large_cut_is_whole_and_leaves_nothing(storage: Storage) -> None:
    ids = [f"id-{number}" for number in range(2500)]
    log_of(storage, ids)
    assert storage.rewrite("log", "id-9", entries("x"), 1, "one") == 2490
    assert history(storage) == [*ids[:10], "x"]
    assert storage.append("log", entries(*ids[10:]), 1) == 2501
    assert history(storage) == [*ids[:10], "x", *ids[10:]]
    assert storage.rewrite("log", None, [], 1, "two") == 2501
    assert there(storage.lookup("log", ids)) == {}


def test_swap_replaces_a_text_at_its_position(storage: Storage) -> None:
    log_of(storage, "abc")
    storage.swap("log", entry("b", "new"), 5000, "one")
    assert history(storage) == ["a", "new", "c"]
    assert storage.head("log") == (3, "one")
    assert updated_at(storage) == 5000
    assert there(storage.lookup("log", ["b"])) == {"b": (2, "new")}
    storage.swap("log", entry("c", "newer"), 7, "two")
    assert updated_at(storage) == 5000
    assert [plain(text) for text in storage.newest(["log"])["log"].texts] == ["newer"]
    assert history(storage) == ["a", "new", "newer"]


@pytest.mark.parametrize("given", [(), ("x",), ("d", "y", "c")])
def test_exchange_shows_what_it_replaces(storage: Storage, given: tuple[str, ...]) -> None:
    log_of(storage, "abcd")
    shown: list[Slice] = []
    window = Window("b", headed=True)
    assert storage.exchange("log", window, entries(*given), 9000, "one", shown.append) is None
    assert texts(shown[-1]) == ["c", "d"]
    assert shown[-1].start == 3
    assert shown[-1].head is not None
    assert shown[-1].head.count == 4
    assert history(storage) == ["a", "b", *given]
    assert storage.head("log") == (2 + len(given), "one.2")
    assert updated_at(storage) == 9000
    everything = Window(headed=True)
    assert storage.exchange("log", everything, entries("z"), 9000, "two", shown.append) is None
    assert texts(shown[-1]) == ["a", "b", *given]
    assert storage.exchange("log", Window("z", headed=True), [], 1, "three", shown.append) is None
    assert texts(shown[-1]) == []
    assert storage.head("log") == (1, "three.0")


def test_exchange_takes_the_last_entry_if_there_is_one(storage: Storage) -> None:
    log_of(storage, "ab")
    shown: list[Slice] = []
    last = Window(last=1, headed=True)
    for number in range(4):
        assert storage.exchange("log", last, [], 1, f"token-{number}", shown.append) is None
    assert [texts(found) for found in shown] == [["b"], ["a"], [], []]
    assert storage.head("log") == (0, "token-1.1")


def test_exchange_changes_nothing_if_what_it_shows_is_refused(storage: Storage) -> None:
    log_of(storage, "ab")
    head = storage.head("log")

    def refuse(found: Slice) -> None:
        raise CorruptRecordError("message", "b", "here")

    for window in (Window("a", headed=True), Window(last=1, headed=True), Window(headed=True)):
        with pytest.raises(CorruptRecordError):
            storage.exchange("log", window, entries("x"), 9000, "one", refuse)
    assert history(storage) == ["a", "b"]
    assert storage.head("log") == head
    assert updated_at(storage) == 1000
    assert storage.append("log", entries("c"), 1) == 3


def test_exchange_finds_ids_in_the_part_that_is_kept(storage: Storage) -> None:
    log_of(storage, "abc")
    head = storage.head("log")
    window = Window("b", headed=True)
    answer = storage.exchange("log", window, entries("x", "a"), 9000, "one", lambda found: None)
    assert there(answer)["a"] == (1, "a")
    assert answer is not None
    assert answer.head == head == storage.head("log")
    assert history(storage) == ["a", "b", "c"]


def test_exchange_names_what_is_absent(storage: Storage) -> None:
    for window in (Window("a", headed=True), Window(last=1, headed=True)):
        with pytest.raises(RecordNotFoundError) as caught:
            storage.exchange("log", window, [], 1, "one", lambda found: None)
        assert (caught.value.kind, caught.value.id) == ("session", "log")
    log_of(storage, "ab")
    head = storage.head("log")
    with pytest.raises(RecordNotFoundError) as caught:
        storage.exchange("log", Window("c", headed=True), [], 1, "one", lambda found: None)
    assert (caught.value.kind, caught.value.id) == ("message", "c")
    assert storage.head("log") == head


def test_a_swapped_text_comes_back_exactly(storage: Storage) -> None:
    log_of(storage, "abc")
    for number, text in enumerate(TEXTS.values()):
        storage.swap("log", entry("b", text), 1, f"swap-{number}")
        assert history(storage) == ["a", text, "c"]


def test_swap_names_what_is_absent(storage: Storage) -> None:
    with pytest.raises(RecordNotFoundError) as caught:
        storage.swap("log", entry("a"), 1, "one")
    assert (caught.value.kind, caught.value.id) == ("session", "log")
    log_of(storage, "ab")
    head = storage.head("log")
    with pytest.raises(RecordNotFoundError) as caught:
        storage.swap("log", entry("absent"), 9000, "one")
    assert (caught.value.kind, caught.value.id) == ("message", "absent")
    assert storage.head("log") == head
    assert updated_at(storage) == 1000


@pytest.mark.parametrize(("through", "count"), [("a", 1), ("c", 3), ("e", 5), (None, 5)])
def test_fork_copies_up_to_an_entry(storage: Storage, through: str | None, count: int) -> None:
    log_of(storage, "abcde")
    copy = session("copy", text="copied", at=7, container_id="other")
    assert storage.fork("log", through, copy) == count
    assert history(storage, "copy") == [*"abcde"][:count]
    assert storage.head("copy") == (count, copy.revision)
    stored = storage.get(SESSIONS, ["copy"])["copy"]
    assert (plain(stored.text), stored.updated_at, stored.revision) == ("copied", 7, copy.revision)
    assert found_keys(storage, SESSIONS, Query({"container_id": "other"})) == ["copy"]
    assert there(storage.lookup("copy", ["a"])) == {"a": (1, "a")}


def test_a_fork_and_its_origin_are_independent(storage: Storage) -> None:
    log_of(storage, "abc")
    storage.fork("log", "b", session("copy"))
    assert storage.append("copy", entries("c"), 1) == 3
    storage.swap("copy", entry("a", "changed"), 1, "swap")
    assert storage.rewrite("log", "a", entries("z"), 1, "cut") == 2
    assert history(storage, "copy") == ["changed", "b", "c"]
    assert history(storage) == ["a", "z"]
    storage.delete(SESSIONS, "log")
    assert history(storage, "copy") == ["changed", "b", "c"]


def test_fork_of_an_empty_log_is_empty(storage: Storage) -> None:
    storage.put(SESSIONS, session("log"))
    assert storage.fork("log", None, session("copy")) == 0
    assert history(storage, "copy") == []


def test_fork_refuses_a_taken_key(storage: Storage) -> None:
    log_of(storage, "abc")
    log_of(storage, "x", "copy")
    assert storage.fork("log", "b", session("copy", text="other", at=5)) is None
    assert storage.fork("log", None, session("log", text="other", at=5)) is None
    assert history(storage, "copy") == ["x"]
    assert history(storage) == ["a", "b", "c"]
    assert text_of(storage, SESSIONS, "copy") == "text"


def test_fork_names_what_is_absent(storage: Storage) -> None:
    with pytest.raises(RecordNotFoundError) as caught:
        storage.fork("log", None, session("copy"))
    assert (caught.value.kind, caught.value.id) == ("session", "log")
    log_of(storage, "abc")
    with pytest.raises(RecordNotFoundError) as caught:
        storage.fork("log", "absent", session("copy"))
    assert (caught.value.kind, caught.value.id) == ("message", "absent")
    assert text_of(storage, SESSIONS, "copy") is None


def test_a_long_log_is_forked_whole(storage: Storage) -> None:
    ids = [f"id-{number}" for number in range(2500)]
    log_of(storage, ids)
    assert storage.fork("log", "id-2400", session("copy")) == 2401
    assert history(storage, "copy") == ids[:2401]
    assert storage.append("copy", entries(*ids[2401:]), 1) == 2500


def test_a_fork_onto_itself_creates_nothing(storage: Storage) -> None:
    with pytest.raises(RecordNotFoundError):
        storage.fork("log", None, session("log"))
    assert storage.get(SESSIONS, ["log"]) == {}
    log_of(storage, "ab")
    assert storage.fork("log", None, session("log")) is None
    assert history(storage) == ["a", "b"]
