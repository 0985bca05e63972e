"""Forks while calls of other threads begin, go on, or have just ended."""

from __future__ import annotations

import gc
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

from agentx_persistence import BackendError, Persistence, create_persistence
from agentx_persistence._fs.index_file import IndexFile
from agentx_persistence._sql.kept import KeptConnections
from agentx_persistence.fs import fs_driver
from agentx_persistence.sqlite import sqlite_driver
from agentx_persistence.storage._forking import ForkAware, renew_after_fork
from tests.contract.calls import all_calls
from tests.contract.records import saved_session
from tests.drivers.killing import exit_status, in_child

_WAIT = 10.0


class _Caller(ForkAware):
    """A thread that lists sessions. Between the preparation of a fork and the fork, it goes on from
    the start of a method to the line at which it counts as under way."""

    def __init__(
        self, persistence: Persistence, method: CodeType, is_under_way: Callable[[], bool]
    ) -> None:
        self._method, self._is_under_way = method, is_under_way
        self._began, self._go, self._came, self._leave = (threading.Event() for _ in range(4))
        self._found: list[int] = []
        self._persistence = persistence
        self._thread = threading.Thread(target=self._call)

    def start(self) -> None:
        """Let the thread go on when the fork has been prepared."""
        renew_after_fork(self)
        self._thread.start()
        assert self._began.wait(_WAIT)

    def start_at_once(self) -> None:
        self._go.set()
        self._thread.start()
        assert self._came.wait(_WAIT)

    def before_fork(self, deadline: float) -> None:
        self._go.set()
        assert self._came.wait(_WAIT)

    def count(self) -> None:
        self._found.append(len(self._persistence.sessions.find_all()))

    def end(self) -> list[int]:
        self._leave.set()
        self._thread.join(_WAIT)
        return self._found

    def _call(self) -> None:
        sys.settrace(self._trace)
        try:
            self.count()
        finally:
            sys.settrace(None)

    def _trace(self, frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code is not self._method or self._came.is_set():
            return None
        if event == "call":
            self._began.set()
            self._go.wait(_WAIT)
        elif self._is_under_way():
            self._came.set()
            self._leave.wait(_WAIT)
        return self._trace


def _sqlite(folder: Path) -> Iterator[_Caller]:
    with create_persistence(sqlite_driver(folder / "agentx.db")) as persistence:
        saved_session(persistence)
        connections: Any = persistence._storage._database._connections  # type: ignore[attr-defined]
        yield _Caller(
            persistence, KeptConnections.fetch.__code__, lambda: bool(connections._inside)
        )


def _fs(folder: Path) -> Iterator[_Caller]:
    with create_persistence(fs_driver(folder)) as persistence:
        saved_session(persistence)
        file: Any = persistence._storage._index  # type: ignore[attr-defined]
        yield _Caller(persistence, IndexFile._use.__code__, lambda: file._using)


@pytest.fixture(params=[_sqlite, _fs], ids=["sqlite", "fs"])
def caller(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[_Caller]:
    yield from request.param(tmp_path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_child_can_use_the_store_though_a_call_began_just_before_the_fork(
    caller: _Caller,
) -> None:
    caller.start()
    child = in_child(caller.count)
    assert exit_status(child) == 0
    assert caller.end() == [1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_fork_whose_preparation_is_interrupted_knows_nothing_from_the_one_before(
    caller: _Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(thing: ForkAware, deadline: float) -> None:
        raise KeyboardInterrupt

    def count() -> None:
        with pytest.raises(BackendError, match="forked in the middle of a call"):
            caller.count()

    assert exit_status(in_child(caller.count)) == 0
    caller.start_at_once()
    monkeypatch.setattr(KeptConnections, "before_fork", interrupted)
    monkeypatch.setattr(IndexFile, "before_fork", interrupted)
    assert exit_status(in_child(count)) == 0
    assert caller.end() == [1]


# In an interpreter of its own: once `concurrent.futures.thread` is imported, a fork in a fork waits
# for a lock of that module.
_FORK_WHILE_CLOSING = """
import os, sys
from agentx_persistence import BackendError, SessionRecord, create_persistence
from agentx_persistence._fs.index_file import IndexFile

persistence = create_persistence(sys.argv[1])
persistence.sessions.save(SessionRecord())
children = []

def count():
    return persistence.sessions.count()

def refused():
    try:
        count()
    except BackendError as error:
        return "forked in the middle of a call" in str(error)

def fork(work):
    child = os.fork()
    if child == 0:
        os._exit(0 if work() else 1)
    children.append(child)

def trace(frame, event, _):
    closes_reader = frame.f_code.co_name == "invalidate" and event == "call"
    closes_index = frame.f_code is IndexFile._disconnect.__code__ and "idle" in frame.f_locals
    if not children and (closes_reader or closes_index):
        fork(refused)
    return trace

count()
sys.settrace(trace)
fork(count)
sys.settrace(None)
print([os.waitpid(child, 0)[1] for child in children], count())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.parametrize("url", ["sqlite:///{}/agentx.db", "file://{}/fs"])
def test_a_fork_while_another_one_closes_connections_leaves_them_to_the_parent(
    url: str, tmp_path: Path
) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _FORK_WHILE_CLOSING, url.format(tmp_path)],
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert ended.stdout.decode() == "[0, 0] 1\n", ended.stderr.decode()


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="cursors cannot be listed")
def test_no_cursor_outlasts_its_call(tmp_path: Path) -> None:
    """A child hangs if another thread frees a cursor's statement while it is forked. The tracebacks
    of errors keep cursors, and any thread may collect them as garbage at any time."""
    with create_persistence(sqlite_driver(tmp_path / "agentx.db")) as persistence:
        gc.disable()
        try:
            for call in all_calls(persistence, "own"):
                call()
            cursors = [found for found in gc.get_objects() if type(found) is sqlite3.Cursor]
        finally:
            gc.enable()
        for cursor in cursors:
            with pytest.raises(sqlite3.ProgrammingError, match="closed cursor"):
                cursor.execute("SELECT 1")
