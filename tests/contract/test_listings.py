"""Orders, bounds, cursors, counts, and several records at once."""

from __future__ import annotations

import random
import threading
import time
from typing import Any

import pytest

from agentx_persistence import InvalidRecordError, Persistence
from tests.contract import hostile
from tests.contract.records import container, ids_of, image, item, message, session, walk

RECORDS = {
    "containers": (container, "container_id"),
    "images": (image, "image_id"),
    "sessions": (session, "session_id"),
}
TIMES = {
    "b": 5,
    "a": 5,
    "Z": 5,
    "🙂": 5,
    "\uffee": 5,
    "é": 5,
    "old": -3,
    "mid": 4,
    "new": 2**53 - 1,
}


@pytest.mark.parametrize("kind", RECORDS)
def test_the_oldest_come_in_exactly_the_reverse_order_of_the_newest(
    persistence: Persistence, kind: str
) -> None:
    repository, (make, _) = getattr(persistence, kind), RECORDS[kind]
    for id, created_at in TIMES.items():
        repository.save(make(id, created_at=created_at))
    newest = sorted(TIMES, key=lambda id: (-TIMES[id], id))
    assert ids_of(repository.find_all(order="newest")) == newest
    assert ids_of(repository.find_all(order="oldest")) == newest[::-1]
    assert ids_of(repository.find_all(order="oldest", limit=4)) == newest[:-5:-1]
    for size in (1, 2, 9):
        assert ids_of(walk(repository, size, order="oldest")) == newest[::-1]


@pytest.mark.parametrize("kind", RECORDS)
def test_bounds_take_what_is_since_and_leave_what_is_until(
    persistence: Persistence, kind: str
) -> None:
    repository, (make, _) = getattr(persistence, kind), RECORDS[kind]
    for id, created_at in TIMES.items():
        repository.save(make(id, created_at=created_at))
    newest = sorted(TIMES, key=lambda id: (-TIMES[id], id))
    for since in (None, -3, -2, 4, 5, 6, 2**53 - 1):
        for until in (None, -3, 4, 5, 6, 2**53 - 1):
            expected = [
                id
                for id in newest
                if (since is None or since <= TIMES[id]) and (until is None or TIMES[id] < until)
            ]
            asked = {"since": since, "until": until}
            assert ids_of(repository.find_all(**asked)) == expected, asked
            assert ids_of(repository.find_all(order="oldest", **asked)) == expected[::-1], asked
            assert ids_of(repository.find_all(limit=2, **asked)) == expected[:2], asked
    asked = {"since": 4, "until": 6}
    for order, expected in (("newest", newest[1:-1]), ("oldest", newest[-2:0:-1])):
        assert ids_of(walk(repository, 2, order=order, **asked)) == expected


