"""Histories that have lost messages: none is taken for a shorter one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from agentx_persistence import CorruptRecordError, Persistence, create_persistence
from agentx_persistence.memory import memory_driver
from agentx_persistence.storage import Slice, Window
from tests.backends.backend import Backend
from tests.contract.records import message, saved_session

LENGTH = 1300


@pytest.fixture(params=["sqlite", "mariadb", "mysql", "postgresql"])
def damaged(request: pytest.FixtureRequest) -> Any:
    """Return a function that makes a history and removes the messages between two positions."""
    backend: Backend = request.getfixturevalue(f"{request.param}_backend")
    with backend.open() as persistence:

        def lose(first: int, last: int) -> Persistence:
            saved_session(persistence)
            persistence.sessions.add_messages(
                "session", [message(id=f"m{number}") for number in range(1, LENGTH + 1)]
            )
            storage: Any = persistence._storage
            storage._database.execute(
                f"DELETE FROM agentx_messages WHERE position BETWEEN {first} AND {last}",  # noqa: S608
                (),
            )
            return persistence

        yield lose


Damaged = Callable[[int, int], Persistence]


def _numbers(messages: Any) -> list[int]:
    return [int(each.id[1:]) for each in messages]


# What a stream reads, and from which message on: the messages before the lost ones, and the
# position that the error names.
STREAMS: dict[str, tuple[dict[str, Any], Sequence[int], int]] = {
    "forward": ({}, range(1, 501), 501),
    "backward": ({"reverse": True}, range(1300, 1100, -1), 1100),
    "forward from just before": ({"after": "m500"}, [], 501),
    "forward from before": ({"after": "m490"}, range(491, 501), 501),
    "backward to before": ({"after": "m490", "reverse": True}, range(1300, 1100, -1), 1100),
    "backward to just before": ({"after": "m500", "reverse": True}, range(1300, 1100, -1), 1100),
}


def _read(sessions: Any, **asked: Any) -> tuple[list[int], str]:
    """Return the messages that a stream yields, and the error with which it ends."""
    seen: list[Any] = []
    try:
        seen.extend(sessions.iter_messages("session", **asked))
    except CorruptRecordError as error:
        return _numbers(seen), str(error)
    return _numbers(seen), ""


def test_a_stream_does_not_pass_over_missing_messages(damaged: Damaged) -> None:
    sessions = damaged(501, 1100).sessions
    for name, (asked, expected, lost) in STREAMS.items():
        seen, error = _read(sessions, **asked)
        assert seen == list(expected), name
        assert f"position = {lost}" in error, name
    assert _read(sessions, after="m1101") == ([*range(1102, LENGTH + 1)], "")


def test_a_stream_does_not_end_before_the_end(damaged: Damaged) -> None:
    sessions = damaged(1001, LENGTH).sessions
    for after, expected in ((None, range(1, 1001)), ("m990", range(991, 1001)), ("m1000", [])):
        seen, error = _read(sessions, after=after)
        assert seen == list(expected)
        assert "position = 1001" in error
    with pytest.raises(CorruptRecordError, match="1300"):
        sessions.get_messages("session", last=10)


def test_nothing_is_there_of_a_history_of_which_all_is_lost(damaged: Damaged) -> None:
    sessions = damaged(1, LENGTH).sessions
    reads: list[Callable[[], Any]] = [
        lambda: sessions.get_messages("session"),
        lambda: sessions.get_messages("session", first=1),
        lambda: list(sessions.iter_messages("session")),
        lambda: list(sessions.iter_messages("session", reverse=True)),
        lambda: sessions.pop_message("session"),
        lambda: sessions.rewrite("session", after=None),
    ]
    for read in reads:
        with pytest.raises(CorruptRecordError):
            read()
    assert sessions.clear_messages("session") == LENGTH
    assert list(sessions.iter_messages("session")) == sessions.get_messages("session") == []


@pytest.mark.parametrize("lost", [(501, 1100), (501, LENGTH), (1001, LENGTH), (700, 700)])
def test_a_rewrite_does_not_cut_in_another_place(damaged: Damaged, lost: tuple[int, int]) -> None:
    sessions = damaged(*lost).sessions
    for after in ("m499", "m500"):
        with pytest.raises(CorruptRecordError):
            sessions.rewrite("session", after=after, messages=[message(id="new")])
        assert sessions.count_messages("session") == LENGTH
    assert sessions.get_messages("session", after="m500", before="m500") == []
    if lost[0] == 501:
        with pytest.raises(CorruptRecordError, match="position = 501"):
            sessions.get_messages("session", after="m500", first=10)
    # Cutting reads nothing, so that what is damaged can be cut.
    assert sessions.truncate_after("session", "m500") == LENGTH - 500
    assert _numbers(sessions.iter_messages("session")) == [*range(1, 501)]


def test_what_any_storage_returns_must_reach_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    with create_persistence(memory_driver()) as persistence:
        saved_session(persistence)
        sessions, storage = persistence.sessions, persistence._storage
        sessions.add_messages("session", [message(id=f"m{number}") for number in range(1, 6)])
        read = storage.read

        def lose(log: str, window: Window) -> Slice:
            """Read as if nothing was there after the message m3."""
            found = read(log, window)
            at = found.start or 1
            return found._replace(texts=found.texts[: max(0, 4 - at)])

        monkeypatch.setattr(storage, "read", lose)
        for after in (None, "m1"):
            with pytest.raises(CorruptRecordError, match="#5"):
                sessions.rewrite("session", after=after, messages=[message()])
            seen, error = _read(sessions, after=after)
            assert seen == ([1, 2, 3] if after is None else [2, 3])
            assert "#4" in error
        monkeypatch.setattr(storage, "read", read)
        assert sessions.count_messages("session") == 5
