"""What waits for what on SQLite, and for how long."""

from __future__ import annotations

import math
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from agentx_persistence import (
    BackendError,
    BackendUnavailableError,
    InvalidRecordError,
    Persistence,
    create_persistence,
)
from agentx_persistence.sqlite import sqlite_driver
from tests.contract.records import message, saved_session, texts


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agentx.db"


@pytest.fixture
def persistence(path: Path) -> Iterator[Persistence]:
    with create_persistence(sqlite_driver(path, timeout=1.0)) as persistence:
        saved_session(persistence)
        yield persistence


@contextmanager
def _another_writer(path: Path) -> Iterator[None]:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


@contextmanager
def _waiting(persistence: Persistence, threads: int) -> Iterator[list[float]]:
    """Have this many threads wait for the other writer; yield how long each of them did."""
    waited: list[float] = []

    def wait() -> None:
        started = time.monotonic()
        with pytest.raises(BackendUnavailableError, match=r"locked|other threads"):
            persistence.sessions.add_message("session", message())
        waited.append(time.monotonic() - started)

    running = [threading.Thread(target=wait) for _ in range(threads)]
    for thread in running:
        thread.start()
    time.sleep(0.1)
    yield waited
    for thread in running:
        thread.join()


def _seconds(call: Callable[[], object]) -> float:
    started = time.monotonic()
    call()
    return time.monotonic() - started


def test_each_of_many_waiters_has_a_deadline_of_its_own(
    persistence: Persistence, path: Path
) -> None:
    with _another_writer(path), _waiting(persistence, 6) as waited:
        pass
    assert len(waited) == 6
    assert 0.9 < min(waited) < max(waited) < 2.5
    assert persistence.sessions.add_message("session", message()) == 1


def test_a_writer_waits_for_those_of_its_own_process_no_longer_than_the_time_out(
    persistence: Persistence,
) -> None:
    database: Any = persistence._storage._database  # type: ignore[attr-defined]
    inside, leave = threading.Event(), threading.Event()
    holder = threading.Thread(
        target=lambda: database.write(lambda cursor: (inside.set(), leave.wait(10)))
    )
    holder.start()
    assert inside.wait(5)
    started = time.monotonic()
    with pytest.raises(BackendUnavailableError, match="other threads"):
        persistence.sessions.add_message("session", message())
    assert 0.9 < time.monotonic() - started < 1.5
    assert _seconds(lambda: texts(persistence)) < 0.3
    assert 0.9 < _seconds(persistence.close) < 1.5
    leave.set()
    holder.join()


def test_a_time_out_may_be_infinite(path: Path) -> None:
    with create_persistence(sqlite_driver(path, timeout=math.inf)) as persistence:
        saved_session(persistence)
        assert persistence.sessions.add_message("session", message()) == 1


def test_reading_and_forking_wait_for_no_writer(persistence: Persistence, path: Path) -> None:
    def fork() -> None:
        child = os.fork()
        if not child:
            os._exit(0)
        os.waitpid(child, 0)

    with _another_writer(path), _waiting(persistence, 3):
        assert _seconds(lambda: texts(persistence)) < 0.3
        assert _seconds(fork) < 0.6
        with create_persistence(sqlite_driver(path)) as another:
            assert _seconds(lambda: texts(another)) < 0.3


def test_a_child_that_is_forked_while_others_wait_works(
    persistence: Persistence, path: Path
) -> None:
    with _another_writer(path), _waiting(persistence, 2):
        child = os.fork()
        if not child:
            status = 1
            try:
                time.sleep(0.5)
                persistence.sessions.get_messages("session")
                status = 0
            finally:
                os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("where", ["file", ":memory:"])
def test_a_signal_handler_inside_a_write_is_refused_at_once(path: Path, where: str) -> None:
    driver: Any = sqlite_driver(path if where == "file" else where, timeout=5)
    with create_persistence(driver) as persistence:
        saved_session(persistence)
        refused: list[BackendError] = []

        def handle(number: int, frame: object) -> None:
            for call in (
                lambda: persistence.sessions.add_message("session", message()),
                lambda: persistence.sessions.get_messages("session"),
            ):
                with pytest.raises(BackendError, match="signal handler") as raised:
                    call()
                refused.append(raised.value)

        before = signal.signal(signal.SIGUSR1, handle)
        storage: Any = persistence._storage
        started = time.monotonic()
        try:
            storage._database.write(lambda cursor: signal.raise_signal(signal.SIGUSR1))
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert len(refused) == 2
        assert time.monotonic() - started < 1
        assert persistence.sessions.add_message("session", message("after")) == 1


def test_a_signal_handler_inside_a_read_works(persistence: Persistence) -> None:
    def handle(number: int, frame: object) -> None:
        persistence.sessions.add_message("session", message("handled"))

    before = signal.signal(signal.SIGUSR1, handle)
    storage: Any = persistence._storage
    connections = storage._database._connections
    original = connections._look

    def look() -> None:
        connections._look = original
        signal.raise_signal(signal.SIGUSR1)

    try:
        connections._look = look
        assert texts(persistence) == ["handled"]
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("replaced", [False, True], ids=["deleted", "replaced"])
def test_a_file_that_vanishes_is_noticed(
    persistence: Persistence, path: Path, tmp_path: Path, replaced: bool
) -> None:
    if replaced:
        create_persistence(sqlite_driver(tmp_path / "other.db")).close()
        os.replace(tmp_path / "other.db", path)
    else:
        path.unlink()
    time.sleep(1.1)
    for _ in range(2):
        with pytest.raises(BackendError, match="deleted or replaced"):
            persistence.sessions.add_message("session", message())
        with pytest.raises(BackendError, match="deleted or replaced"):
            persistence.sessions.get_messages("session")


@pytest.mark.parametrize(
    "wrong", ["", "a\x00b", b"bytes.db", "sqlite:///a.db", "file:x?mode=ro"], ids=repr
)
def test_what_is_no_path_is_refused_with_what_to_write_instead(wrong: Any) -> None:
    with pytest.raises(InvalidRecordError, match="must be"):
        sqlite_driver(wrong)
