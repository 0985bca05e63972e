"""Several threads on one storage: each call is one atomic step."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain, count
from threading import Barrier, Event
from time import sleep
from typing import Any

import pytest

from agentx_persistence.errors import RecordNotFoundError
from agentx_persistence.storage import (
    CONTAINERS,
    IMAGES,
    SESSIONS,
    Found,
    Query,
    Storage,
    Window,
)
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
    texts,
    there,
    token,
)


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Call each in a thread of its own, all at one moment; return what they return."""
    barrier = Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls))


def by_each(threads: int, work: Callable[[int], Any]) -> list[Any]:
    """Return what `work` returns to each of so many threads."""
    return at_once(*((lambda number=number: work(number)) for number in range(threads)))


def test_appenders_lose_nothing_and_keep_their_order(storage: Storage) -> None:
    storage.put(SESSIONS, session("log"))

    def append(writer: int) -> list[int]:
        added = [entries(f"{writer}-{number}") for number in range(20)]
        return [storage.append("log", one, 1) for one in added]  # type: ignore[misc]

    counts = by_each(8, append)
    assert sorted(chain.from_iterable(counts)) == list(range(1, 161))
    ids = history(storage)
    for writer, own in enumerate(counts):
        assert own == sorted(own)
        assert [ids[count - 1] for count in own] == [f"{writer}-{n}" for n in range(20)]
    found = there(storage.lookup("log", ids))
    assert found == {id: (position, id) for position, id in enumerate(ids, 1)}


def test_batches_are_neither_torn_nor_interleaved(storage: Storage) -> None:
    storage.put(SESSIONS, session("log"))

    def append(writer: int) -> None:
        for batch in range(5):
            storage.append("log", entries(*(f"{writer}-{batch}-{n}" for n in range(5))), 1)

    by_each(4, append)
    ids = history(storage)
    batches = [ids[start : start + 5] for start in range(0, 100, 5)]
    assert all([id[-1] for id in batch] == [*"01234"] for batch in batches)
    assert all(len({id[:-1] for id in batch}) == 1 for batch in batches)


def test_one_of_several_that_append_the_same_id_succeeds(storage: Storage) -> None:
    storage.put(SESSIONS, session("log"))
    answers = by_each(8, lambda n: storage.append("log", [entry("same", str(n)), entry(f"{n}")], 1))
    (winner,) = (number for number, answer in enumerate(answers) if answer == 2)
    assert history(storage) == [str(winner), str(winner)]
    for answer in answers:
        assert answer == 2 or there(answer) == {"same": (1, str(winner))}


def test_one_of_several_that_expect_the_same_number_succeeds(storage: Storage) -> None:
    storage.put(SESSIONS, session("log"))
    for length in range(5):
        answers = by_each(
            4, lambda n, length=length: storage.append("log", entries(token()), n, expected=length)
        )
        assert sorted(answer for answer in answers if not isinstance(answer, Found)) == [length + 1]


def test_one_of_several_creators_succeeds(storage: Storage) -> None:
    for kind in (CONTAINERS, SESSIONS):
        made = [document(kind, text=str(number)) for number in range(8)]
        answers = by_each(8, lambda n, kind=kind, made=made: storage.create(kind, made[n]))
        assert sorted(answers) == [False] * 7 + [True]
        winner = made[answers.index(True)]
        assert storage.get(kind, ["key"])["key"].revision == winner.revision
        assert text_of(storage, kind) == winner.text


def test_appenders_create_one_session_and_lose_nothing(storage: Storage) -> None:
    made = [session("log", text=str(number)) for number in range(8)]
    answers = by_each(
        8, lambda number: storage.append("log", entries(str(number)), 1, create=made[number])
    )
    assert sorted(answers) == list(range(1, 9))
    assert [answers[int(id)] for id in history(storage)] == list(range(1, 9))
    stored = storage.get(SESSIONS, ["log"])["log"]
    assert made[int(plain(stored.text))].revision == stored.revision
    assert storage.head("log") == (8, stored.revision)


