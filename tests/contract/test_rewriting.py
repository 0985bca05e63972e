"""Changing the end of a conversation, and messages in the midst of it."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import pytest

from agentx_persistence import (
    ErrorMessage,
    Persistence,
    RecordConflictError,
)
from tests.backends.backend import SHARED, Backend
from tests.contract.records import message, saved_session, stored, texts
from tests.contract.test_concurrency import in_processes

# How often each process adds and pops. The long form: AGENTX_TEST_POP_TRIES=200.
_POPS = int(os.environ.get("AGENTX_TEST_POP_TRIES", "15"))


def test_rewriting_replaces_what_comes_after_a_message(
    persistence: Persistence, ten: list[str]
) -> None:
    sessions = persistence.sessions
    before = sessions.get_messages("session")
    new = [message("new 1"), message("new 2")]
    assert sessions.rewrite("session", after=ten[6], messages=new, expected=10) == before[7:]
    assert sessions.get_messages("session") == [*before[:7], *new]
    assert sessions.count_messages("session") == 9
    assert sessions.rewrite("session", after=new[1].id) == []
    assert sessions.rewrite("session", after=new[0].id, messages=[before[9]]) == [new[1]]
    assert texts(persistence, after=ten[5]) == ["7", "new 1", "10"]
    assert sessions.add_message("session", message("next")) == 10
    removed = sessions.rewrite("session", after=None, messages=[message("only")])
    assert len(removed) == 10
    assert texts(persistence) == ["only"]
    assert [m.content for m in sessions.rewrite("session", after=None)] == ["only"]  # type: ignore[union-attr]
    assert texts(persistence) == []
    assert sessions.rewrite("session", after=None) == []


def test_the_ids_that_are_removed_are_free_and_the_others_are_a_conflict(
    persistence: Persistence, ten: list[str]
) -> None:
    sessions = persistence.sessions
    again = [message("ten", id=ten[9]), message("nine", id=ten[8])]
    sessions.rewrite("session", after=ten[7], messages=again)
    assert texts(persistence, after=ten[7]) == ["ten", "nine"]
    before = stored(persistence)
    for kept in (before[1][0], message("other", id=ten[7])):
        with pytest.raises(RecordConflictError) as raised:
            sessions.rewrite("session", after=ten[7], messages=[message(), kept])
        assert (raised.value.kind, raised.value.id) == ("message", kept.id)
    twice = [message("a", id="same"), message("b", id="same")]
    with pytest.raises(RecordConflictError):
        sessions.rewrite("session", after=ten[7], messages=twice)
    assert stored(persistence) == before
    assert sessions.add_message("session", message("eleven", id="same")) == 11


def test_a_rewrite_that_expects_another_number_of_messages_is_refused(
    persistence: Persistence, ten: list[str]
) -> None:
    before = stored(persistence)
    for expected in (0, 9, 11):
        with pytest.raises(RecordConflictError) as raised:
            persistence.sessions.rewrite(
                "session", after=ten[0], messages=[message()], expected=expected
            )
        assert (raised.value.kind, raised.value.id) == ("session", "session")
    assert stored(persistence) == before


def test_a_long_history_is_rewritten(persistence: Persistence) -> None:
    saved_session(persistence)
    old = [message(str(number)) for number in range(701)]
    new = [message(f"new {number}") for number in range(602)]
    persistence.sessions.add_messages("session", old)
    assert persistence.sessions.rewrite("session", after=old[99].id, messages=new) == old[100:]
    assert persistence.sessions.get_messages("session") == [*old[:100], *new]
    assert persistence.sessions.add_messages("session", [old[100], new[-1]]) == [703, 702]


def test_the_newest_message_is_popped(persistence: Persistence, ten: list[str]) -> None:
    sessions = persistence.sessions
    history = sessions.get_messages("session")
    assert sessions.pop_message("session") == history[9]
    assert sessions.pop_message("session") == history[8]
    assert sessions.get_messages("session") == history[:8]
    assert sessions.add_message("session", message("nine", id=ten[8])) == 9
    while popped := sessions.pop_message("session"):
        assert popped.id in ten
    assert texts(persistence) == []
    before = sessions.get("session")
    assert sessions.pop_message("session") is None
    assert sessions.get("session") == before
    assert sessions.add_message("session", history[0]) == 1


def _work_at_the_end(backend: Backend, writer: str) -> tuple[list[str], list[str]]:
    with backend.open() as persistence:
        return _add_and_pop(persistence, writer, _POPS)


def _add_and_pop(persistence: Persistence, writer: str, times: int) -> tuple[list[str], list[str]]:
    """Return the ids that were added, and those that were popped."""
    added, popped = [], []
    for number in range(times):
        persistence.sessions.add_message("session", message(id=f"{writer} {number}"))
        added.append(f"{writer} {number}")
        if newest := persistence.sessions.pop_message("session"):
            popped.append(newest.id)
        if number % 3 == 0:
            persistence.sessions.add_message("session", message(id=f"{writer} {number} more"))
            added.append(f"{writer} {number} more")
    return added, popped


def _check_the_end(persistence: Persistence, given: list[tuple[list[str], list[str]]]) -> None:
    added = [id for ids, _ in given for id in ids]
    popped = [id for _, ids in given for id in ids]
    left = [m.id for m in persistence.sessions.get_messages("session")]
    assert len(set(popped)) == len(popped)
    assert sorted([*popped, *left]) == sorted(added)
    assert persistence.sessions.count_messages("session") == len(left)


def test_threads_that_pop_and_add_lose_nothing_and_get_nothing_twice(
    persistence: Persistence,
) -> None:
    saved_session(persistence)
    with ThreadPoolExecutor(4) as threads:
        given = list(threads.map(lambda writer: _add_and_pop(persistence, writer, 12), "abcd"))
    _check_the_end(persistence, given)


@pytest.mark.needs(SHARED)
def test_processes_that_pop_and_add_lose_nothing_and_get_nothing_twice(backend: Backend) -> None:
    with backend.open() as persistence:
        saved_session(persistence)
        given = in_processes(_work_at_the_end, (backend, "a"), (backend, "b"), (backend, "c"))
        _check_the_end(persistence, given)


def test_rewrites_beside_appends_lose_no_append(persistence: Persistence) -> None:
    """What a rewrite removes it returns, and so every message is left, or was returned once."""
    saved_session(persistence)
    sessions = persistence.sessions
    sessions.add_message("session", message(id="anchor"))

    def append(writer: int) -> list[str]:
        ids = [f"{writer} {number}" for number in range(20)]
        for id in ids:
            sessions.add_message("session", message(id=id))
        return ids

    def rewrite(writer: int) -> list[str]:
        removed = []
        for number in range(12):
            new = message(id=f"rewritten {writer} {number}")
            removed += sessions.rewrite("session", after="anchor", messages=[new])
        return [m.id for m in removed]

    with ThreadPoolExecutor(4) as threads:
        appending = [threads.submit(append, writer) for writer in range(2)]
        rewriting = [threads.submit(rewrite, writer) for writer in range(2)]
        sent = [id for ended in appending for id in ended.result()]
        sent += [f"rewritten {writer} {number}" for writer in range(2) for number in range(12)]
        removed = [id for ended in rewriting for id in ended.result()]
    left = [m.id for m in sessions.get_messages("session")]
    assert left[0] == "anchor"
    assert sorted([*removed, *left[1:]]) == sorted(sent)


def test_a_replaced_message_keeps_its_id_and_its_position(
    persistence: Persistence, ten: list[str]
) -> None:
    sessions = persistence.sessions
    before = sessions.get_messages("session")
    for position in (1, 5, 10):
        new = message(f"edited {position}" * 50, id=ten[position - 1], timestamp=1, redacted=True)
        assert sessions.replace_message("session", new) is None
        before[position - 1] = new
        assert sessions.get_message("session", new.id).to_json() == new.to_json()
        assert sessions.add_message("session", new) == position
    assert sessions.get_messages("session") == before
    assert list(sessions.iter_messages("session")) == before
    assert sessions.get_messages("session", after=ten[4], first=1) == [before[5]]
    assert sessions.count_messages("session") == 10
    with pytest.raises(RecordConflictError):
        sessions.add_message("session", message("5", id=ten[4]))
    assert sessions.add_message("session", message("11")) == 11
    sessions.truncate_after("session", ten[4])
    assert sessions.get_messages("session") == before[:5]


def test_a_message_is_replaced_by_one_of_another_role(
    persistence: Persistence, ten: list[str]
) -> None:
    new = ErrorMessage(id=ten[9], content="it failed")
    persistence.sessions.replace_message("session", new)
    assert persistence.sessions.get_messages("session", last=1) == [new]


def test_replacing_and_appending_disturb_each_other_not(persistence: Persistence) -> None:
    saved_session(persistence)
    sessions = persistence.sessions
    sessions.add_messages("session", [message("0", id=f"m{n}") for n in range(3)])

    def replace(number: int) -> None:
        for version in range(15):
            sessions.replace_message("session", message(f"{version}", id=f"m{number}"))

    def append(number: int) -> None:
        for at in range(15):
            sessions.add_message("session", message(id=f"new {number} {at}"))

    with ThreadPoolExecutor(5) as threads:
        for ended in [
            *(threads.submit(replace, number) for number in range(3)),
            *(threads.submit(append, number) for number in range(2)),
        ]:
            ended.result()
    history = sessions.get_messages("session")
    assert [(m.id, m.content) for m in history[:3]] == [(f"m{n}", "14") for n in range(3)]  # type: ignore[union-attr]
    assert sorted(m.id for m in history[3:]) == sorted(
        f"new {number} {at}" for number in range(2) for at in range(15)
    )


def test_a_pop_beside_a_cut_takes_what_is_newest_then(
    persistence: Persistence, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = persistence.sessions
    sent = [message(str(n)) for n in range(5)]
    sessions.add_messages(saved_session(persistence), sent)
    parse = sessions._messages
    cut: list[Future[int]] = []
    is_cut = False

    def parse_beside_a_cut(*arguments: Any) -> Any:
        nonlocal is_cut
        monkeypatch.undo()
        cut.append(thread.submit(sessions.truncate_after, "session", sent[1].id))
        is_cut = not wait(cut, timeout=1).not_done  # no, where the session is locked
        return parse(*arguments)

    monkeypatch.setattr(sessions, "_messages", parse_beside_a_cut)
    with ThreadPoolExecutor(1) as thread:
        popped = sessions.pop_message("session")
    ended = popped, cut[0].result(), sessions.get_messages("session")
    after_the_cut, before_it = (sent[1], 3, sent[:1]), (sent[4], 2, sent[:2])
    assert ended == after_the_cut if is_cut else ended in (after_the_cut, before_it)
