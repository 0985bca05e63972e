"""Reading logs: windows, look-ups, the newest entries and heads."""

from __future__ import annotations

import itertools

import pytest

from agentx_persistence.errors import RecordNotFoundError
from agentx_persistence.storage import SESSIONS, Head, Storage, Window
from tests.port.given import entries, entry, history, log_of, plain, session, texts, there

IDS = "abcdefg"


def test_a_window_is_what_lies_between_two_entries(storage: Storage) -> None:
    log_of(storage, IDS)
    head = storage.head("log")
    low: list[str | int | None] = [None, 0, 1, 4, 7, 9, "a", "d", "g"]
    high: list[str | int | None] = [None, 0, 1, 4, 8, 9, "a", "d", "g"]
    limits = [{}, {"first": 0}, {"first": 2}, {"last": 2}, {"last": 0}, {"first": 99}, {"last": 99}]
    for after, before, limit in itertools.product(low, high, limits):
        start = IDS.index(after) + 1 if isinstance(after, str) else after or 0
        stop = IDS.index(before) if isinstance(before, str) else len(IDS)
        stop = max(before - 1, 0) if isinstance(before, int) else stop
        expected = list(enumerate(IDS, 1))[start:stop]
        if "first" in limit:
            expected = expected[: limit["first"]]
        if "last" in limit:
            expected = expected[max(len(expected) - limit["last"], 0) :]
        window = Window(after, before, **limit)
        for headed in (False, True):
            found = storage.read("log", window._replace(headed=headed))
            assert texts(found) == [id for _, id in expected], window
            if headed or found.head is not None:
                assert found.head == head
            if expected and (headed or found.start is not None):
                assert found.start == expected[0][0], window


def test_a_window_of_an_empty_log_is_empty(storage: Storage) -> None:
    storage.put(SESSIONS, session("log"))
    for window in (Window(), Window(first=5), Window(last=5), Window(3, 9), Window(last=1, size=1)):
        found = storage.read("log", window._replace(headed=True))
        assert texts(found) == []
        assert found.head == storage.head("log")


def test_a_window_needs_the_entries_that_it_names(storage: Storage) -> None:
    log_of(storage, "abc")
    log_of(storage, "x", "other")
    for window in (Window("x"), Window(None, "x"), Window("a", "x"), Window("x", "c", first=1)):
        for headed in (False, True):
            with pytest.raises(RecordNotFoundError) as caught:
                storage.read("log", window._replace(headed=headed))
            assert (caught.value.kind, caught.value.id) == ("message", "x")


def test_a_log_that_is_absent_is_named(storage: Storage) -> None:
    windows = (Window(), Window(headed=True), Window("a"), Window(3, last=2), Window(first=0))
    for window in windows:
        with pytest.raises(RecordNotFoundError) as caught:
            storage.read("log", window)
        assert (caught.value.kind, caught.value.id) == ("session", "log")
    with pytest.raises(RecordNotFoundError, match="session"):
        storage.lookup("log", ["a"])
    with pytest.raises(RecordNotFoundError, match="session"):
        storage.head("log")


def test_a_window_stops_in_front_of_the_entry_with_which_it_is_too_large(storage: Storage) -> None:
    storage.put(SESSIONS, session("log"))
    sizes = {"a": 4, "b": 8, "c": 4, "d": 12, "e": 4}  # in bytes of UTF-8
    storage.append("log", [entry(id, "🙂" * (size // 4)) for id, size in sizes.items()], 1)

    def read(window: Window) -> tuple[int | None, list[int]]:
        found = storage.read("log", window._replace(headed=True))
        return found.start, [len(text.encode()) for text in texts(found)]

    for size, expected in ((1, [4]), (11, [4]), (12, [4, 8]), (16, [4, 8, 4]), (99, [4, 8, 4])):
        assert read(Window(first=3, size=size)) == (1, expected)
    assert read(Window("c", first=5, size=15)) == (4, [12])
    assert read(Window("c", first=5, size=1)) == (4, [12])
    assert read(Window(last=5, size=1)) == (5, [4])
    assert read(Window(last=5, size=15)) == (5, [4])
    assert read(Window(last=5, size=16)) == (4, [12, 4])
    assert read(Window(last=5, size=32)) == (1, [4, 8, 4, 12, 4])
    assert read(Window(None, "e", last=9, size=24)) == (2, [8, 4, 12])
    assert read(Window("a", "e", last=2, size=999)) == (3, [4, 12])


def test_a_log_is_read_in_windows_from_both_ends(storage: Storage) -> None:
    ids = [f"id-{number}" for number in range(700)]
    log_of(storage, ids)
    forward: list[str] = []
    while len(forward) < 700:
        forward += texts(storage.read("log", Window(len(forward), first=64, size=300)))
    backward: list[str] = []
    while len(backward) < 700:
        window = Window(before=700 - len(backward) + 1, last=64, size=300)
        backward = texts(storage.read("log", window)) + backward
    assert forward == backward == ids


def test_lookup_returns_those_that_are_there(storage: Storage) -> None:
    log_of(storage, "abc")
    log_of(storage, "xy", "other")
    found = storage.lookup("log", ["c", "x", "a"])
    assert there(found) == {"c": (3, "c"), "a": (1, "a")}
    assert found.head == storage.head("log")
    assert storage.lookup("log", []) == (storage.head("log"), {})


def test_newest_returns_the_last_entry_of_each_log_that_exists(storage: Storage) -> None:
    log_of(storage, "abc", "one")
    log_of(storage, "x", "two")
    storage.put(SESSIONS, session("empty"))
    found = storage.newest(["two", "absent", "one", "empty"])
    assert {log: (texts(slice), slice.head) for log, slice in found.items()} == {
        "one": (["c"], storage.head("one")),
        "two": (["x"], storage.head("two")),
        "empty": ([], storage.head("empty")),
    }
    assert (found["one"].start, found["two"].start) == (3, 1)
    assert storage.newest([]) == {}
    assert storage.newest(["absent"]) == {}


def test_newest_takes_many_logs(storage: Storage) -> None:
    for number in range(120):
        log_of(storage, [str(number)], f"log-{number}")
    found = storage.newest([f"log-{number}" for number in range(120)])
    assert {log: plain(slice.texts[0]) for log, slice in found.items()} == {
        f"log-{number}": str(number) for number in range(120)
    }


def test_the_head_counts_the_entries(storage: Storage) -> None:
    created = session("log")
    storage.put(SESSIONS, created)
    assert storage.head("log") == Head(0, created.revision)
    storage.append("log", entries("a", "b"), 1)
    assert storage.head("log") == Head(2, created.revision)


def test_where_tells_documents_and_entries_apart(storage: Storage) -> None:
    log_of(storage, "ab")
    places = {storage.where(SESSIONS, "log", position) for position in (None, 1, 2)}
    assert len(places) == 3
    assert all(isinstance(place, str) and place for place in places)
    assert history(storage) == ["a", "b"]
