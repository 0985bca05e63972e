"""Processes that die between two steps, and what overtakes them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, cast

import pytest

from agentx_persistence import ItemRecord, Persistence
from agentx_persistence._redis.keys import Keys
from agentx_persistence._redis.scripts import JOURNALLED_PUT
from tests.backends.backend import Backend
from tests.backends.redis import connected
from tests.contract.records import image, message, saved_session, session


class _Died(BaseException):
    """Stands for the end of the process."""


def dying(backend: Backend, after: int) -> Persistence:
    """Open the store for a process that dies after so many calls to Redis."""
    persistence = backend.open()
    connection = cast(Any, persistence.sessions)._storage._connection
    attempt, left = connection._attempt, [after]

    def counting(*arguments: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise _Died
        return attempt(*arguments, **options)

    connection._attempt = counting
    return persistence


def die_in(backend: Backend, after: int, work: Callable[[Persistence], object]) -> bool:
    """Run the work in a process that dies after so many calls; tell whether it did."""
    with dying(backend, after) as persistence:
        try:
            work(persistence)
        except _Died:
            return True
    return False


def check_found_where_it_is(persistence: Persistence, expected: set[str | None]) -> None:
    """The image has one of the expected names, and is found by that and by nothing else."""
    found = persistence.images.find("i")
    name = found and found.name
    assert name in expected
    everything = [] if found is None else [found]
    assert persistence.images.find_all() == everything
    assert persistence.images.find_all(container_id="box") == everything
    for other in ("old", "new"):
        assert persistence.images.find_all(name=other) == (everything if other == name else [])
        assert persistence.images.find_all(name=other, container_id="box") == (
            everything if other == name else []
        )


def raw_keys(backend: Backend) -> list[bytes]:
    options = {**backend.options}
    base = options.pop("base")
    with connected(*backend.arguments, **options) as client:
        return list(client.scan_iter(f"{base}:*", count=1000))


@pytest.fixture(params=["redis", "redis_cluster"])
def either(request: pytest.FixtureRequest) -> Backend:
    backend: Backend = request.getfixturevalue(f"{request.param}_backend")
    return backend


@pytest.mark.parametrize("created_at", [1, 2], ids=["renamed", "renamed and moved"])
def test_a_save_that_is_interrupted_anywhere_leaves_the_old_or_the_new_record(
    either: Backend, created_at: int
) -> None:
    steps, died = 0, True
    new = image("i", name="new", created_at=created_at)
    while died:
        with either.open() as persistence:
            persistence.images.save(image("i", name="old", created_at=1))
        died = die_in(either, steps, lambda persistence: persistence.images.save(new))
        with either.open() as persistence:
            check_found_where_it_is(persistence, {"old", "new"})
            persistence.images.save(new)
            check_found_where_it_is(persistence, {"new"})
            persistence.containers.delete("box")
        assert raw_keys(either) == []
        steps += 1
    assert steps > 1


def test_a_first_save_that_is_interrupted_anywhere_leaves_all_or_nothing(either: Backend) -> None:
    steps, died = 0, True
    new = image("i", name="new")
    while died:
        died = die_in(either, steps, lambda persistence: persistence.images.save(new))
        with either.open() as persistence:
            check_found_where_it_is(persistence, {None, "new"})
            persistence.images.delete("i")
            check_found_where_it_is(persistence, {None})
        assert raw_keys(either) == []
        steps += 1
    assert steps > 1


def test_a_deletion_that_is_interrupted_anywhere_can_be_repeated(either: Backend) -> None:
    steps, died = 0, True
    while died:
        with either.open() as persistence:
            persistence.images.save(image("i", name="old"))
            saved_session(persistence)
            persistence.sessions.save(session(image_id="i"))
            persistence.sessions.add_message("session", message())
            # Only the image tells that this one goes with the container.
            persistence.sessions.save(session("away", image_id="i", container_id="other"))
            persistence.items.save(ItemRecord(namespace=("box", "n"), key="k", value=1))
        died = die_in(either, steps, lambda persistence: persistence.containers.delete("box"))
        with either.open() as persistence:
            persistence.containers.delete("box")
            assert persistence.sessions.find_all() == []
            # An entry that is left in the index of another owner is removed by listing it.
            assert persistence.sessions.find_all(container_id="other") == []
        assert raw_keys(either) == []
        steps += 1
    assert steps > 2


def test_a_save_that_a_reader_overtakes_is_not_lost(
    redis_cluster_backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    with redis_cluster_backend.open() as writer, redis_cluster_backend.open() as reader:
        connection = cast(Any, writer.sessions)._storage._connection
        script, overtaken = connection.script, []

        def read_first(which: object, *arguments: Any) -> Any:
            if which is JOURNALLED_PUT and len(overtaken) < 3:
                overtaken.append(reader.images.find_all(name="new"))
            return script(which, *arguments)

        monkeypatch.setattr(connection, "script", read_first)
        writer.images.save(image("i", name="new"))
        assert overtaken == [[], [], []]
        check_found_where_it_is(reader, {"new"})
        reader.images.delete("i")
    assert raw_keys(redis_cluster_backend) == []


@pytest.mark.parametrize("moving", [0, 1], ids=["renamed", "renamed and moved"])
def test_a_record_stays_listed_while_another_process_changes_it(
    either: Backend, moving: int
) -> None:
    with either.open() as writer, either.open() as reader:
        writer.images.save(image("i", name="0", created_at=1))
        ended = threading.Event()

        def change() -> None:
            try:
                for number in range(200):
                    writer.images.save(
                        image("i", name=f"{number % 5}", created_at=1 + moving * (number % 7))
                    )
            finally:
                ended.set()

        thread = threading.Thread(target=change)
        thread.start()
        seen: set[str | None] = set()
        while not ended.is_set():
            (found,) = reader.images.find_all(container_id="box")
            seen.add(found.name)
        thread.join()
        assert len(seen) > 1
        assert reader.images.find_all() == [reader.images.get("i")]
        reader.images.delete("i")
    assert raw_keys(either) == []


def test_an_append_that_dies_before_the_index_of_active_sessions_is_repaired(
    redis_cluster_backend: Backend,
) -> None:
    backend = redis_cluster_backend
    options = {**backend.options}
    index = Keys(options.pop("base")).active("box")

    def seconds() -> list[int]:
        with connected(*backend.arguments, **options) as client:
            return [-int(score) for _, score in client.zrange(index, 0, -1, withscores=True)]

    with backend.open() as persistence:
        for number in range(3):
            saved_session(persistence, f"s{number}")
            record = session(f"s{number}", updated_at=1000 * (number + 1))
            persistence.sessions.save(record)
        assert seconds() == [3, 2, 1]
        assert die_in(backend, 1, lambda p: p.sessions.add_message("s0", message("kept")))
        assert seconds() == [3, 2, 1]
        active = persistence.sessions.find_all(container_id="box", order="active")
        assert {found.session_id for found in active} == {"s0", "s1", "s2"}
        active = persistence.sessions.find_all(container_id="box", order="active")
        assert [found.session_id for found in active] == ["s0", "s2", "s1"]
        assert seconds()[0] == active[0].updated_at // 1000
        assert die_in(backend, 1, lambda p: p.sessions.add_message("s1", message("kept")))
        time.sleep(1.1 - time.time() % 1)  # until the next second
        persistence.sessions.add_message("s1", message("again"))
        assert len(seconds()) == 3
        assert seconds().count(2) == 0
        persistence.containers.delete("box")
    assert raw_keys(backend) == []
