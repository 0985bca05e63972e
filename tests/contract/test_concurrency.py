from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain
from typing import Any

import pytest

from agentx_persistence import ImageMetadata, Persistence, RecordNotFoundError, UserMessage
from tests.backends.backend import SHARED, Backend
from tests.contract.records import image, message, saved_session, session, texts
from tests.processes import prepared

_PROCESSES = 4
_APPENDS = 500
# The server that stands for MongoDB reads all messages for some queries.
_APPENDS_ON = {"mongodb": 150}


def in_processes(work: Callable[..., Any], *arguments: tuple[Any, ...]) -> list[Any]:
    """Run `work` in one new process for each tuple of arguments, all at once."""
    with prepared().Pool(len(arguments)) as pool:
        return pool.starmap(work, arguments)


def _append(backend: Backend, writer: int) -> list[int]:
    with backend.open() as persistence:
        return [
            persistence.sessions.add_message("session", message(f"{writer}:{number}"))
            for number in range(_APPENDS_ON.get(backend.name, _APPENDS))
        ]


def check_history(persistence: Persistence, positions: dict[int, list[int]]) -> None:
    """Every message is there once, where its writer was told, in its writer's order."""
    history = texts(persistence)
    total = sum(map(len, positions.values()))
    assert persistence.sessions.count_messages("session") == len(history) == total
    assert sorted(chain.from_iterable(positions.values())) == list(range(1, total + 1))
    for writer, given in positions.items():
        assert given == sorted(given)
        assert [history[position - 1] for position in given] == [
            f"{writer}:{number}" for number in range(len(given))
        ]


@pytest.mark.needs(SHARED)
def test_processes_that_append_to_one_session_lose_nothing(backend: Backend) -> None:
    with backend.open() as persistence:
        saved_session(persistence)
        given = in_processes(_append, *((backend, writer) for writer in range(_PROCESSES)))
        check_history(persistence, dict(enumerate(given)))


def test_threads_that_append_to_one_session_lose_nothing(persistence: Persistence) -> None:
    saved_session(persistence)

    def append(writer: int) -> list[int]:
        return [
            persistence.sessions.add_message("session", message(f"{writer}:{number}"))
            for number in range(100)
        ]

    with ThreadPoolExecutor(8) as threads:
        check_history(persistence, dict(enumerate(threads.map(append, range(8)))))


def _append_batches(backend: Backend, writer: int) -> list[list[int]]:
    with backend.open() as persistence:
        return [
            persistence.sessions.add_messages(
                "session", [message(f"{writer}:{batch}") for _ in range(10)]
            )
            for batch in range(30)
        ]


@pytest.mark.needs(SHARED)
def test_batches_of_two_processes_are_neither_torn_nor_interleaved(backend: Backend) -> None:
    with backend.open() as persistence:
        saved_session(persistence)
        given = in_processes(_append_batches, (backend, 0), (backend, 1))
        history = texts(persistence)
    assert len(history) == 600
    for writer, batches in enumerate(given):
        for batch, positions in enumerate(batches):
            assert positions == list(range(positions[0], positions[0] + 10))
            assert {history[p - 1] for p in positions} == {f"{writer}:{batch}"}


@pytest.mark.needs(SHARED)
def test_a_reader_never_sees_an_empty_or_shorter_history(backend: Backend) -> None:
    with backend.open() as persistence:
        saved_session(persistence)
        persistence.sessions.add_messages("session", [message("0:first")])
        ended = threading.Event()
        seen: list[int] = []
        wrong: list[str] = []

        def poll() -> None:
            while not ended.is_set():
                history = texts(persistence)
                count = persistence.sessions.count_messages("session")
                if (seen and len(history) < seen[-1]) or count < len(history):
                    wrong.append(f"{seen[-1:]} then {len(history)} of {count}")
                seen.append(len(history))

        reader = threading.Thread(target=poll)
        reader.start()
        try:
            in_processes(_append_batches, (backend, 1), (backend, 2))
        finally:
            ended.set()
            reader.join()
    assert wrong == []
    assert len(seen) > 3


def test_the_same_message_from_many_threads_is_there_once(persistence: Persistence) -> None:
    saved_session(persistence)
    sent = [message(str(number)) for number in range(20)]

    def append(_: int) -> list[int]:
        return [persistence.sessions.add_message("session", m) for m in sent]

    with ThreadPoolExecutor(8) as threads:
        given = list(threads.map(append, range(8)))
    assert all(positions == given[0] for positions in given)
    assert sorted(given[0]) == list(range(1, 21))
    assert persistence.sessions.count_messages("session") == 20


def test_metadata_changed_by_many_threads_loses_no_key(persistence: Persistence) -> None:
    persistence.images.save(image("i", metadata=ImageMetadata(first=0)))

    def change(writer: int) -> None:
        for number in range(15):
            persistence.images.update_metadata("i", {f"{writer}:{number}": number})

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(change, range(6)))
    metadata = persistence.images.get("i").metadata
    assert metadata is not None
    assert len(metadata.model_extra or {}) == 6 * 15 + 1


