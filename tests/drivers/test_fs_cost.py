"""What each operation asks of the file system."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path
from typing import Any

import pytest

from agentx_persistence import Persistence, create_persistence
from agentx_persistence._fs import files
from agentx_persistence._fs.history import History
from agentx_persistence._fs.log_file import LogFile
from agentx_persistence.fs import fs_driver
from tests.contract.records import image, message, saved_session


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def persistence(base: Path) -> Iterator[Persistence]:
    with create_persistence(fs_driver(base)) as persistence:
        yield persistence


class _Cost:
    """Counts the files that are opened and the bytes that are read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened = self.read = 0
        cost = self

        class Counted(FileIO):
            def readall(self) -> bytes:
                data = super().readall()
                cost.read += len(data)
                return data

        def opening(path: Any, mode: str, buffering: int) -> FileIO:
            cost.opened += 1
            return Counted(path, mode)

        open_, read = os.open, os.read

        def os_opening(path: Any, flags: int, *mode: int) -> int:
            cost.opened += not flags & (os.O_CREAT | os.O_DIRECTORY)  # no locks, no folders
            return open_(path, flags, *mode)

        def reading(descriptor: int, length: int) -> bytes:
            data = read(descriptor, length)
            cost.read += len(data)
            return data

        monkeypatch.setattr(files, "open", opening, raising=False)
        monkeypatch.setattr(os, "open", os_opening)
        monkeypatch.setattr(os, "read", reading)
        monkeypatch.setattr(os, "fsync", lambda _: None)  # the disk's time is not what is measured

    def of(self, call: Callable[[], object]) -> tuple[int, int]:
        opened, read = self.opened, self.read
        call()
        return self.opened - opened, self.read - read


def _messages(count: int) -> list[Any]:
    return [message("x" * 300, id=f"message {number:06}", timestamp=1) for number in range(count)]


def test_an_append_costs_the_same_whatever_there_is(
    persistence: Persistence, monkeypatch: pytest.MonkeyPatch
) -> None:
    cost = _Cost(monkeypatch)
    costs = []
    for present in (10, 10_000):
        id = saved_session(persistence, f"session of {present:06}")
        persistence.sessions.add_messages(id, _messages(present))
        persistence.sessions.add_message(id, message())
        costs.append(cost.of(lambda: persistence.sessions.add_message(id, message())))  # noqa: B023
    (few_opened, few_read), (many_opened, many_read) = costs
    assert many_opened == few_opened == 1
    # The first line and the last byte: what this process has appended before it knows.
    assert many_read == few_read < 100


def test_a_read_that_an_append_overtakes_forgets_nothing(
    persistence: Persistence, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = persistence.sessions
    sessions.add_messages(saved_session(persistence), _messages(1_000))
    sessions.add_message("session", message())
    cost = _Cost(monkeypatch)
    follow = History.follow

    def overtaken(history: History, file: LogFile) -> bool:
        monkeypatch.setattr(History, "follow", follow)
        sessions.add_message("session", message())
        return history.follow(file)

    monkeypatch.setattr(History, "follow", overtaken)
    assert len(sessions.get_messages("session", last=2)) == 2
    assert History.follow is follow
    assert cost.of(lambda: sessions.add_message("session", message()))[1] < 100


def test_another_process_reads_only_what_was_appended_since(
    base: Path, persistence: Persistence, monkeypatch: pytest.MonkeyPatch
) -> None:
    persistence.sessions.add_messages(saved_session(persistence), _messages(5_000))
    with create_persistence(fs_driver(base)) as another:
        cost = _Cost(monkeypatch)
        first = cost.of(lambda: another.sessions.add_message("session", message()))
        persistence.sessions.add_message("session", message())
        second = cost.of(lambda: another.sessions.add_message("session", message()))
    assert second[1] < 20_000 < 5_000 * 300 < first[1]


def test_the_end_of_a_long_history_is_read_without_the_rest(
    base: Path, persistence: Persistence, monkeypatch: pytest.MonkeyPatch
) -> None:
    persistence.sessions.add_messages(saved_session(persistence), _messages(10_000))
    with create_persistence(fs_driver(base)) as another:
        cost = _Cost(monkeypatch)
        sessions = another.sessions
        for call in (
            lambda: sessions.get_messages("session", last=50),
            lambda: sessions.count_messages("session"),
            lambda: sessions.get("session"),
        ):
            assert cost.of(call)[1] < 150_000
        assert cost.of(lambda: list(sessions.iter_messages("session")))[1] > 10_000 * 300


def test_a_page_costs_what_it_returns(
    persistence: Persistence, monkeypatch: pytest.MonkeyPatch
) -> None:
    cost = _Cost(monkeypatch)
    for number in range(1_500):
        box = "small" if number % 75 == 0 else "large"
        persistence.images.save(image(f"i{number}", container_id=box, created_at=number))
    images = persistence.images
    middle = images.find_page(container_id="large", size=700).next_cursor
    for opened, call in (
        (1 + 20, lambda: images.find_all(container_id="small")),
        (1 + 20, lambda: images.find_page(container_id="small", name="plan", size=20)),
        # One more record is read than is returned, and up to two leaves of the index.
        (2 * 2 + 21, lambda: images.find_page(size=20)),
        (2 * 2 + 21, lambda: images.find_page(name="plan", size=20)),
        (2 * 2 + 21, lambda: images.find_page(container_id="large", size=20, cursor=middle)),
    ):
        got = cost.of(call)
        assert got[0] <= opened
        assert got[1] < 60_000
