"""The comparison at the end of a copy: it reads the target, and of the source only the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agentx_persistence import Persistence, UserMessage, create_persistence
from agentx_persistence.storage import Slice, Window
from agentx_persistence.transfer import Step, _copied, compare, copy
from tests.backends.backend import Backend
from tests.backends.memory import corrupt
from tests.contract.records import container, message, saved_session, texts
from tests.transfer.given import fill


@pytest.fixture
def memory() -> Iterator[Persistence]:
    with create_persistence() as persistence:
        yield persistence


@pytest.fixture
def other() -> Iterator[Persistence]:
    with create_persistence() as persistence:
        yield persistence


def _reads(storage: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of the logs that are read from now on."""
    logs, read = list[str](), storage.read

    def note(log: str, window: Window) -> Slice:
        logs.append(log)
        found: Slice = read(log, window)
        return found

    monkeypatch.setattr(storage, "read", note)
    return logs


def test_what_a_copy_has_read_is_not_read_again(
    persistence: Persistence, memory: Persistence, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(memory, 3)
    with create_persistence() as back:
        for source, target in ((memory, persistence), (persistence, back)):
            read_of_source = _reads(source._storage, monkeypatch)
            read_of_target = _reads(target._storage, monkeypatch)
            sessions = [each.session_id for each in source.sessions.find_all()]
            counts = [id for id in sessions if source.sessions.count_messages(id)]
            read_of_source.clear()

            def begin(step: Step, reads: list[str] = read_of_source) -> None:
                if step.phase == "compare" and step.kind == "containers":
                    reads.clear()

            assert copy(source, target, progress=begin).complete
            assert read_of_source == []
            assert sorted(set(read_of_target)) == sorted(counts)


# What happens to a session between the copy and the comparison, in the source or in the target.
_CHANGES: dict[str, Callable[[Persistence], object]] = {
    "replaced": lambda p: p.sessions.replace_message("session", UserMessage(id="m1", content="x")),
    "rewritten": lambda p: p.sessions.rewrite("session", after="m1", messages=[message("x")]),
    "appended": lambda p: p.sessions.add_message("session", message("x")),
    "cut": lambda p: p.sessions.truncate_after("session", "m1"),
    "created anew": lambda p: (
        p.sessions.delete("session"),
        saved_session(p),
        p.sessions.add_messages("session", [message("x"), message("y"), message("z")]),
    ),
}


@pytest.mark.parametrize("change", _CHANGES)
@pytest.mark.parametrize("in_source", [True, False])
def test_a_change_before_the_comparison_is_copied(
    memory: Persistence, other: Persistence, change: str, in_source: bool
) -> None:
    memory.containers.save(container())  # so that the comparison tells a step before the sessions
    saved_session(memory)
    memory.sessions.add_messages("session", [message(str(n), id=f"m{n}") for n in range(3)])
    copied = iter([memory if in_source else other])

    def disturb(step: Step) -> None:
        if step.phase == "compare" and (persistence := next(copied, None)):
            _CHANGES[change](persistence)

    assert copy(memory, other, progress=disturb).complete
    assert compare(memory, other).equal
    assert (texts(memory) != ["0", "1", "2"]) is in_source


@pytest.mark.parametrize("most", [20_000, 1])
def test_the_comparison_reads_what_the_target_has(
    memory_backend: Backend,
    memory: Persistence,
    other: Persistence,
    monkeypatch: pytest.MonkeyPatch,
    most: int,
) -> None:
    """One text is damaged so that nothing else shows it."""
    monkeypatch.setattr(_copied, "_MOST", most)
    memory.containers.save(container())  # so that the comparison tells a step before the sessions
    saved_session(memory)
    memory.sessions.add_messages("session", [message(str(n)) for n in range(1_500)])
    damaged = iter([b"{}"])

    def damage(step: Step) -> None:
        if step.phase == "compare" and (text := next(damaged, None)):
            corrupt(memory_backend, other, "sessions", "session", 1_200, text)

    report = copy(memory, other, progress=damage)
    assert report.complete
    assert report.messages == 1_500 + 301
    assert report.rewritten == 1
    assert compare(memory, other).equal