def test_one_of_several_guarded_replacements_succeeds(storage: Storage) -> None:
    current = document(IMAGES, name="first")
    storage.put(IMAGES, current)
    for _ in range(5):
        made = [document(IMAGES, text=f"{n}", name=f"{n}") for n in range(4)]
        revision = current.revision
        answers = by_each(
            4, lambda n, made=made, old=revision: storage.replace(IMAGES, made[n], old)
        )
        assert sorted(answers) == [False] * 3 + [True]
        current = made[answers.index(True)]
        assert text_of(storage, IMAGES) == current.text
        for number in range(4):
            found = found_keys(storage, IMAGES, Query({"name": str(number)}))
            assert found == (["key"] if str(number) == current.text else [])


def test_a_document_that_many_put_is_found_only_where_it_is(storage: Storage) -> None:
    names = [f"name-{number}" for number in range(4)]

    def put(writer: int) -> None:
        for number in range(15):
            name = names[(number + writer) % 4]
            storage.put(IMAGES, document(IMAGES, text=name, at=number % 3, name=name))

    by_each(4, put)
    last = text_of(storage, IMAGES)
    found = {name: found_keys(storage, IMAGES, Query({"name": name})) for name in names}
    assert found == {name: ["key"] if name == last else [] for name in names}
    assert found_keys(storage, IMAGES, Query()) == ["key"]


def test_saving_a_session_beside_appends_keeps_every_entry(storage: Storage) -> None:
    storage.put(SESSIONS, session("log"))

    def work(writer: int) -> None:
        for number in range(20):
            if writer < 2:
                storage.append("log", entries(f"{writer}-{number}"), 5000)
            else:
                storage.put(SESSIONS, session("log", container_id=f"box-{number % 2}"))

    by_each(4, work)
    assert sorted(history(storage)) == sorted(f"{w}-{n}" for w in range(2) for n in range(20))
    assert found_keys(storage, SESSIONS, Query({"container_id": "box-1"})) == ["log"]
    assert found_keys(storage, SESSIONS, Query({"container_id": "box-0"})) == []
    query = Query({"container_id": "box-1"}, "active")
    assert found_keys(storage, SESSIONS, query) == ["log"]


def test_appends_beside_cuts_are_cut_or_there(storage: Storage) -> None:
    log_of(storage, ["base"])

    def work(writer: int) -> int:
        if writer < 3:
            for number in range(20):
                storage.append("log", entries(f"{writer}-{number}"), 1)
            return 0
        return sum(storage.rewrite("log", "base", [], 1, token()) for _ in range(15))  # type: ignore[misc]

    cut = sum(by_each(4, work))
    ids = history(storage)
    assert cut + len(ids) == 61
    assert ids[0] == "base"
    assert there(storage.lookup("log", ids)) == {id: (n, id) for n, id in enumerate(ids, 1)}


def test_one_of_two_guarded_rewrites_wins(storage: Storage) -> None:
    log_of(storage, "ab")
    for _ in range(8):
        head = storage.head("log")
        tokens = [token(), token()]
        answers = by_each(
            2,
            lambda n, head=head, tokens=tokens: storage.rewrite(
                *("log", "a", entries(tokens[n]), 1, tokens[n]),
                expected=head.count,
                generation=head.generation,
            ),
        )
        (winner,) = (number for number in (0, 1) if answers[number] == 1)
        assert isinstance(answers[1 - winner], Found)
        assert history(storage) == ["a", tokens[winner]]
        assert storage.head("log") == (2, f"{tokens[winner]}.1")


def test_readers_see_a_rewrite_wholly_or_not_at_all(storage: Storage) -> None:
    log_of(storage, [f"0-{n}" for n in range(5)])
    done = Event()

    def write() -> None:
        try:
            for round in range(1, 30):
                added = [f"{round}-{n}" for n in range(5 + round % 3)]
                storage.rewrite("log", None, entries(*added), 1, str(round))
        finally:
            done.set()

    def read() -> None:
        while not done.is_set():
            for found in (
                storage.read("log", Window(headed=True)),
                storage.read("log", Window(first=99, headed=True)),
            ):
                round = int(texts(found)[0].split("-")[0])
                length = 5 + round % 3 if round else 5
                assert texts(found) == [f"{round}-{n}" for n in range(length)]
                assert found.head is not None
                assert found.head.count == length
                assert found.head.generation.startswith(f"{round}.") or not round

    at_once(write, read)


