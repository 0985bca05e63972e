from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from agentx_persistence import Persistence, PersistenceClosedError, create_persistence
from agentx_persistence.storage import _forking
from tests.backends.backend import SHARED, Backend
from tests.contract.records import container, image, item, message, saved_session, session, texts
from tests.drivers.killing import exit_status, in_child


def test_no_driver_means_memory() -> None:
    with create_persistence() as persistence:
        persistence.containers.save(container())
        assert persistence.containers.exists("box")
    with create_persistence() as another:
        assert not another.containers.exists("box")


def test_an_open_persistence_answers(persistence: Persistence) -> None:
    assert persistence.ping() is None


@pytest.mark.needs(SHARED)
def test_what_was_written_is_there_when_it_is_opened_again(backend: Backend) -> None:
    records = [container(), image("i", name="é\x00"), session("session", image_id="i")]
    with backend.open() as persistence:
        persistence.containers.save(records[0])
        persistence.images.save(records[1])
        persistence.sessions.save(records[2])
        first = message("first")
        persistence.sessions.add_message("session", first)
    with backend.open() as persistence:
        assert persistence.containers.get("box") == records[0]
        assert persistence.images.find_all(name="é\x00") == [records[1]]
        assert persistence.sessions.add_message("session", first) == 1
        assert persistence.sessions.add_message("session", message("second")) == 2
    with backend.open() as persistence:
        assert texts(persistence) == ["first", "second"]


def test_after_closing_every_call_says_so(backend: Backend) -> None:
    persistence = backend.open()
    saved_session(persistence)
    persistence.sessions.add_message("session", message())
    iterator = persistence.sessions.iter_messages("session")
    containers, images, sessions, items = (
        persistence.containers,
        persistence.images,
        persistence.sessions,
        persistence.items,
    )
    space = ("box", "state")
    persistence.close()
    persistence.close()
    for call in (
        persistence.ping,
        lambda: containers.save(container()),
        lambda: containers.get("box"),
        lambda: images.find("i"),
        lambda: images.find_all(name="plan"),
        lambda: images.find_page(),
        lambda: images.update_metadata("i", {}),
        lambda: images.exists("i"),
        lambda: images.delete("i"),
        lambda: sessions.find_by_image("i"),
        lambda: sessions.add_message("session", message()),
        lambda: sessions.add_messages("session", [message(), message()]),
        lambda: sessions.get_messages("session"),
        lambda: sessions.iter_messages("session"),
        lambda: sessions.count_messages("session"),
        lambda: sessions.clear_messages("session"),
        lambda: sessions.truncate_after("session", "m"),
        lambda: containers.create(container()),
        lambda: containers.count(),
        lambda: images.update("i", {"name": "new"}),
        lambda: sessions.update("session", lambda old: old),
        lambda: sessions.find_many(["session"]),
        lambda: sessions.find_all(container_id="box", order="active"),
        lambda: sessions.summaries(["session"]),
        lambda: sessions.get_message("session", "m"),
        lambda: sessions.find_message("session", "m"),
        lambda: sessions.add_message("new", message(), create=session("new"), expected=0),
        lambda: sessions.rewrite("session", after=None, messages=[message()]),
        lambda: sessions.pop_message("session"),
        lambda: sessions.replace_message("session", message()),
        lambda: sessions.fork("session", session("new")),
        lambda: items.save(item()),
        lambda: items.create(item()),
        lambda: items.update(space, "key", {}),
        lambda: items.get(space, "key"),
        lambda: items.find(space, "key"),
        lambda: items.find_many([(space, "key")]),
        lambda: items.exists(space, "key"),
        lambda: items.delete(space, "key"),
        lambda: items.find_all(namespace=space),
        lambda: items.find_page(namespace_prefix=space),
        lambda: items.count(namespace=space),
    ):
        with pytest.raises(PersistenceClosedError):
            call()
    assert next(iterator) is not None
    with pytest.raises(PersistenceClosedError):
        next(iterator)


