"""Exports of a store whose records others change meanwhile."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentx_persistence import Persistence, RecordConflictError, SessionRecord, create_persistence
from agentx_persistence.storage import SESSIONS
from agentx_persistence.transfer import _walking as walking
from agentx_persistence.transfer import compare, export, import_file
from tests.contract.records import message, session

_NAMES = pytest.mark.parametrize("name", ["a.jsonl", "a.md"])


@pytest.fixture
def memory() -> Iterator[Persistence]:
    with create_persistence() as persistence:
        yield persistence


def _make(memory: Persistence, id: str, state: str, **fields: Any) -> None:
    new = session(id, title=f"{id} {state}", **fields)
    memory.sessions.add_messages(id, [message(f"{id} {state}", id=m) for m in "ab"], create=new)


def _export(memory: Persistence, path: Path, change: Callable[[], object]) -> list[str]:
    """Export while `change` happens after each page; return titles and messages, in order."""
    listed = walking.pages

    def pages(*arguments: Any) -> Iterator[Any]:
        for page in listed(*arguments):
            yield page
            if arguments[1] is SESSIONS:
                change()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(walking, "FEW", 1)
        patch.setattr(walking, "fitting", lambda *_: 1)
        patch.setattr(walking, "pages", pages)
        export(memory, path, containers=["box"])
    return re.findall(r"(?:first|second|third) \w+\b", path.read_text("utf-8"))


@_NAMES
def test_record_and_messages_are_of_the_same_moment(
    memory: Persistence, tmp_path: Path, name: str
) -> None:
    _make(memory, "first", "old", created_at=1)
    storage = walking.storage_of(memory)
    listed = storage.find

    def make_anew(kind: Any, query: Any) -> Any:
        found = listed(kind, query)
        if kind is SESSIONS and memory.sessions.get("first").title == "first old":
            memory.sessions.delete("first")
            _make(memory, "first", "new", created_at=1)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "find", make_anew)
        assert _export(memory, tmp_path / name, lambda: None) == ["first new"] * 3
    if name == "a.jsonl":
        with create_persistence() as other:
            import_file(tmp_path / name, other)
            assert compare(memory, other).equal


@_NAMES
def test_a_session_that_is_listed_again_is_exported_once(
    memory: Persistence, tmp_path: Path, name: str
) -> None:
    _make(memory, "first", "old", created_at=1)
    _make(memory, "second", "old", created_at=2)

    def make_anew() -> None:
        if memory.sessions.get("first").title == "first old":
            memory.sessions.delete("first")
            _make(memory, "first", "new", created_at=3)

    written = _export(memory, tmp_path / name, make_anew)
    assert written == ["first old"] * 3 + ["second old"] * 3
    if name == "a.jsonl":
        with create_persistence() as other:
            assert import_file(tmp_path / name, other).messages == 4


@_NAMES
def test_a_session_that_leaves_the_containers_before_it_is_read_is_left_out(
    memory: Persistence, tmp_path: Path, name: str
) -> None:
    _make(memory, "first", "old", created_at=1)
    _make(memory, "second", "old", created_at=2)
    storage = walking.storage_of(memory)
    listed = storage.find

    def move(kind: Any, query: Any) -> Any:
        found = listed(kind, query)
        if kind is SESSIONS:
            memory.sessions.update("first", {"containerId": "another"})
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "find", move)
        assert _export(memory, tmp_path / name, lambda: None) == ["second old"] * 3


def test_a_session_that_is_saved_during_each_reading_is_a_conflict(
    memory: Persistence, tmp_path: Path
) -> None:
    _make(memory, "first", "old", created_at=1)
    storage = walking.storage_of(memory)
    read, saved = storage.read, 0

    def save(*arguments: Any) -> Any:
        nonlocal saved
        saved += 1
        memory.sessions.save(SessionRecord(session_id="first", title=f"first {saved}"))
        return read(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "read", save)
        with pytest.raises(RecordConflictError, match="changed it during 5 readings; try again"):
            export(memory, tmp_path / "a.jsonl")
    assert saved == 5
    assert [*tmp_path.iterdir()] == []
