"""What each operation asks of the file system, whatever is stored."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentx_persistence import Persistence, create_persistence
from agentx_persistence._fs import files, log, logs
from agentx_persistence._fs.index import Index
from agentx_persistence.fs import fs_driver
from tests.contract.records import image, message, saved_session


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # the disk's time is not what is measured
    return tmp_path / "store"


@pytest.fixture
def persistence(base: Path) -> Iterator[Persistence]:
    with create_persistence(fs_driver(base)) as persistence:
        yield persistence


class _Cost:
    """Counts the statements of the index and the bytes that are read from logs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked = self.read = self.records = 0
        ask, write, read_at, lines = Index.read, Index.write, files.read_at, log._lines

        def asking(index: Index, *arguments: Any) -> Any:
            self.asked += 1
            return ask(index, *arguments)

        def writing(index: Index, *arguments: Any, **options: Any) -> Any:
            self.asked += 1
            return write(index, *arguments, **options)

        def reading(*arguments: Any) -> bytes:
            data = read_at(*arguments)
            self.read += len(data)
            return data

        def reading_lines(*arguments: Any) -> Iterator[tuple[int, bytes]]:
            for offset, line in lines(*arguments):
                self.read += len(line)
                yield offset, line

        monkeypatch.setattr(Index, "read", asking)
        monkeypatch.setattr(Index, "write", writing)
        for module in (files, log):
            monkeypatch.setattr(module, "read_at", reading)
        monkeypatch.setattr(log, "_lines", reading_lines)

    def of(self, call: Callable[[], object]) -> tuple[int, int]:
        asked, read = self.asked, self.read
        call()
        return self.asked - asked, self.read - read


def _messages(count: int) -> list[Any]:
    return [message("x" * 300, id=f"message {number:06}", timestamp=1) for number in range(count)]


def test_an_append_costs_the_same_whatever_there_is(
    persistence: Persistence, monkeypatch: pytest.MonkeyPatch
) -> None:
    cost = _Cost(monkeypatch)
    costs = []
    monkeypatch.setattr("agentx_persistence.repositories.conversations.now", lambda: 10**12)
    for present in (10, 10_000):
        id = saved_session(persistence, f"session of {present:06}")
        persistence.sessions.add_messages(id, _messages(present))
        persistence.sessions.add_message(id, message())
        costs.append(cost.of(lambda: persistence.sessions.add_message(id, message())))  # noqa: B023
    assert costs[0][0] <= costs[1][0] == 1  # whether the id is taken
    assert costs[1][1] == costs[0][1] < 300  # the first line, and the id of the last


