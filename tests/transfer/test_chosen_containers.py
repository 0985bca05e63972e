"""A part of a store: some of its containers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentx_persistence import InvalidRecordError, Persistence, create_persistence
from agentx_persistence.transfer import compare, copy, export, prune, statistics
from tests.contract.records import container, image, item, message, session


@pytest.fixture
def memory() -> Iterator[Persistence]:
    with create_persistence() as persistence:
        yield persistence


def _fill(persistence: Persistence) -> None:
    persistence.containers.save(container())
    persistence.images.save(image())
    persistence.items.save(item())
    persistence.sessions.add_message("session", message(), create=session(updated_at=1))


def test_a_container_that_is_named_twice_counts_once(persistence: Persistence) -> None:
    _fill(persistence)
    once, twice = (statistics(persistence, containers=["box"] * n) for n in (1, 2))
    assert once == twice
    assert once.total.messages == 1
    with create_persistence() as other:
        report = copy(persistence, other, containers=["box", "box"])
        assert report.unchanged == 0
        assert report.comparison
        assert report.comparison.messages == 1


def test_a_container_that_is_named_twice_is_exported_once(
    persistence: Persistence, tmp_path: Path
) -> None:
    _fill(persistence)
    assert export(persistence, tmp_path / "a.jsonl", containers=["box", "box"]) == 1


_CALLS: list[Callable[[Persistence, Any, Path], object]] = [
    lambda persistence, some, path: statistics(persistence, containers=some),
    lambda persistence, some, path: export(persistence, path / "a.jsonl", containers=some),
    lambda persistence, some, path: export(persistence, path / "a.md", containers=some),
    lambda persistence, some, path: [*prune(persistence, before=9**9, containers=some)],
    lambda persistence, some, path: copy(persistence, create_persistence(), containers=some),
    lambda persistence, some, path: compare(persistence, create_persistence(), containers=some),
]


@pytest.mark.parametrize("some", [[""], ["box", "\udcff"], ["box\x1fstate"], "box", [5]])
@pytest.mark.parametrize("call", range(len(_CALLS)))
def test_what_can_be_no_container_is_refused(
    memory: Persistence, tmp_path: Path, call: int, some: Any
) -> None:
    _fill(memory)
    with pytest.raises(InvalidRecordError):
        _CALLS[call](memory, some, tmp_path)
    assert memory.sessions.exists("session")
    assert not list(tmp_path.glob("a.*"))


def test_a_comparison_names_what_is_in_another_container(
    persistence: Persistence, memory: Persistence
) -> None:
    _fill(persistence)
    assert copy(persistence, memory).complete
    persistence.sessions.update("session", {"container_id": "other"})
    persistence.images.update("image", {"container_id": "other"})
    found = compare(persistence, memory, containers=["box"])
    said = "is in another container in the first store"
    assert [(each.kind, each.what) for each in found.differences] == [
        ("image", said),
        ("session", said),
    ]
    assert all(each.a and each.b for each in found.differences)
    assert compare(persistence, memory, containers=["box", "other"]).count == 2