def test_records_renamed_by_many_threads_are_found_only_where_they_now_are(
    persistence: Persistence,
) -> None:
    names = ["red", "green", "blue"]

    def rename(writer: int) -> None:
        for number in range(20):
            persistence.images.save(image(f"i{number % 4}", name=names[(writer + number) % 3]))

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(rename, range(6)))
    everything = {i.image_id: i.name for i in persistence.images.find_all()}
    assert set(everything) == {"i0", "i1", "i2", "i3"}
    for name in names:
        found = {i.image_id for i in persistence.images.find_all(name=name)}
        assert found == {id for id, its in everything.items() if its == name}


def test_appending_beside_saving_loses_neither(persistence: Persistence) -> None:
    saved_session(persistence)

    def append(_: int) -> None:
        for _ in range(50):
            persistence.sessions.add_message("session", message())

    def save(writer: int) -> None:
        for number in range(50):
            persistence.sessions.save(session(container_id=f"box {writer}", note=number))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda work: work(1), [append, save, append, save]))
    assert persistence.sessions.count_messages("session") == 100
    assert len(persistence.sessions.get_messages("session")) == 100
    assert len(persistence.sessions.find_all(image_id="image")) == 1


def test_appending_beside_deleting_leaves_all_or_nothing(persistence: Persistence) -> None:
    for number in range(10):
        id = saved_session(persistence, f"s{number}")

        def append(id: str = id) -> None:
            try:
                for _ in range(20):
                    persistence.sessions.add_message(id, message())
            except LookupError:
                return

        writer = threading.Thread(target=append)
        writer.start()
        persistence.sessions.delete(id)
        writer.join()
        assert not persistence.sessions.exists(id)
        persistence.sessions.save(session(id))
        assert persistence.sessions.get_messages(id) == []


def test_appending_beside_truncating_leaves_no_gap(persistence: Persistence) -> None:
    saved_session(persistence)
    anchor = message("anchor")
    persistence.sessions.add_message("session", anchor)
    ended = threading.Event()

    def truncate() -> None:
        while not ended.is_set():
            persistence.sessions.truncate_after("session", anchor.id)

    cutter = threading.Thread(target=truncate)
    cutter.start()
    try:
        for _ in range(100):
            persistence.sessions.add_messages("session", [message(), message()])
    finally:
        ended.set()
        cutter.join()
    history = persistence.sessions.get_messages("session")
    assert len(history) == persistence.sessions.count_messages("session")
    assert history[0] == anchor
    assert isinstance(anchor, UserMessage)
    assert persistence.sessions.add_message("session", message()) == len(history) + 1


def test_64_threads_finish(persistence: Persistence) -> None:
    saved_session(persistence)

    def work(number: int) -> int:
        persistence.images.save(image(f"i{number}"))
        return persistence.sessions.add_message("session", message())

    with ThreadPoolExecutor(64) as threads:
        assert sorted(threads.map(work, range(128))) == list(range(1, 129))


def test_a_record_that_moves_is_in_each_listing_once(persistence: Persistence) -> None:
    for number in range(6):
        persistence.images.save(image(f"i{number}", created_at=number))
    ended = threading.Event()

    def move() -> None:
        there = True
        while not ended.is_set():
            there = not there
            persistence.images.save(image("i3", created_at=3 if there else -1))
            persistence.images.save(image("i0", created_at=9 if there else 0))

    mover = threading.Thread(target=move)
    mover.start()
    try:
        for _ in range(100):
            found = [i.image_id for i in persistence.images.find_all(container_id="box")]
            assert sorted(found) == [f"i{number}" for number in range(6)]
    finally:
        ended.set()
        mover.join()


def test_what_is_behind_a_message_is_of_the_history_that_has_it(persistence: Persistence) -> None:
    saved_session(persistence)
    sessions = persistence.sessions
    sessions.add_message("session", message("anchor", id="anchor"))
    ended = threading.Event()

    def go_on_otherwise() -> None:
        number = 0
        while not ended.is_set():
            number += 1
            sessions.truncate_after("session", "anchor")
            ids = ["anchor", *(f"{number} {step}" for step in "abc")]
            sessions.add_messages(
                "session", [message(id=id, parent_id=ids[at]) for at, id in enumerate(ids[1:])]
            )

    writer = threading.Thread(target=go_on_otherwise)
    writer.start()
    try:
        for _ in range(150):
            with suppress(RecordNotFoundError):  # it may have been cut off
                known = sessions.get_messages("session", last=3)[0]
                for behind in sessions.get_messages("session", after=known.id)[:1]:
                    assert behind.parent_id == known.id
                for ahead in sessions.get_messages("session", before=known.id, last=1):
                    assert ahead.id == known.parent_id
    finally:
        ended.set()
        writer.join()