def test_closing_during_use_ends_the_others_without_a_hang(backend: Backend) -> None:
    persistence = backend.open()
    saved_session(persistence)
    ends: list[BaseException] = []

    def work() -> None:
        try:
            while True:
                persistence.sessions.add_message("session", message())
        except BaseException as error:
            ends.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    persistence.close()
    for thread in threads:
        thread.join(30)
    assert [type(error) for error in ends] == [PersistenceClosedError] * 4


@pytest.mark.needs(SHARED)
def test_nothing_keeps_the_process_alive(backend: Backend) -> None:
    program = (
        "import pickle, sys; backend = pickle.load(sys.stdin.buffer); p = backend.open();"
        "p.containers.find_all(); print('open')"
    )
    import pickle

    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        input=pickle.dumps(backend),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout.strip()) == (0, b"open"), ended.stderr.decode()


@pytest.mark.needs(SHARED)
def test_parent_and_forked_children_go_on_with_the_same_persistence(
    persistence: Persistence,
) -> None:
    saved_session(persistence)
    persistence.sessions.add_message("session", message("parent 0"))

    def child() -> None:
        for _ in range(20):
            persistence.sessions.add_message("session", message("child"))
        assert "parent 0" in texts(persistence)

    assert [exit_status(in_child(child)) for _ in range(3)] == [0, 0, 0]
    persistence.sessions.add_message("session", message("parent 1"))
    history = texts(persistence)
    assert (history[0], history[-1], history.count("child")) == ("parent 0", "parent 1", 60)


@pytest.mark.needs(SHARED)
def test_a_child_goes_on_after_its_parent_has_closed(backend: Backend) -> None:
    """What others do meanwhile must not take the files of an index from it."""
    steps, told = os.pipe()
    persistence = backend.open()
    saved_session(persistence)
    persistence.images.save(image("of the parent"))
    assert persistence.images.count() == 1

    def child() -> None:
        persistence.images.save(image("child 0"))
        os.read(steps, 1)
        for number in range(1, 5):
            persistence.images.save(image(f"child {number}"))
            persistence.sessions.add_message("session", message(str(number)))
        assert persistence.images.count() == 7

    pid = in_child(child)
    deadline = time.monotonic() + 20
    while not persistence.images.exists("child 0") and time.monotonic() < deadline:
        time.sleep(0.02)
    persistence.close()
    with backend.open() as other:
        other.images.save(image("of another"))
    os.write(told, b".")
    assert exit_status(pid) == 0
    with backend.open() as other:
        assert other.images.count() == len(other.images.find_all()) == 7
        assert texts(other) == ["1", "2", "3", "4"]
    os.close(steps)
    os.close(told)


@pytest.mark.needs(SHARED)
@pytest.mark.parametrize("interrupts", [1, 2])
# Python tells of what a hook raises, and goes on.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_child_that_is_interrupted_at_its_start_uses_no_connection_of_its_parent(
    persistence: Persistence, monkeypatch: pytest.MonkeyPatch, interrupts: int
) -> None:
    """Ctrl-C in a terminal meets the child, too."""
    left = iter(range(interrupts))

    def interrupted(renew: Callable[[], None]) -> None:
        for _ in left:
            raise KeyboardInterrupt
        renew()

    for thing in _forking._things():
        monkeypatch.setattr(thing, "after_fork", partial(interrupted, thing.after_fork))
    saved_session(persistence)

    def append() -> None:
        for _ in range(20):
            persistence.sessions.add_message("session", message())
        assert len(texts(persistence)) >= 20

    child = in_child(append)
    append()
    assert exit_status(child) == 0
    assert len(texts(persistence)) == persistence.sessions.count_messages("session") == 40


def _append_in_new_threads(persistence: Persistence) -> None:
    # They may have the ids of the parent's threads.
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: persistence.sessions.add_message("child", message()), range(8)))


def test_a_child_forked_while_threads_write_can_go_on(persistence: Persistence) -> None:
    saved_session(persistence)
    saved_session(persistence, "child")
    ended = threading.Event()

    def write() -> None:
        while not ended.is_set():
            persistence.sessions.add_message("session", message())

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            assert exit_status(in_child(lambda: _append_in_new_threads(persistence))) == 0
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    history = persistence.sessions.get_messages("session")
    assert len(history) == persistence.sessions.count_messages("session")
