"""The verbs of a conversation: what changes messages, but for plain appending."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from agentx_persistence import (
    ErrorMessage,
    ForkOrigin,
    InvalidRecordError,
    Persistence,
    RecordConflictError,
    RecordNotFoundError,
    SessionRecord,
)
from tests.backends.backend import SHARED, Backend
from tests.contract.records import image, message, saved_session, session, texts
from tests.contract.test_concurrency import in_processes


@pytest.fixture
def ten(persistence: Persistence) -> list[str]:
    """A session with the messages "1" to "10"; their ids."""
    messages = [message(str(number)) for number in range(1, 11)]
    persistence.sessions.add_messages(saved_session(persistence), messages)
    return [m.id for m in messages]


def _stored(persistence: Persistence) -> tuple[SessionRecord, list[Any]]:
    return persistence.sessions.get("session"), persistence.sessions.get_messages("session")


# add_message(create=…)


def test_a_message_creates_its_session_in_the_same_step(persistence: Persistence) -> None:
    sessions, first = persistence.sessions, message("first")
    new = session("new", title="Release notes", created_at=1, updated_at=2)
    assert sessions.add_message("new", first, create=new) == 1
    saved = sessions.get("new")
    assert saved.updated_at > 2
    assert saved == new.model_copy(update={"updated_at": saved.updated_at})
    assert sessions.get_messages("new") == [first]
    assert sessions.find_all(container_id="box") == sessions.find_all(image_id="image") == [saved]
    assert sessions.find_all(container_id="box", order="active") == [saved]
    assert sessions.add_message("new", first, create=new) == 1
    other = session("new", title="Other", container_id="elsewhere")
    assert sessions.add_message("new", message("second"), create=other) == 2
    assert sessions.get("new").model_copy(update={"updated_at": 0}) == new.model_copy(
        update={"updated_at": 0}
    )
    assert sessions.find_all(container_id="elsewhere") == []
    assert texts(persistence, "new") == ["first", "second"]


def test_a_batch_creates_its_session_or_nothing(persistence: Persistence) -> None:
    sessions = persistence.sessions
    with pytest.raises(RecordConflictError):
        sessions.add_messages(
            "new", [message("a", id="same"), message("b", id="same")], create=session("new")
        )
    assert not sessions.exists("new")
    batch = [message(str(number)) for number in range(700)]
    assert sessions.add_messages("new", batch, create=session("new")) == [*range(1, 701)]
    assert sessions.get_messages("new") == batch
    assert sessions.add_messages("empty", [], create=session("empty", updated_at=5)) == []
    assert sessions.get("empty").updated_at == 5
    assert sessions.count_messages("empty") == 0


def test_the_session_to_create_is_the_one_of_the_message(persistence: Persistence) -> None:
    wrong: list[Any] = [session("other"), image("new"), {"session_id": "new"}, "new"]
    for create in wrong:
        with pytest.raises(InvalidRecordError):
            persistence.sessions.add_message("new", message(), create=create)
    assert persistence.sessions.find_all() == []


def test_a_session_that_was_deleted_is_created_anew_and_empty(persistence: Persistence) -> None:
    sessions = persistence.sessions
    sessions.add_messages("s", [message("1", id="m"), message("2")], create=session("s"))
    assert sessions.delete("s") is True
    assert sessions.add_message("s", message("3", id="m"), create=session("s", title="t")) == 1
    assert texts(persistence, "s") == ["3"]


def test_eight_creators_at_once_make_one_session_with_all_messages(
    persistence: Persistence,
) -> None:
    for round in range(3):
        id = f"new {round}"

        def create(number: int, id: str = id) -> int:
            return persistence.sessions.add_message(
                id, message(str(number)), create=session(id, note=number)
            )

        with ThreadPoolExecutor(8) as threads:
            positions = list(threads.map(create, range(8)))
        assert sorted(positions) == [*range(1, 9)]
        history = texts(persistence, id)
        assert [history[position - 1] for position in positions] == [str(n) for n in range(8)]
        (note,) = (persistence.sessions.get(id).model_extra or {}).values()
        assert note in range(8)
        assert len(persistence.sessions.find_all(container_id="box")) == round + 1


def _create_in_process(backend: Backend, number: int) -> list[int]:
    with backend.open() as persistence:
        return [
            persistence.sessions.add_message(
                f"new {round}", message(str(number)), create=session(f"new {round}")
            )
            for round in range(10)
        ]


@pytest.mark.needs(SHARED)
def test_processes_that_create_the_same_sessions_lose_no_message(backend: Backend) -> None:
    given = in_processes(_create_in_process, *((backend, number) for number in range(3)))
    with backend.open() as persistence:
        assert persistence.sessions.count(container_id="box") == 10
        for round in range(10):
            assert sorted(positions[round] for positions in given) == [1, 2, 3]
            assert sorted(texts(persistence, f"new {round}")) == ["0", "1", "2"]


# expected=…


def test_an_append_that_expects_another_number_of_messages_is_refused(
    persistence: Persistence, ten: list[str]
) -> None:
    sessions = persistence.sessions
    before = _stored(persistence)
    for expected in (0, 9, 11, 2**31 - 2):
        for messages in ([message()], [message(), message()], [before[1][0], message()]):
            with pytest.raises(RecordConflictError) as raised:
                sessions.add_messages("session", messages, expected=expected)
            assert (raised.value.kind, raised.value.id) == ("session", "session")
            assert "10" in str(raised.value)
            assert str(expected) in str(raised.value)
    assert _stored(persistence) == before
    assert sessions.add_message("session", message("11"), expected=10) == 11
    assert sessions.add_messages("session", [message(), message()], expected=11) == [12, 13]
    sessions.clear_messages("session")
    assert sessions.add_message("session", message(), expected=0) == 1


def test_what_is_there_already_comes_back_whatever_is_expected(
    persistence: Persistence, ten: list[str]
) -> None:
    sessions = persistence.sessions
    before = _stored(persistence)
    there = before[1]
    for expected in (0, 3, 10, 99):
        assert sessions.add_message("session", there[4], expected=expected) == 5
        given = sessions.add_messages("session", [there[9], there[0]], expected=expected)
        assert given == [10, 1]
    with pytest.raises(RecordConflictError) as raised:
        sessions.add_message("session", message("other", id=ten[2]), expected=10)
    assert raised.value.kind == "message"
    assert _stored(persistence) == before
    # Those that are there are no reason to refuse those that are not.
    assert sessions.add_messages("session", [there[1], message("11")], expected=10) == [2, 11]


def test_a_new_session_has_the_expected_number_of_messages_if_that_is_none(
    persistence: Persistence,
) -> None:
    sessions = persistence.sessions
    with pytest.raises(RecordConflictError):
        sessions.add_message("new", message(), create=session("new"), expected=1)
    assert not sessions.exists("new")
    assert sessions.add_message("new", message("1"), create=session("new"), expected=0) == 1
    with pytest.raises(RecordConflictError):
        sessions.add_message("new", message("2"), create=session("new"), expected=0)
    assert texts(persistence, "new") == ["1"]


@pytest.mark.parametrize("wrong", [-1, True, "1", 1.0, 2**31 - 1])
def test_what_is_no_number_of_messages_is_refused(
    persistence: Persistence, ten: list[str], wrong: Any
) -> None:
    for call in (
        lambda: persistence.sessions.add_message("session", message(), expected=wrong),
        lambda: persistence.sessions.rewrite("session", after=None, expected=wrong),
    ):
        with pytest.raises(InvalidRecordError) as raised:
            call()
        assert raised.value.field == "expected"
    assert persistence.sessions.count_messages("session") == 10


def test_of_writers_that_expect_the_same_number_one_succeeds(persistence: Persistence) -> None:
    saved_session(persistence)
    sessions = persistence.sessions

    def add(number: int) -> int:
        won = 0
        for expected in range(6):
            try:
                text = f"{number}:{expected}"
                assert sessions.add_message("session", message(text), expected=expected)
            except RecordConflictError:
                continue
            won += 1
        return won

    with ThreadPoolExecutor(4) as threads:
        won = sum(threads.map(add, range(4)))
    history = texts(persistence)
    assert won == len(history)
    assert [int(text.partition(":")[2]) for text in history] == [*range(len(history))]


# rewrite


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
    before = _stored(persistence)
    for kept in (before[1][0], message("other", id=ten[7])):
        with pytest.raises(RecordConflictError) as raised:
            sessions.rewrite("session", after=ten[7], messages=[message(), kept])
        assert (raised.value.kind, raised.value.id) == ("message", kept.id)
    twice = [message("a", id="same"), message("b", id="same")]
    with pytest.raises(RecordConflictError):
        sessions.rewrite("session", after=ten[7], messages=twice)
    assert _stored(persistence) == before
    assert sessions.add_message("session", message("eleven", id="same")) == 11


def test_a_rewrite_that_expects_another_number_of_messages_is_refused(
    persistence: Persistence, ten: list[str]
) -> None:
    before = _stored(persistence)
    for expected in (0, 9, 11):
        with pytest.raises(RecordConflictError) as raised:
            persistence.sessions.rewrite(
                "session", after=ten[0], messages=[message()], expected=expected
            )
        assert (raised.value.kind, raised.value.id) == ("session", "session")
    assert _stored(persistence) == before


def test_a_long_history_is_rewritten(persistence: Persistence) -> None:
    saved_session(persistence)
    old = [message(str(number)) for number in range(701)]
    new = [message(f"new {number}") for number in range(602)]
    persistence.sessions.add_messages("session", old)
    assert persistence.sessions.rewrite("session", after=old[99].id, messages=new) == old[100:]
    assert persistence.sessions.get_messages("session") == [*old[:100], *new]
    assert persistence.sessions.add_messages("session", [old[100], new[-1]]) == [703, 702]


# pop_message


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
        return _add_and_pop(persistence, writer, 15)


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


# replace_message


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


# fork


def test_a_fork_has_the_history_and_says_where_it_comes_from(
    persistence: Persistence, ten: list[str]
) -> None:
    sessions = persistence.sessions
    history = sessions.get_messages("session")
    origin = sessions.get("session")
    assert sessions.fork("session", session("all", image_id="other", note=1)) == 10
    assert sessions.get_messages("all") == history
    forked = sessions.get("all")
    assert '"forkedFrom":{"sessionId":"session"}' in forked.to_json()
    assert (forked.image_id, forked.container_id) == ("other", "box")
    assert sessions.find_all(image_id="other") == [forked]
    part = session("part", created_at=3, updated_at=4, container_id="else")
    assert sessions.fork("session", part, through=ten[3]) == 4
    assert sessions.get_messages("part") == history[:4]
    saved = sessions.get("part")
    expected = ForkOrigin(session_id="session", message_id=ten[3])
    assert saved == part.model_copy(update={"forked_from": expected})
    assert sessions.find_all(container_id="else", order="active") == [saved]
    assert sessions.get("session") == origin
    assert sessions.add_message("part", history[4]) == 5
    assert sessions.add_message("part", history[1]) == 2
    saved_session(persistence, "empty")
    assert sessions.fork("empty", session("of nothing")) == 0
    assert sessions.get_messages("of nothing") == []


def test_later_changes_on_either_side_of_a_fork_do_not_touch_the_other(
    persistence: Persistence, ten: list[str]
) -> None:
    sessions = persistence.sessions
    sessions.fork("session", session("fork"))
    sessions.add_message("fork", message("of the fork"))
    sessions.replace_message("fork", message("1 of the fork", id=ten[0]))
    sessions.truncate_after("session", ten[7])
    sessions.replace_message("session", message("2 of the origin", id=ten[1]))
    assert texts(persistence) == ["1", "2 of the origin", *"345678"]
    assert texts(persistence, "fork") == ["1 of the fork", *"23456789", "10", "of the fork"]
    sessions.fork("fork", session("fork of a fork"), through=ten[1])
    assert sessions.delete("session") is True
    assert len(texts(persistence, "fork")) == 11
    assert sessions.pop_message("fork") is not None
    sessions.clear_messages("fork")
    assert texts(persistence, "fork of a fork") == ["1 of the fork", "2"]


def test_a_fork_over_a_session_that_is_there_is_a_conflict(
    persistence: Persistence, ten: list[str]
) -> None:
    sessions = persistence.sessions
    sessions.add_message("taken", message("kept"), create=session("taken", note="kept"))
    before = sessions.get("taken")
    for id in ("taken", "session"):
        with pytest.raises(RecordConflictError) as raised:
            sessions.fork("session", session(id, note="new"))
        assert (raised.value.kind, raised.value.id) == ("session", id)
    assert sessions.get("taken") == before
    assert texts(persistence, "taken") == ["kept"]
    assert sessions.count_messages("session") == 10


def test_a_session_cannot_be_its_own_fork(persistence: Persistence) -> None:
    for through in (None, "m"):
        with pytest.raises(RecordNotFoundError) as raised:
            persistence.sessions.fork("absent", session("absent"), through=through)
        assert (raised.value.kind, raised.value.id) == ("session", "absent")
    assert persistence.sessions.find_all() == []


def test_a_long_history_is_forked(persistence: Persistence) -> None:
    saved_session(persistence)
    history = [message(str(number)) for number in range(1201)]
    persistence.sessions.add_messages("session", history)
    forked = persistence.sessions.fork("session", session("fork"), through=history[1100].id)
    assert forked == 1101
    assert persistence.sessions.get_messages("fork") == history[:1101]


def test_a_fork_beside_appends_is_of_one_moment(persistence: Persistence) -> None:
    saved_session(persistence)
    sessions = persistence.sessions
    sessions.add_messages("session", [message() for _ in range(30)])

    def append(_: int) -> list[int]:
        for _ in range(10):
            sessions.add_messages("session", [message(), message()])
        return []

    def fork(writer: int) -> list[int]:
        return [sessions.fork("session", session(f"fork {writer} {n}")) for n in range(4)]

    with ThreadPoolExecutor(4) as threads:
        given = list(threads.map(lambda n: fork(n) if n % 2 else append(n), range(4)))
    everything = sessions.get_messages("session")
    for writer in (1, 3):
        assert given[writer] == sorted(given[writer])
        for number, count in enumerate(given[writer]):
            assert count % 2 == 0
            assert sessions.get_messages(f"fork {writer} {number}") == everything[:count]


def test_only_a_session_can_be_the_fork(persistence: Persistence, ten: list[str]) -> None:
    wrong: list[Any] = [image("fork"), None, "fork", {"session_id": "fork"}]
    for new in wrong:
        with pytest.raises(InvalidRecordError):
            persistence.sessions.fork("session", new)
    assert [s.session_id for s in persistence.sessions.find_all()] == ["session"]


# What all have in common


def test_an_unknown_session_is_refused_by_every_verb(persistence: Persistence) -> None:
    sessions = persistence.sessions
    calls = [
        lambda: sessions.add_message("unknown", message(), expected=0),
        lambda: sessions.rewrite("unknown", after=None),
        lambda: sessions.rewrite("unknown", after="x", messages=[message()], expected=3),
        lambda: sessions.pop_message("unknown"),
        lambda: sessions.replace_message("unknown", message()),
        lambda: sessions.fork("unknown", session("new")),
        lambda: sessions.fork("unknown", session("new"), through="x"),
        lambda: sessions.get_message("unknown", "x"),
        lambda: sessions.find_message("unknown", "x"),
        lambda: sessions.iter_messages("unknown", after="x", reverse=True),
    ]
    for call in calls:
        with pytest.raises(RecordNotFoundError) as raised:
            call()
        assert (raised.value.kind, raised.value.id) == ("session", "unknown")
    assert sessions.find_all() == []
    assert sessions.summaries(["unknown"]) == {}


def test_an_unknown_message_is_refused_by_every_verb(
    persistence: Persistence, ten: list[str]
) -> None:
    sessions = persistence.sessions
    foreign = message()
    sessions.add_message("other", foreign, create=session("other"))
    before = _stored(persistence)
    for id in ("unknown", foreign.id):
        for call in (
            lambda: sessions.rewrite("session", after=id, messages=[message()]),  # noqa: B023
            lambda: sessions.replace_message("session", message(id=id)),  # noqa: B023
            lambda: sessions.fork("session", session("new"), through=id),  # noqa: B023
            lambda: sessions.get_message("session", id),  # noqa: B023
            lambda: sessions.iter_messages("session", after=id),  # noqa: B023
            lambda: sessions.iter_messages("session", after=id, reverse=True),  # noqa: B023
        ):
            with pytest.raises(RecordNotFoundError) as raised:
                call()
            assert (raised.value.kind, raised.value.id) == ("message", id)
        assert sessions.find_message("session", id) is None
    assert _stored(persistence) == before
    assert not sessions.exists("new")


@pytest.mark.parametrize("id", ["", " a", "a\n", "x" * 256, "a\ud800", None, 5, b"a"], ids=ascii)
def test_what_is_no_id_is_refused_by_every_verb(
    persistence: Persistence, ten: list[str], id: Any
) -> None:
    sessions = persistence.sessions
    calls = [
        lambda: sessions.rewrite(id, after=None),
        lambda: sessions.pop_message(id),
        lambda: sessions.replace_message(id, message()),
        lambda: sessions.fork(id, session("new")),
        lambda: sessions.get_message(id, ten[0]),
        lambda: sessions.get_message("session", id),
        lambda: sessions.find_message("session", id),
        lambda: sessions.summaries([id]),
        lambda: sessions.update(id, {}),
        lambda: sessions.add_message(id, message(), create=session("session")),
    ]
    if id is not None:
        calls += [
            lambda: sessions.rewrite("session", after=id),
            lambda: sessions.fork("session", session("new"), through=id),
            lambda: sessions.iter_messages("session", after=id),
        ]
    for call in calls:
        with pytest.raises(InvalidRecordError):
            call()
    assert sessions.count_messages("session") == 10
    assert not sessions.exists("new")


def test_what_is_no_message_is_refused_by_every_verb(
    persistence: Persistence, ten: list[str]
) -> None:
    sessions = persistence.sessions
    before = _stored(persistence)
    wrong: list[Any] = [{"content": "x"}, "x", None, image(), 5]
    for value in wrong:
        for call in (
            lambda: sessions.replace_message("session", value),  # noqa: B023
            lambda: sessions.rewrite("session", after=None, messages=[message(), value]),  # noqa: B023
            lambda: sessions.rewrite("session", after=None, messages=value),  # noqa: B023
        ):
            with pytest.raises(InvalidRecordError):
                call()
    for call in (
        lambda: sessions.rewrite("session", after=None, messages=message()),  # type: ignore[arg-type]
        lambda: sessions.add_messages("session", message()),  # type: ignore[arg-type]
    ):
        with pytest.raises(InvalidRecordError):
            call()
    assert _stored(persistence) == before


def test_changes_never_lower_updated_at(persistence: Persistence, ten: list[str]) -> None:
    sessions = persistence.sessions
    later = 2**53 - 1
    sessions.save(session(updated_at=later))
    sessions.add_message("session", message(), expected=10)
    sessions.pop_message("session")
    sessions.rewrite("session", after=ten[0])
    sessions.replace_message("session", message("new", id=ten[0]))
    assert sessions.get("session").updated_at == later
    assert sessions.find_all(container_id="box", order="active", since=later)
