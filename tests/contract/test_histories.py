"""Reading messages: one by one, as a stream, and as a list of conversations shows them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from agentx_persistence import (
    InvalidRecordError,
    Persistence,
    RecordConflictError,
    RecordNotFoundError,
    SessionSummary,
    UserMessage,
)
from agentx_persistence.repositories import histories
from tests.contract import hostile
from tests.contract.records import message, saved_session, session, texts

# More than a stream reads at a time here, which is less than elsewhere.
_MANY, _AT_A_TIME = 121, 50


@pytest.fixture
def short_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(histories, "_CHUNK_COUNT", _AT_A_TIME)


@pytest.fixture
def many(persistence: Persistence, short_reads: None) -> list[UserMessage]:
    """The messages of a session that is longer than what a stream reads at a time."""
    messages = [message(str(number), id=f"m{number}") for number in range(_MANY)]
    persistence.sessions.add_messages(saved_session(persistence), messages)
    return messages


def test_a_message_is_got_by_its_id(persistence: Persistence) -> None:
    sessions = persistence.sessions
    messages = [message(id, id=id) for id in hostile.IDS]
    sessions.add_messages(saved_session(persistence), messages)
    sessions.add_message("other", message("other", id="a"), create=session("other"))
    for sent in messages:
        assert sessions.get_message("session", sent.id).to_json() == sent.to_json()
        assert sessions.find_message("session", sent.id) == sent
    assert sessions.get_message("other", "a").content == "other"  # type: ignore[union-attr]
    assert sessions.find_message("session", "absent") is None
    sessions.truncate_after("session", messages[3].id)
    assert sessions.find_message("session", messages[3].id) == messages[3]
    assert sessions.find_message("session", messages[4].id) is None


def test_a_stream_goes_from_either_end_and_from_the_midst(
    persistence: Persistence, many: list[UserMessage]
) -> None:
    sessions = persistence.sessions
    assert list(sessions.iter_messages("session")) == many
    assert list(sessions.iter_messages("session", reverse=True)) == many[::-1]
    for at in (0, 3, 60, _MANY - 2, _MANY - 1):
        rest = many[at + 1 :]
        assert list(sessions.iter_messages("session", after=many[at].id)) == rest
        assert (
            list(sessions.iter_messages("session", after=many[at].id, reverse=True)) == rest[::-1]
        )


def test_a_stream_of_nothing(persistence: Persistence) -> None:
    saved_session(persistence)
    assert list(persistence.sessions.iter_messages("session", reverse=True)) == []
    persistence.sessions.add_message("session", message(id="m"))
    assert list(persistence.sessions.iter_messages("session", after="m")) == []
    assert list(persistence.sessions.iter_messages("session", after="m", reverse=True)) == []


def test_what_is_added_comes_in_a_stream_that_has_not_got_there(
    persistence: Persistence, many: list[UserMessage]
) -> None:
    sessions = persistence.sessions
    forwards, backwards = (
        sessions.iter_messages("session"),
        sessions.iter_messages("session", reverse=True),
    )
    assert (next(forwards), next(backwards)) == (many[0], many[-1])
    new = [message(str(number)) for number in range(70)]
    sessions.add_messages("session", new)
    assert list(forwards) == [*many[1:], *new]
    assert list(backwards) == many[-2::-1]


def _recreate(sessions: Any) -> None:
    sessions.delete("session")
    sessions.save(session())
    sessions.add_messages("session", [message(str(n), id=f"m{n}") for n in range(_MANY)])


BREAKS: dict[str, Callable[[Any], Any]] = {
    "a cut": lambda sessions: sessions.truncate_after("session", "m10"),
    "a cut and as many again": lambda sessions: (
        sessions.truncate_after("session", "m10"),
        sessions.add_messages("session", [message() for _ in range(_MANY)]),
    ),
    "a clearing": lambda sessions: sessions.clear_messages("session"),
    "a rewrite": lambda sessions: sessions.rewrite("session", after="m110", messages=[message()]),
    "a pop": lambda sessions: sessions.pop_message("session"),
    "a pop and an add": lambda sessions: (
        sessions.pop_message("session"),
        sessions.add_message("session", message()),
    ),
    "a replacement": lambda sessions: sessions.replace_message("session", message(id="m110")),
    "a replacement of what was read": lambda sessions: sessions.replace_message(
        "session", message(id="m2")
    ),
    "a deletion and a creation": _recreate,
}


@pytest.mark.parametrize("reverse", [False, True], ids=["forwards", "backwards"])
@pytest.mark.parametrize("change", BREAKS.values(), ids=BREAKS)
def test_a_stream_is_of_one_history_or_says_so(
    persistence: Persistence, many: list[UserMessage], change: Callable[[Any], Any], reverse: bool
) -> None:
    expected = many[::-1] if reverse else many
    messages = persistence.sessions.iter_messages("session", reverse=reverse)
    seen = [next(messages) for _ in range(20)]
    change(persistence.sessions)
    with pytest.raises(RecordConflictError) as raised:
        seen += messages
    assert (raised.value.kind, raised.value.id) == ("session", "session")
    # What came until then is of the history that it began with.
    assert seen == expected[: len(seen)]
    assert list(messages) == []


def test_what_changes_no_message_breaks_no_stream(
    persistence: Persistence, many: list[UserMessage]
) -> None:
    sessions = persistence.sessions
    messages = sessions.iter_messages("session")
    assert next(messages) == many[0]
    sessions.save(session(container_id="elsewhere"))
    sessions.update("session", {"note": 1})
    sessions.add_message("session", many[7])
    sessions.fork("session", session("fork"))
    with pytest.raises(RecordConflictError):
        sessions.rewrite("session", after="m5", expected=7)
    assert list(messages) == many[1:]


def test_streams_beside_writers_are_of_one_history(
    persistence: Persistence, short_reads: None
) -> None:
    """Each generation of messages says its own number, and where it is: none may be mixed."""
    sessions = persistence.sessions
    saved_session(persistence)

    def generation(number: int) -> list[UserMessage]:
        return [message(f"{number} {at}", id=f"{number} {at}") for at in range(_MANY)]

    sessions.add_messages("session", generation(0))
    ended = threading.Event()
    failures: list[BaseException] = []

    def rewrite() -> None:
        try:
            number = 1
            while not ended.is_set():
                sessions.rewrite("session", after=None, messages=generation(number))
                number += 1
        except BaseException as error:
            failures.append(error)

    writer = threading.Thread(target=rewrite)
    writer.start()
    try:
        for _ in range(12):
            seen: list[str] = []
            try:
                seen.extend(str(m.content) for m in sessions.iter_messages("session"))  # type: ignore[union-attr]
                assert len(seen) == _MANY
            except RecordConflictError:
                pass
            of = seen[0].split()[0] if seen else ""
            assert seen == [f"{of} {at}" for at in range(len(seen))]
    finally:
        ended.set()
        writer.join()
    assert failures == []


def test_what_is_read_after_a_message_that_was_cut_is_refused(
    persistence: Persistence, many: list[UserMessage]
) -> None:
    persistence.sessions.truncate_after("session", "m60")
    with pytest.raises(RecordNotFoundError):
        persistence.sessions.iter_messages("session", after="m70")


def test_a_summary_has_the_number_of_messages_and_the_last_one(persistence: Persistence) -> None:
    sessions = persistence.sessions
    for number in range(25):
        saved_session(persistence, f"s{number}")
        sent = [message(f"{number}:{at}") for at in range(number % 4)]
        sessions.add_messages(f"s{number}", sent)
    asked = ["s3", "absent", *(f"s{number}" for number in range(24, -1, -1))]
    summaries = sessions.summaries(asked)
    assert list(summaries) == list(dict.fromkeys(id for id in asked if id != "absent"))
    for id, summary in summaries.items():
        history = sessions.get_messages(id)
        assert isinstance(summary, SessionSummary)
        assert summary == SessionSummary(len(history), history[-1] if history else None)
    assert sessions.summaries([]) == {}
    assert sessions.summaries(["absent"]) == {}
    sessions.pop_message("s3")
    sessions.replace_message("s3", message("edited", id=sessions.get_messages("s3")[1].id))
    assert sessions.summaries(["s3"])["s3"].message_count == 2
    assert sessions.summaries(["s3"])["s3"].last_message.content == "edited"  # type: ignore[union-attr]
    sessions.clear_messages("s7")
    assert sessions.summaries(["s7"]) == {"s7": SessionSummary(0, None)}
    sessions.delete("s7")
    assert sessions.summaries(["s7"]) == {}
    for wrong in ("s1", None, 5, [None], [""]):
        with pytest.raises(InvalidRecordError):
            sessions.summaries(wrong)  # type: ignore[arg-type]


def test_a_summary_is_of_one_moment(persistence: Persistence) -> None:
    sessions = persistence.sessions
    saved_session(persistence)
    ended = threading.Event()

    def write() -> None:
        while not ended.is_set():
            sessions.clear_messages("session")
            for number in range(1, 4):
                sessions.add_message("session", message(str(number)))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(60):
            summary = sessions.summaries(["session"])["session"]
            last = summary.last_message
            assert (last.content if last else "0") == str(summary.message_count)  # type: ignore[union-attr]
    finally:
        ended.set()
        writer.join()
    assert texts(persistence)[-1:] == [str(sessions.count_messages("session"))]