def test_a_fork_beside_appends_is_the_beginning_of_its_origin(storage: Storage) -> None:
    storage.put(SESSIONS, session("log"))

    def work(writer: int) -> list[int]:
        if writer < 2:
            for number in range(20):
                storage.append("log", entries(f"{writer}-{number}"), 1)
            return []
        return [storage.fork("log", None, session(f"copy-{n}")) for n in range(8)]  # type: ignore[misc]

    forked = by_each(3, work)[2]
    for number, length in enumerate(forked):
        assert history(storage, f"copy-{number}") == history(storage)[:length]


def test_an_append_beside_a_deletion_leaves_nothing(storage: Storage) -> None:
    for _ in range(4):
        log_of(storage, "a")

        def append(number: int) -> None:
            with suppress(RecordNotFoundError):
                for step in count():
                    storage.append("log", entries(f"{number}-{step}"), 1)

        def delete() -> None:
            while storage.head("log").count < 8:
                pass
            assert storage.delete(SESSIONS, "log") is True

        at_once(delete, lambda: append(1), lambda: append(2))
        assert text_of(storage, SESSIONS, "log") is None
        assert storage.newest(["log"]) == {}
        storage.put(SESSIONS, session("log"))
        assert history(storage) == []
        assert storage.append("log", entries("1-0", "a"), 1) == 2
        storage.delete(SESSIONS, "log")


def test_creating_appends_beside_deletions_make_whole_logs(storage: Storage) -> None:
    def work(writer: int) -> None:
        for number in range(15):
            if writer < 2:
                storage.append("log", entries(f"{writer}-{number}"), 1, create=session("log"))
            else:
                storage.delete(SESSIONS, "log")

    by_each(3, work)
    storage.append("log", entries("last"), 1, create=session("log"))
    ids = history(storage)
    assert there(storage.lookup("log", ids)) == {id: (n, id) for n, id in enumerate(ids, 1)}
    for writer in range(2):
        own = [int(id[2:]) for id in ids if id.startswith(f"{writer}-")]
        assert own == list(range(20))[15 - len(own) : 15]


def _move(storage: Storage, number: int, guarded: bool) -> bool:
    """Move an image and then its session from "box" to "other", and append to that."""
    picture = document(IMAGES, f"picture-{number}", text="moved", container_id="other")
    if guarded:
        found = storage.get(IMAGES, [picture.key]).get(picture.key)
        if found is None or not storage.replace(IMAGES, picture, found.revision):
            return False
    else:
        storage.put(IMAGES, picture)
    fields = {"container_id": "other", "image_id": picture.key}
    storage.put(SESSIONS, session(f"log-{number}", text="moved", **fields))
    storage.append(f"log-{number}", entries("new", "newer"), 1)
    return True


@pytest.mark.parametrize("guarded", [False, True], ids=["put", "replace"])
@pytest.mark.parametrize("seed", range(3))
def test_what_moves_away_beside_a_deletion_is_not_touched(
    storage: Storage, seed: int, guarded: bool
) -> None:
    chance = random.Random(seed)
    owned = list(range(20))
    storage.put(CONTAINERS, document(CONTAINERS, "box"))
    for number in owned:
        storage.put(IMAGES, document(IMAGES, f"picture-{number}"))
        storage.put(SESSIONS, session(f"log-{number}", image_id=f"picture-{number}"))
        storage.append(f"log-{number}", entries("old", "older"), 1)
    chance.shuffle(owned)
    parts, earlier = (owned[:8], owned[8:16]), chance.randrange(1, 9)
    moved: list[int] = []

    def move(part: list[int]) -> None:
        for number in part:
            if _move(storage, number, guarded):
                moved.append(number)  # noqa: PERF401 (the deletion counts them meanwhile)

    def delete() -> bool:
        while len(moved) < earlier:
            sleep(0)
        return storage.delete(CONTAINERS, "box")

    *_, deleted = at_once(lambda: move(parts[0]), lambda: move(parts[1]), delete)
    assert deleted is True
    assert guarded or sorted(moved) == sorted(owned[:16])
    for number in moved:
        assert text_of(storage, IMAGES, f"picture-{number}") == "moved"
        assert text_of(storage, SESSIONS, f"log-{number}") == "moved"
        added = history(storage, f"log-{number}")
        assert added in (["new", "newer"], ["old", "older", "new", "newer"])
    kept = sorted(map(str, moved))
    for kind in (IMAGES, SESSIONS):
        found = found_keys(storage, kind, Query({"container_id": "other"}))
        assert [key.split("-")[1] for key in found] == kept
        assert found_keys(storage, kind, Query({"container_id": "box"})) == []
