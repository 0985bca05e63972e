"""The thread that writes the target of a copy, or reads the second store of a comparison."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import create_engine, text

from agentx_persistence import (
    BackendUnavailableError,
    CorruptRecordError,
    Persistence,
    create_persistence,
)
from agentx_persistence.sqlite import sqlite_driver
from agentx_persistence.transfer import compare, copy
from tests.contract.records import message, session
from tests.transfer.given import fill


@pytest.fixture
def memory() -> Iterator[Persistence]:
    with create_persistence() as persistence:
        fill(persistence, 6)
        yield persistence


def test_an_application_s_own_transaction_is_used_in_its_thread_alone(
    memory: Persistence, tmp_path: Path
) -> None:
    """`sqlite3` refuses a connection in any other thread."""
    engine = create_engine(f"sqlite:///{tmp_path / 'a.db'}")
    with create_persistence(sqlite_driver(tmp_path / "a.db")) as persistence:
        for end in ("rollback", "commit"):
            with engine.connect() as connection:
                inside = persistence.within(connection)
                assert copy(memory, inside).complete
                assert compare(memory, inside).equal
                assert compare(inside, memory).equal
                getattr(connection, end)()
            kept = memory.sessions.count() if end == "commit" else 0
            assert persistence.sessions.count() == kept
        with engine.connect() as connection, create_persistence() as target:
            assert copy(persistence.within(connection), target).complete
            assert connection.execute(text("SELECT 1")).scalar() == 1
    engine.dispose()


def _fail(storage: Any, name: str, error: Exception, after: int) -> Callable[..., Any]:
    """Return what the storage does, but for the first call after so many, which fails."""
    real, calls = getattr(storage, name), iter(range(after))

    def call(*args: Any, **kwargs: Any) -> Any:
        if next(calls, None) is None:
            raise error
        return real(*args, **kwargs)

    return call


@pytest.mark.parametrize("name", ["create", "append", "put"])
@pytest.mark.parametrize("after", [0, 3])
def test_a_failure_of_the_target_ends_the_copy_which_can_be_repeated(
    memory: Persistence, monkeypatch: pytest.MonkeyPatch, name: str, after: int
) -> None:
    threads = threading.active_count()
    with create_persistence() as target:
        storage = cast(Any, target._storage)
        with monkeypatch.context() as patch:
            error = BackendUnavailableError("append", "gone")
            patch.setattr(storage, name, _fail(storage, name, error, after))
            with pytest.raises(BackendUnavailableError):
                copy(memory, target)
        assert threading.active_count() == threads
        assert copy(memory, target).complete


def test_what_is_being_written_ends_before_a_failure_of_the_source_is_raised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with create_persistence() as memory, create_persistence() as target:
        for number in range(4):
            one = session(f"s{number}", created_at=number)
            memory.sessions.add_message(one.session_id, message(), create=one)
        source, storage = cast(Any, memory._storage), cast(Any, target._storage)
        append: Callable[..., Any] = storage.append
        begun, ended, is_read = list[str](), list[str](), threading.Event()

        def append_slowly(log: str, *args: Any, **kwargs: Any) -> Any:
            begun.append(log)
            if len(begun) == 2:
                # So the source is read while this is written.
                assert is_read.wait(10)
            added = append(log, *args, **kwargs)
            ended.append(log)
            return added

        error = CorruptRecordError("message", "#1", "here")
        read = _fail(source, "read", error, 2)

        def read_and_tell(*args: Any, **kwargs: Any) -> Any:
            try:
                return read(*args, **kwargs)
            except CorruptRecordError:
                is_read.set()
                raise

        monkeypatch.setattr(storage, "append", append_slowly)
        monkeypatch.setattr(source, "read", read_and_tell)
        with pytest.raises(CorruptRecordError):
            copy(memory, target)
        assert len(begun) == len(ended) == 2