def test_bounds_and_orders_go_with_filters(persistence: Persistence) -> None:
    for number in range(12):
        box, name = "ab"[number % 2], "xyz"[number % 3]
        persistence.images.save(
            image(f"i{number:02}", container_id=box, name=name, created_at=number // 2)
        )
        persistence.sessions.save(
            session(f"s{number:02}", container_id=box, image_id=name, created_at=number // 2)
        )
    for filters in ({}, {"box": "a"}, {"name": "x"}, {"box": "a", "name": "x"}):
        numbers = [
            number
            for number in range(12)
            if filters.get("box", "ab"[number % 2]) == "ab"[number % 2]
            and filters.get("name", "xyz"[number % 3]) == "xyz"[number % 3]
            and 1 <= number // 2 < 5
        ]
        numbers.sort(key=lambda number: (-(number // 2), number))
        for kind, named in (("images", "name"), ("sessions", "image_id")):
            repository = getattr(persistence, kind)
            asked = {{"box": "container_id", "name": named}[k]: v for k, v in filters.items()}
            expected = [f"{kind[0]}{number:02}" for number in numbers]
            bounds = {"since": 1, "until": 5, **asked}
            assert ids_of(repository.find_all(**bounds)) == expected
            assert ids_of(walk(repository, 2, order="oldest", **bounds)) == expected[::-1]
            assert repository.count(**asked) == len(repository.find_all(**asked))


@pytest.mark.parametrize("kind", RECORDS)
@pytest.mark.parametrize(
    "wrong",
    [
        {"order": "Newest"},
        {"order": ""},
        {"order": None},
        {"order": "key"},
        {"since": "yesterday"},
        {"since": 1.5},
        {"until": True},
        {"until": 2**53},
    ],
    ids=str,
)
def test_a_wrong_order_or_bound_is_refused(
    persistence: Persistence, kind: str, wrong: dict[str, Any]
) -> None:
    repository = getattr(persistence, kind)
    for call in (repository.find_all, repository.find_page):
        with pytest.raises(InvalidRecordError) as raised:
            call(**wrong)
        assert raised.value.field == next(iter(wrong))


def test_a_cursor_of_another_order_is_refused(persistence: Persistence) -> None:
    sessions, items = persistence.sessions, persistence.items
    for number in range(3):
        sessions.save(session(f"s{number}", created_at=number))
        items.save(item(key=f"k{number}", created_at=number))
    cursors = {
        order: sessions.find_page(container_id="box", order=order, size=1).next_cursor
        for order in ("newest", "oldest", "active")
    }
    space = ("box", "state")
    cursors["key"] = items.find_page(namespace=space, size=1).next_cursor
    assert None not in cursors.values()
    assert len(set(cursors.values())) == 4
    for of, cursor in cursors.items():
        for order in ("newest", "oldest", "active"):
            if order != of:
                with pytest.raises(InvalidRecordError) as raised:
                    sessions.find_page(container_id="box", order=order, cursor=cursor)
                assert raised.value.field == "cursor"
    for order in ("key", "newest", "oldest"):
        with pytest.raises(InvalidRecordError):
            items.find_page(namespace=space, order=order, cursor=cursors["active"])


@pytest.mark.parametrize("cursor", ["", "x", "é", 5, "WzEsMl0", "bnVsbA", "[]", b"x", "=" * 9])
def test_what_is_no_cursor_is_refused(persistence: Persistence, cursor: Any) -> None:
    for repository, asked in (
        (persistence.containers, {}),
        (persistence.sessions, {"container_id": "box", "order": "active"}),
        (persistence.items, {"namespace": ("box",)}),
    ):
        with pytest.raises(InvalidRecordError) as raised:
            repository.find_page(cursor=cursor, **asked)  # type: ignore[attr-defined]
        assert raised.value.field == "cursor"


def test_a_cursor_goes_with_any_size_and_survives_what_it_points_at(
    persistence: Persistence,
) -> None:
    for number in range(9):
        persistence.images.save(image(f"i{number}", created_at=number // 2))
    everything = ids_of(persistence.images.find_all())
    first = persistence.images.find_page(size=3)
    persistence.images.delete(first.items[-1].image_id)
    second = persistence.images.find_page(size=1, cursor=first.next_cursor)
    rest = persistence.images.find_page(size=50, cursor=second.next_cursor)
    assert ids_of([*first.items, *second.items, *rest.items]) == everything
    assert rest.next_cursor is None
    again = persistence.images.find_page(size=1, cursor=first.next_cursor)
    assert again == second


@pytest.mark.parametrize("kind", RECORDS)
def test_counting(persistence: Persistence, kind: str) -> None:
    repository, (make, _) = getattr(persistence, kind), RECORDS[kind]
    assert repository.count() == 0
    for number in range(7):
        repository.save(make(f"r{number}"))
    repository.save(make("r0", note="again"))
    assert repository.count() == 7
    repository.delete("r3")
    assert repository.count() == 6


def test_counting_by_filters_follows_what_moves(persistence: Persistence) -> None:
    images, sessions = persistence.images, persistence.sessions
    for number in range(4):
        images.save(image(f"i{number}", container_id="ab"[number % 2]))
        sessions.save(session(f"s{number}", container_id="ab"[number % 2], image_id="i0"))
        sessions.add_message(f"s{number}", message())
    assert [images.count(container_id=box) for box in "abc"] == [2, 2, 0]
    assert images.count(name="plan") == 4
    assert images.count(container_id="a", name="Plan") == 0
    images.update("i0", {"container_id": "b", "name": "Plan"})
    assert [images.count(container_id=box) for box in "abc"] == [1, 3, 0]
    assert images.count(container_id="b", name="Plan") == 1
    assert sessions.count(container_id="a", image_id="i0") == 2
    assert persistence.containers.delete("a") is False
    assert [sessions.count(container_id=box) for box in "abc"] == [0, 2, 0]
    assert sessions.count(image_id="i0") == 2


@pytest.mark.parametrize("kind", RECORDS)
def test_several_records_at_once_come_in_the_order_that_was_asked(
    persistence: Persistence, kind: str
) -> None:
    repository, (make, _) = getattr(persistence, kind), RECORDS[kind]
    records = {f"r{number}": make(f"r{number}", note=number) for number in range(60)}
    for record in records.values():
        repository.save(record)
    asked = ["r7", "absent", "r59", "r7", "r0", "R0"]
    found = repository.find_many(asked)
    assert list(found) == ["r7", "r59", "r0"]
    assert found == {id: records[id] for id in found}
    assert repository.find_many([]) == {}
    assert repository.find_many(["absent"]) == {}
    assert repository.find_many(id for id in ["r1"]) == {"r1": records["r1"]}
    assert repository.find_many(records) == records
    for wrong in ("r1", None, 5, [""], ["r1", None], [b"r1"]):
        with pytest.raises(InvalidRecordError):
            repository.find_many(wrong)


def test_several_records_at_once_by_hostile_ids(persistence: Persistence) -> None:
    for id in hostile.IDS[::2]:
        persistence.sessions.save(session(id))
        persistence.sessions.add_message(id, message(id))
    found = persistence.sessions.find_many(hostile.IDS)
    assert list(found) == hostile.IDS[::2]
    assert [s.session_id for s in found.values()] == hostile.IDS[::2]
    summaries = persistence.sessions.summaries(hostile.IDS)
    assert list(summaries) == hostile.IDS[::2]
    for id, summary in summaries.items():
        assert summary.message_count == 1
        assert summary.last_message.content == id  # type: ignore[union-attr]


@pytest.mark.parametrize("order", ["newest", "oldest", "active"])
def test_pages_beside_writers_skip_and_repeat_nothing_that_stays(
    persistence: Persistence, order: str
) -> None:
    """Others are saved, moved, deleted and written to, between and at the same places."""
    sessions = persistence.sessions
    time_of = "updated_at" if order == "active" else "created_at"
    staying = [f"stays {number:02}" for number in range(20)]
    for number, id in enumerate(staying):
        sessions.save(session(id, **{time_of: 1000 * (number // 3)}))
    ended = threading.Event()
    wrong: list[BaseException] = []
    written = 0

    def write() -> None:
        nonlocal written
        chance = random.Random(7)
        try:
            while not ended.is_set():
                written += 1
                id, at = f"stays {chance.randrange(20):02} not", 1000 * chance.randrange(7)
                box = chance.choice(["box", "box", "other"])
                sessions.save(session(id, container_id=box, **{time_of: at}))
                if chance.random() < 0.3:
                    sessions.add_message(id, message())
                if chance.random() < 0.3:
                    sessions.delete(id)
        except BaseException as error:
            wrong.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        walks, deadline = 0, time.monotonic() + 60
        while (walks < 3 or written < 40) and not wrong:
            assert time.monotonic() < deadline, f"{walks} walks, {written} writes"
            found = ids_of(walk(sessions, 3, container_id="box", order=order))
            kept = [id for id in found if id in staying]
            expected = sorted(staying, key=lambda id: (-(int(id[-2:]) // 3), id))
            assert kept == (expected[::-1] if order == "oldest" else expected)
            walks += 1
    finally:
        ended.set()
        writer.join()
    assert wrong == []
