"""What is not copied, and what copying may cost."""

from __future__ import annotations

import shutil
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentx_persistence import (
    ConfigurationError,
    CorruptRecordError,
    Persistence,
    create_persistence,
)
from agentx_persistence.transfer import copy, export, statistics
from tests.backends.backend import SHARED, Backend
from tests.backends.memory import corrupt
from tests.contract.records import item, message, saved_session, session, texts
from tests.transfer.damages import run_sql


@pytest.fixture
def memory() -> Iterator[Persistence]:
    with create_persistence() as persistence:
        yield persistence


def test_a_store_is_not_copied_into_itself(memory: Persistence) -> None:
    with pytest.raises(ConfigurationError, match="the same store"):
        copy(memory, memory)


@pytest.mark.needs(SHARED)
def test_a_store_that_is_opened_twice_is_not_copied_into_itself(backend: Backend) -> None:
    """What is written between two reads would be taken for what only the target has."""
    with backend.open() as one, backend.open() as other:
        saved_session(one)
        one.sessions.add_message("session", message("0"))
        with pytest.raises(ConfigurationError, match="the same store"):
            copy(one, other)
        assert (one.containers.count(), texts(one)) == (0, ["0"])


def test_a_copy_of_a_file_is_another_store(sqlite_backend: Backend, tmp_path: Path) -> None:
    with sqlite_backend.open() as source:
        saved_session(source)
    shutil.copy(sqlite_backend.arguments[0], tmp_path / "backup.db")
    backup = Backend("sqlite", "agentx_persistence.sqlite", (str(tmp_path / "backup.db"),))
    with sqlite_backend.open() as source, backup.open() as target:
        source.sessions.add_message("session", message("later"))
        assert copy(source, target).complete
        assert (target.containers.count(), texts(target)) == (0, ["later"])


def test_an_interrupt_while_two_stores_are_told_apart_leaves_nothing(
    sqlite_backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sqlite_backend.open() as one, sqlite_backend.open() as other:
        saved_session(one)
        storage: Any = other._storage
        create = storage.create

        def interrupted(*arguments: Any) -> None:
            create(*arguments)
            raise KeyboardInterrupt

        monkeypatch.setattr(storage, "create", interrupted)
        with pytest.raises(KeyboardInterrupt):
            copy(one, other)
        assert one.containers.count() == 0


@pytest.mark.parametrize("name", ["sqlite", "mysql", "mariadb", "postgresql"])
@pytest.mark.parametrize("missing", [1, 1_001, 1_002])
def test_a_history_with_a_missing_message_is_not_taken_for_a_whole_one(
    request: pytest.FixtureRequest, tmp_path: Path, name: str, missing: int
) -> None:
    """It is read in pieces of 1,000, so that also the beginning of a piece can be missing."""
    backend: Backend = request.getfixturevalue(f"{name}_backend")
    with backend.open() as persistence, create_persistence() as target:
        saved_session(persistence)
        persistence.sessions.add_messages("session", [message(str(n)) for n in range(1_002)])
        delete = f"DELETE FROM agentx_messages WHERE position = {missing}"  # noqa: S608
        assert run_sql(backend, delete) == 1
        calls: list[Callable[[], object]] = [
            lambda: copy(persistence, target),
            lambda: export(persistence, tmp_path / "a.jsonl"),
        ]
        for call in calls:
            with pytest.raises(CorruptRecordError, match=f"position = {missing}"):
                call()
        assert statistics(persistence).unreadable == 1
    assert list(tmp_path.glob("a.*")) == []


@pytest.mark.parametrize(
    ("kind", "position", "text"),
    [
        ("sessions", None, b'{"sessionId": "session"'),
        ("sessions", None, b'{"sessionId": "session", "createdAt": "1"}'),
        ("sessions", None, b"[]"),
        ("sessions", 1, b'{"id": "m", "role": "user", "subtype": "user"}'),
        ("sessions", 1, b'{"id": 5, "role": "user", "subtype": "user", "timestamp": 1}'),
        ("sessions", 1, b'{"id": "m", "role": "user", "subtype": "user", "timestamp": "1"}'),
        ("sessions", 1, b'{"id": "\xff", "role": "user", "subtype": "user", "timestamp": 1}'),
    ],
)
def test_a_damaged_text_is_not_copied(
    memory_backend: Backend, memory: Persistence, kind: str, position: int | None, text: bytes
) -> None:
    saved_session(memory)
    memory.sessions.add_message("session", message())
    assert corrupt(memory_backend, memory, kind, "session", position, text)
    with create_persistence() as target:
        with pytest.raises(CorruptRecordError):
            copy(memory, target)
        assert target.sessions.find_many(["session"]) == {} or not texts(target)


def test_a_history_with_an_id_twice_is_not_copied(
    memory_backend: Backend, memory: Persistence, persistence: Persistence
) -> None:
    saved_session(memory)
    sent = [message(str(n)) for n in range(3)]
    memory.sessions.add_messages("session", sent)
    twice = sent[0].to_json().encode()
    assert corrupt(memory_backend, memory, "sessions", "session", 3, twice)
    with pytest.raises(CorruptRecordError, match=sent[0].id):
        copy(memory, persistence)
    assert persistence.sessions.count() == 0


@pytest.mark.parametrize("name", ["messages", "items"])
def test_large_records_are_not_held_at_once(
    sqlite_backend: Backend, tmp_path: Path, name: str
) -> None:
    large = "x" * 1_000_000
    with sqlite_backend.open() as source:
        for n in range(60):
            if name == "items":
                source.items.save(item(key=f"k{n}", value=large))
            else:
                saved = session(f"s{n}")
                source.sessions.add_message(saved.session_id, message(large), create=saved)
    target = Backend("fs", "agentx_persistence.fs", (str(tmp_path / "target"),))
    with sqlite_backend.open() as source, target.open() as other:
        for _ in range(2):  # the second time the target has them, too
            tracemalloc.start()
            try:
                assert copy(source, other).complete
                assert tracemalloc.get_traced_memory()[1] < 40_000_000
            finally:
                tracemalloc.stop()
