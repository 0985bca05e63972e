"""Copying between backends, and comparing them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentx_persistence import (
    Persistence,
    SessionRecord,
    UserMessage,
    create_persistence,
)
from agentx_persistence.transfer import Step, compare, copy, import_ancestor
from tests.ancestor import ancestor_file
from tests.backends.backend import SHARED, Backend
from tests.contract.records import message, saved_session, texts
from tests.transfer.given import fill
from tests.transfer.killing import copy_killed


@pytest.fixture
def memory() -> Iterator[Persistence]:
    with create_persistence() as persistence:
        yield persistence


def test_a_copy_there_and_back_is_the_same_to_the_last_byte_and_time(
    persistence: Persistence, memory: Persistence
) -> None:
    fill(memory, int(os.environ.get("AGENTX_TEST_EXAMPLES", 12)))
    report = copy(memory, persistence)
    assert report.complete
    assert report.records["sessions"] == memory.sessions.count()
    assert compare(memory, persistence).equal
    with create_persistence() as back:
        assert copy(persistence, back).complete
        assert compare(back, memory).equal
        for session in memory.sessions.find_all():
            id = session.session_id
            assert back.sessions.get(id) == session
            assert back.sessions.get_messages(id) == memory.sessions.get_messages(id)
        page = memory.sessions.find_all(container_id="c1", order="active")
        assert persistence.sessions.find_all(container_id="c1", order="active") == page


def test_the_ancestors_data_is_copied(persistence: Persistence, memory: Persistence) -> None:
    import_ancestor(str(ancestor_file("agentx-head.db")), memory)
    assert copy(memory, persistence).complete
    with create_persistence() as back:
        assert copy(persistence, back).complete
        assert compare(memory, back).equal


def test_a_second_copy_writes_nothing(persistence: Persistence, memory: Persistence) -> None:
    fill(memory, 3)
    copy(memory, persistence)
    again = copy(memory, persistence)
    assert (again.records, again.messages, again.rewritten) == ({}, 0, 0)
    assert again.complete


def test_a_copy_catches_up_with_what_was_changed_since(
    persistence: Persistence, memory: Persistence
) -> None:
    fill(memory, 6)
    copy(memory, persistence)
    memory.sessions.add_message("s0", message("more"))
    memory.sessions.clear_messages("s3")
    memory.sessions.add_message("s3", message("anew"))
    ids = [m.id for m in memory.sessions.get_messages("contents")]
    memory.sessions.replace_message("contents", UserMessage(id=ids[3], content="edited"))
    memory.sessions.truncate_after("contents", ids[10])
    memory.sessions.update("s4", {"title": "New title"})
    report = copy(memory, persistence)
    assert report.complete
    assert report.rewritten >= 2
    assert texts(persistence, "s3") == ["anew"]
    assert compare(memory, persistence).equal


def test_an_edit_in_the_middle_is_found_by_the_comparison_and_copied(memory: Persistence) -> None:
    saved_session(memory)
    sent = [message(str(n)) for n in range(5)]
    memory.sessions.add_messages("session", sent)
    with create_persistence() as target:
        copy(memory, target)
        memory.sessions.replace_message("session", UserMessage(id=sent[1].id, content="edited"))
        assert copy(memory, target).complete
        assert texts(target) == ["0", "edited", "2", "3", "4"]


def test_messages_that_come_during_a_copy_are_copied(memory: Persistence) -> None:
    fill(memory, 5)
    late = iter(range(3))

    def write(step: Step) -> None:
        if step.phase == "compare" and next(late, None) is not None:
            memory.sessions.add_message("s0", message("late"))

    with create_persistence() as target:
        assert copy(memory, target, progress=write).complete
        assert target.sessions.get_messages("s0", last=1)[0].text == "late"
        assert compare(memory, target).equal


def test_only_some_containers_are_copied(memory: Persistence) -> None:
    fill(memory, 6)
    with create_persistence() as target:
        assert copy(memory, target, containers=["c1", "box"]).complete
        assert {s.container_id for s in target.sessions.find_all()} == {"c1"}
        assert target.items.count(namespace_prefix=("box",)) == 1
        assert compare(memory, target, containers=["c1"]).equal
        assert not compare(memory, target).equal


def test_a_dry_run_counts_and_writes_nothing(memory: Persistence) -> None:
    fill(memory, 4)
    with create_persistence() as target:
        dry = copy(memory, target, dry_run=True)
        assert target.sessions.count() == target.containers.count() == 0
        wet = copy(memory, target)
        assert (dry.records, dry.messages) == (wet.records, wet.messages)
        assert not dry.complete


def test_what_only_the_target_has_stays(memory: Persistence) -> None:
    with create_persistence() as target:
        target.sessions.add_message("own", message(), create=SessionRecord(session_id="own"))
        saved_session(memory)
        assert copy(memory, target).complete
        assert target.sessions.count_messages("own") == 1
        (only,) = compare(memory, target).differences
        assert (only.kind, only.id, only.what) == (
            "session",
            "own",
            "is missing in the first store",
        )


def _title(persistence: Persistence) -> None:
    persistence.sessions.save(SessionRecord(session_id="session", created_at=1, updated_at=1))


def _time(persistence: Persistence) -> None:
    persistence.sessions.update("session", {"updatedAt": 4_000_000_000_000})


def _edit(persistence: Persistence) -> None:
    session = persistence.sessions.get("session")
    second = persistence.sessions.get_messages("session")[1]
    persistence.sessions.replace_message("session", UserMessage(id=second.id, content="x"))
    persistence.sessions.save(session)


def _more(persistence: Persistence) -> None:
    persistence.sessions.add_message("session", message())


@pytest.mark.parametrize(
    ("change", "position", "what"),
    [
        (_title, None, "the texts differ"),
        (_time, None, "the texts differ"),
        (_edit, 2, "the texts differ"),
        (_more, 4, "is missing in the first store"),
    ],
)
def test_a_comparison_names_the_first_difference(
    memory: Persistence, change: Any, position: int | None, what: str
) -> None:
    saved_session(memory)
    memory.sessions.add_messages("session", [message(str(n)) for n in range(3)])
    with create_persistence() as other:
        copy(memory, other)
        change(other)
        found = compare(memory, other)
        assert not found.equal
        differences = {(d.position, d.what) for d in found.differences}
        assert (position, what) in differences
        assert all(d.a != d.b for d in found.differences)


@pytest.mark.needs(SHARED)
def test_a_copy_that_is_killed_again_and_again_ends_equal(
    sqlite_backend: Backend, backend: Backend, tmp_path: Path, report: Callable[[str], None]
) -> None:
    source = sqlite_backend
    if backend == source:
        source = Backend("fs", "agentx_persistence.fs", (str(tmp_path / "source"),))
    with source.open() as a:
        fill(a, 30)
    kills = int(os.environ.get("AGENTX_TEST_TRIES", 1))
    ended = copy_killed(source, backend, kills)
    with source.open() as a, backend.open() as b:
        last = copy(a, b)
        assert last.complete
        assert compare(a, b).equal
        for session in a.sessions.find_all():
            id = session.session_id
            assert b.sessions.get_messages(id) == a.sessions.get_messages(id)
    report(
        f"copy {source.name} → {backend.name}: {kills} killed, {ended} ended before; "
        f"the last one wrote {sum(last.records.values())} records and {last.messages} messages"
    )