def test_appends_to_many_sessions_in_turn_cost_what_appends_to_one_cost(
    persistence: Persistence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentx_persistence.repositories.conversations.now", lambda: 10**12)
    ids = [saved_session(persistence, f"s{number:02}") for number in range(50)]
    for id in ids:
        persistence.sessions.add_messages(id, _messages(600))
        persistence.sessions.add_message(id, message())
    cost = _Cost(monkeypatch)
    for _ in range(3):
        for id in ids:
            asked, read = cost.of(lambda id=id: persistence.sessions.add_message(id, message()))  # type: ignore[misc]
            assert asked == 1
            assert read < 300


@pytest.mark.parametrize("present", [500, 5_000])
def test_a_new_process_reads_only_what_is_not_indexed(
    base: Path, persistence: Persistence, monkeypatch: pytest.MonkeyPatch, present: int
) -> None:
    for start in range(0, present, 50):
        persistence.sessions.add_messages(
            saved_session(persistence), _messages(present)[start : start + 50]
        )
    persistence.close()
    longest = (logs.UNINDEXED + 50) * 500
    near = f"message {present - 20:06}"
    for call in (
        lambda p: p.sessions.add_message("session", message()),
        lambda p: p.sessions.get_messages("session", last=20),
        lambda p: p.sessions.get_messages("session", last=20, before=near),
        lambda p: p.sessions.count_messages("session"),
        lambda p: p.sessions.get("session"),
        lambda p: p.sessions.truncate_after("session", near),
    ):
        with create_persistence(fs_driver(base)) as another, monkeypatch.context() as patch:
            cost = _Cost(patch)
            asked, read = cost.of(lambda: call(another))  # noqa: B023
        assert asked <= 8
        assert read < longest


def test_another_process_reads_only_what_was_appended_since(
    base: Path, persistence: Persistence, monkeypatch: pytest.MonkeyPatch
) -> None:
    persistence.sessions.add_messages(saved_session(persistence), _messages(2_000))
    with create_persistence(fs_driver(base)) as another:
        another.sessions.add_message("session", message())
        cost = _Cost(monkeypatch)
        for _ in range(300):
            persistence.sessions.add_message("session", message())
            assert cost.of(lambda: another.sessions.get_messages("session", last=1))[1] < 3_000


def test_reading_a_whole_history_reads_each_byte_once(
    persistence: Persistence, monkeypatch: pytest.MonkeyPatch
) -> None:
    persistence.sessions.add_messages(saved_session(persistence), _messages(5_000))
    size = sum(path.stat().st_size for path in Path(_base(persistence)).glob("sessions/??/*.jsonl"))
    cost = _Cost(monkeypatch)
    assert cost.of(lambda: list(persistence.sessions.iter_messages("session")))[1] < size * 1.01


def test_a_large_cut_copies_nothing(
    persistence: Persistence, monkeypatch: pytest.MonkeyPatch
) -> None:
    persistence.sessions.add_messages(saved_session(persistence), _messages(5_000))
    cost = _Cost(monkeypatch)
    cut = cost.of(lambda: persistence.sessions.truncate_after("session", "message 004989"))
    assert cut[1] < 50_000


def test_what_was_cut_off_or_replaced_is_on_the_disk_no_more(persistence: Persistence) -> None:
    secrets = [message(f"secret {number}", id=f"m{number}") for number in range(600)]
    persistence.sessions.add_messages(saved_session(persistence), secrets)
    persistence.sessions.replace_message("session", message("harmless", id="m10"))
    persistence.sessions.truncate_after("session", "m589")
    (path,) = Path(_base(persistence)).glob("sessions/??/*.jsonl")
    data = path.read_bytes()
    assert b"secret 589" in data
    for number in (10, *range(590, 600)):
        assert b'"secret %d"' % number not in data
    persistence.sessions.clear_messages("session")
    assert b"secret" not in path.read_bytes()


def test_a_log_does_not_grow_with_what_was_cut_off(persistence: Persistence) -> None:
    saved_session(persistence)
    for _ in range(30):
        persistence.sessions.add_messages("session", _messages(100))
        persistence.sessions.clear_messages("session")
    (path,) = Path(_base(persistence)).glob("sessions/??/*.jsonl")
    assert path.stat().st_size < 200_000
    assert persistence.sessions.count_messages("session") == 0


def test_a_page_costs_what_it_returns(
    persistence: Persistence, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = 0
    read = persistence._storage._records.read  # type: ignore[attr-defined]

    def reading(*arguments: Any) -> Any:
        nonlocal opened
        opened += 1
        return read(*arguments)

    for number in range(1_500):
        box = "small" if number % 75 == 0 else "large"
        persistence.images.save(image(f"i{number}", container_id=box, created_at=number))
    images = persistence.images
    middle = images.find_page(container_id="large", size=700).next_cursor
    monkeypatch.setattr(persistence._storage._records, "read", reading)  # type: ignore[attr-defined]
    cost = _Cost(monkeypatch)
    for call in (
        lambda: images.find_all(container_id="small"),
        lambda: images.find_page(container_id="small", name="plan", size=20),
        lambda: images.find_page(size=20),
        lambda: images.find_page(name="plan", size=20),
        lambda: images.find_page(container_id="large", size=20, cursor=middle),
    ):
        opened = 0
        assert cost.of(call)[0] == 1
        assert opened <= 21  # one more than is returned


def _base(persistence: Persistence) -> str:
    base: str = persistence._storage.base  # type: ignore[attr-defined]
    return base
