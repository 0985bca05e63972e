"""Calls that failed while they wrote, and processes that have read meanwhile what they wrote."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from agentx_persistence import Persistence, create_persistence
from agentx_persistence._fs.entries import Entries
from agentx_persistence.fs import fs_driver
from tests.contract.records import message, saved_session, texts

SESSION = "session"


@pytest.fixture
def persistence(base: Path) -> Iterator[Persistence]:
    with create_persistence(fs_driver(base)) as persistence:
        saved_session(persistence)
        sent = [message(text, id=text) for text in ("1", "2", "3", "4", "5")]
        persistence.sessions.add_messages(SESSION, sent)
        yield persistence


@pytest.fixture
def another(persistence: Persistence, base: Path) -> Iterator[Persistence]:
    with create_persistence(fs_driver(base)) as another:
        yield another


def _taken_back(
    another: Persistence, call: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """Interrupt the call before its lines are durable; return what `another` has read then."""
    seen: list[str] = []

    def interrupted(_: int) -> None:
        seen.extend(texts(another))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            call()
    return seen


@pytest.mark.parametrize(
    ("call", "seen"),
    [
        (lambda sessions: sessions.add_message(SESSION, message("6", id="6")), "123456"),
        (lambda sessions: sessions.truncate_after(SESSION, "1"), "1"),
        (lambda sessions: sessions.replace_message(SESSION, message("x", id="3")), "12x45"),
        (lambda sessions: sessions.pop_message(SESSION), "1234"),
    ],
    ids=["add", "cut", "replace", "pop"],
)
def test_who_has_read_what_was_taken_back_counts_and_adds_as_before(
    persistence: Persistence,
    another: Persistence,
    call: Callable[[object], object],
    seen: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert _taken_back(another, lambda: call(persistence.sessions), monkeypatch) == [*seen]
    longer = message("longer than any line before", id="6", metadata={"n": "x" * 1000})
    assert persistence.sessions.add_message(SESSION, longer) == 6
    assert another.sessions.count_messages(SESSION) == 6
    assert another.sessions.add_message(SESSION, message("7")) == 7
    expected = ["1", "2", "3", "4", "5", str(longer.content), "7"]
    assert texts(persistence) == texts(another) == expected


def test_a_cut_that_was_taken_back_is_not_taken_for_another_one_of_its_length(
    base: Path, persistence: Persistence, another: Persistence, monkeypatch: pytest.MonkeyPatch
) -> None:
    persistence.sessions.pop_message(SESSION)
    pop = _taken_back(another, lambda: persistence.sessions.pop_message(SESSION), monkeypatch)
    assert pop == ["1", "2", "3"]
    assert persistence.sessions.truncate_after(SESSION, "1") == 3
    assert another.sessions.add_message(SESSION, message("new")) == 2
    with create_persistence(fs_driver(base)) as third:
        assert texts(another) == texts(persistence) == texts(third) == ["1", "new"]


def test_a_count_minds_a_cut_of_the_length_of_one_that_was_taken_back(
    persistence: Persistence, another: Persistence, monkeypatch: pytest.MonkeyPatch
) -> None:
    _taken_back(another, lambda: persistence.sessions.pop_message(SESSION), monkeypatch)
    assert persistence.sessions.truncate_after(SESSION, "1") == 4
    assert another.sessions.count_messages(SESSION) == 1


def test_a_reader_reads_again_though_call_after_call_is_taken_back(
    base: Path, persistence: Persistence, another: Persistence, monkeypatch: pytest.MonkeyPatch
) -> None:
    (log,) = base.rglob("*.jsonl")
    size = log.stat().st_size
    persistence.sessions.add_message(SESSION, message("6", id="6"))
    line, ids, read = log.read_bytes()[size:], iter("789"), Entries.texts

    def taken_back(*arguments: Any) -> Any:
        if id := next(ids, ""):
            with log.open("r+b") as file:
                file.seek(size)
                file.write(line.replace(b'"6"', f'"{id}"'.encode()))
        return read(*arguments)

    monkeypatch.setattr(Entries, "texts", taken_back)
    assert [m.id for m in another.sessions.get_messages(SESSION)] == ["1", "2", "3", "4", "5", "9"]


@pytest.mark.parametrize("error", [OSError(errno.EIO, "it failed"), KeyboardInterrupt()])
def test_a_log_that_cannot_be_put_in_place_leaves_no_draft(
    base: Path, persistence: Persistence, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    persistence.sessions.add_message(SESSION, message("x" * 100_000))

    def fail(*_: str) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with suppress(KeyboardInterrupt):
            persistence.sessions.pop_message(SESSION)
    assert list(base.rglob("*.draft")) == []
    assert texts(persistence) == ["1", "2", "3", "4", "5"]
