"""Forks while calls are under way, and what a signal handler does in the middle of a fork."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from agentx_persistence import BackendError, Persistence, create_persistence
from agentx_persistence.fs import fs_driver
from agentx_persistence.sqlite import sqlite_driver
from agentx_persistence.storage import _forking
from tests.contract.records import message, saved_session, texts
from tests.drivers.killing import exit_status, in_child

pytestmark = [
    # A fork tells of what a signal handler raises in it, and goes on.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[list[Persistence]]:
    drivers = [sqlite_driver(tmp_path / f"{number}.db") for number in range(3)]
    with ExitStack() as stack:
        opened = [
            stack.enter_context(create_persistence(driver))
            for driver in (*drivers, fs_driver(tmp_path / "fs"))
        ]
        for persistence in opened:
            saved_session(persistence)
            persistence.sessions.add_message("session", message("first"))
        yield opened


@contextmanager
def _busy(persistence: Persistence, seconds: float) -> Iterator[None]:
    """Have another thread write for some seconds."""
    database: Any = persistence._storage._database  # type: ignore[attr-defined]
    inside = threading.Event()
    thread = threading.Thread(
        target=lambda: database.write(lambda cursor: (inside.set(), time.sleep(seconds)))
    )
    thread.start()
    assert inside.wait(5)
    try:
        yield
    finally:
        thread.join()


def _append(stores: list[Persistence]) -> None:
    for persistence in stores:
        persistence.sessions.add_message("session", message("later"))


def _append_in_another_thread(stores: list[Persistence]) -> None:
    thread = threading.Thread(target=_append, args=(stores,), daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


@contextmanager
def _handled(handle: Callable[[], None]) -> Iterator[None]:
    """Call `handle` in a signal handler soon."""
    before = signal.signal(signal.SIGALRM, lambda number, frame: handle())
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _check(stores: list[Persistence]) -> None:
    """Check that each store works in this thread, in another one, and in a child."""
    _append(stores)
    _append_in_another_thread(stores)
    assert exit_status(in_child(lambda: _append(stores))) == 0
    assert [texts(persistence)[-3:] for persistence in stores] == [["later"] * 3] * len(stores)


def test_a_fork_waits_no_longer_for_several_stores_than_for_one(
    stores: list[Persistence], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_forking, "_LONGEST", 0.5)
    with _busy(stores[0], 2), _busy(stores[1], 2), _busy(stores[2], 2):
        started = time.monotonic()
        child = in_child(lambda: _append(stores[3:]))
        assert 0.4 < time.monotonic() - started < 1
        assert exit_status(child) == 0
    _check(stores)


def test_a_call_from_a_signal_handler_in_a_fork_is_refused_at_once(
    stores: list[Persistence],
) -> None:
    refused: list[float] = []

    def handle() -> None:
        started = time.monotonic()
        for call in (texts, lambda store: store.sessions.add_message("session", message("x"))):
            with pytest.raises(BackendError, match="while its thread was forking"):
                call(stores[0])
        refused.append(time.monotonic() - started)

    with _busy(stores[0], 1), _handled(handle):
        child = in_child(lambda: _append(stores))
    assert exit_status(child) == 0
    assert len(refused) == 1
    assert refused[0] < 0.1
    assert [texts(persistence) for persistence in stores] == [["first", "later"]] * len(stores)
    _check(stores)


# In an interpreter of its own: once `concurrent.futures.thread` is imported, a fork in a fork waits
# for a lock of that module.
_FORK_IN_A_FORK = """
import contextlib, os, signal, sys, threading, time
from agentx_persistence import SessionRecord, create_persistence
from agentx_persistence.storage import _forking

with contextlib.ExitStack() as stack:
    stores = [
        stack.enter_context(create_persistence(f"sqlite:///{sys.argv[1]}/{number}.db"))
        for number in range(5)
    ]
    def save():
        for store in stores:
            store.sessions.save(SessionRecord())
    def fork():
        child = os.fork()
        if child == 0:
            try:
                save()
                os._exit(0)
            finally:
                os._exit(1)
        return child
    inside, inner = threading.Event(), []
    work = lambda cursor: (inside.set(), time.sleep(1))
    last = _forking._things()[-1]  # so the others are ready for the outer fork already
    busy = threading.Thread(target=last.write, args=(work,))
    busy.start()
    inside.wait()
    signal.signal(signal.SIGALRM, lambda number, frame: inner.append(fork()))
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    outer = fork()
    statuses = [os.waitpid(child, 0)[1] for child in (outer, *inner)]
    busy.join()
    save()
    another = threading.Thread(target=save)
    another.start()
    another.join()
    print(statuses, *(store.sessions.count() for store in stores))
"""


def test_a_signal_handler_may_fork_in_a_fork(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _FORK_IN_A_FORK, str(tmp_path)],
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert ended.stdout.decode() == "[0, 0] 4 4 4 4 4\n", ended.stderr.decode()


def test_a_child_may_fork_in_turn(stores: list[Persistence]) -> None:
    def fork() -> None:
        # Not `in_child`: its watch for hangs would wait here for a thread of the parent.
        grandchild = os.fork()
        if grandchild == 0:
            try:
                _append(stores)
                os._exit(0)
            finally:
                os._exit(1)
        _append(stores)
        assert exit_status(grandchild) == 0

    assert exit_status(in_child(fork)) == 0
    assert [texts(persistence) for persistence in stores] == [["first", "later", "later"]] * 4
    _check(stores)


def test_an_interrupt_of_a_fork_leaves_nothing_locked(stores: list[Persistence]) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    def refused_or_done() -> None:
        for persistence in stores:
            with suppress(BackendError):
                persistence.sessions.add_message("session", message("later"))

    with _busy(stores[0], 1), _handled(interrupt):
        started = time.monotonic()
        child = in_child(refused_or_done)
        assert time.monotonic() - started < 0.9  # it came while the fork waited
    assert exit_status(child) == 0
    _check(stores)


# A thread has a lock of `logging`, for which the hook of `logging` waits at each fork, and does
# what has to wait for that fork: it calls a store, or forks.
_HOOK_OF_OTHERS = """
import logging, logging.config, os, sys, threading, time
from agentx_persistence import BackendUnavailableError, SessionRecord, create_persistence
from agentx_persistence.records import _building
from agentx_persistence.storage import _forking

_building._LONGEST = _forking._LONGEST = 0.5
url, what = sys.argv[1:]
persistence = create_persistence(url)
persistence.sessions.save(SessionRecord(session_id="s"))
inside = threading.Event()
told = []

def fork():
    child = os.fork()
    if child == 0:
        os._exit(0)
    return os.waitpid(child, 0)[1]

def make_handler():
    inside.set()
    time.sleep(0.2)
    try:
        if what == "fork":
            fork()
        elif what == "read":
            persistence.sessions.find_all()
        else:
            persistence.sessions.save(SessionRecord(session_id="t"))
    except BackendUnavailableError as error:
        told.append(str(error))
    return logging.NullHandler()

config = {"version": 1, "handlers": {"h": {"()": make_handler}}, "root": {"handlers": ["h"]}}
thread = threading.Thread(target=logging.config.dictConfig, args=(config,))
thread.start()
inside.wait()
status = fork()
thread.join()
persistence.sessions.save(SessionRecord(session_id="u"))
print(status, persistence.sessions.find_many(["s", "u"]).keys(), *told)
"""


@pytest.mark.parametrize("what", ["fork", "read", "write"])
@pytest.mark.parametrize("url", ["memory:", "sqlite:///{}/agentx.db", "file://{}/fs"])
def test_a_fork_that_waits_in_a_hook_of_others_ends(url: str, what: str, tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _HOOK_OF_OTHERS, url.format(tmp_path), what],
        capture_output=True,
        timeout=20,
        check=False,
    )
    told = ended.stdout.decode()
    assert told.startswith("0 dict_keys(['s', 'u'])"), ended.stderr.decode()
    # A store in memory has nothing that a fork could break.
    refused = what != "fork" and url != "memory:"
    assert ("has been forking for 1 s" in told) is refused


def test_an_interrupt_of_a_fork_that_waits_for_another_one_does_not_undo_what_that_prepares(
    stores: list[Persistence],
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    children: list[int] = []
    with _busy(stores[0], 4):
        fork = lambda: children.append(in_child(lambda: _append(stores)))  # noqa: E731
        first = threading.Thread(target=fork)
        first.start()
        while not _forking.forking:
            time.sleep(0.001)
        # The hooks alone: in a whole fork, those of others wait for the first one, too. Python
        # tells of what a hook raises, and goes on.
        _forking.forking.append(threading.get_ident())
        with _handled(interrupt), pytest.raises(KeyboardInterrupt):
            _forking._before_fork()
        _forking.forking.remove(threading.get_ident())
        assert first.is_alive()  # it still waits for the call that is under way
        started = time.monotonic()
        assert texts(stores[0])[0] == "first"  # its child may have appended already
        assert time.monotonic() - started > 0.5  # until the first fork has ended
        first.join()
    assert exit_status(children[0]) == 0
    _append_in_another_thread(stores)
    assert [texts(persistence) for persistence in stores] == [["first", *["later"] * 2]] * 4


# A signal that comes during the fork is handled by the first Python code after it. Each import
# registers hooks, and those of others come before and between them.
_INTERRUPT_AFTER_THE_FORK = """
import _thread, logging, os, signal, sys, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
interrupt = _thread.interrupt_main  # C code, so the interrupt comes after it
os.register_at_fork(after_in_parent=interrupt)
import agentx_persistence.records
os.register_at_fork(after_in_parent=interrupt)
from agentx_persistence import SessionRecord, UserMessage, create_persistence

persistence = create_persistence(sys.argv[1])
persistence.sessions.save(SessionRecord(session_id="s"))
before = os.getpid()
try:
    os.fork()
except KeyboardInterrupt:
    print("interrupted")
if os.getpid() != before:
    os._exit(0)

def work():
    UserMessage(content="x")
    with create_persistence("memory:"):
        persistence.sessions.find("s")
    if os.fork() == 0:
        os._exit(0)

started = time.monotonic()
thread = threading.Thread(target=work)
try:
    thread.start()
    thread.join()
except KeyboardInterrupt:  # of the second fork
    thread.join()
print(time.monotonic() - started < 3)
"""


@pytest.mark.parametrize("url", ["memory:", "sqlite:///{}/agentx.db", "file://{}/fs"])
def test_an_interrupt_right_after_a_fork_comes_to_its_caller_and_leaves_nothing_locked(
    url: str, tmp_path: Path
) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _INTERRUPT_AFTER_THE_FORK, url.format(tmp_path)],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert ended.stdout.decode() == "interrupted\nTrue\n", ended.stderr.decode()


@pytest.mark.parametrize("place", ["{}.db", "fs"])
def test_a_child_can_open_what_other_threads_open_and_close(place: str, tmp_path: Path) -> None:
    """It would have the locks of their connections."""
    ended = threading.Event()

    def opened(number: int) -> Persistence:
        path = tmp_path / place.format(number)
        return create_persistence(sqlite_driver(path) if path.suffix else fs_driver(path))

    def open_and_close() -> None:
        numbers = iter(range(100_000))
        while not ended.is_set():
            for number in (0, next(numbers)):  # the second one is new
                with opened(number) as persistence:
                    saved_session(persistence)

    def child() -> None:
        with opened(0) as persistence:
            assert texts(persistence) == ["first"]

    with opened(0) as persistence:
        saved_session(persistence)
        persistence.sessions.add_message("session", message("first"))
    thread = threading.Thread(target=open_and_close)
    thread.start()
    try:
        assert [exit_status(in_child(child, 5)) for _ in range(40)] == [0] * 40
    finally:
        ended.set()
        thread.join()


def _fork_once(stores: list[Persistence], children: list[int]) -> Callable[[], int]:
    """Return a function that forks at its first call, as a signal handler would."""

    def call(told: list[str]) -> None:
        try:
            stores[3].sessions.find_all()
        except BackendError as error:
            told.append(str(error))

    def child() -> None:
        told: list[str] = []
        thread = threading.Thread(target=call, args=(told,))
        thread.start()
        thread.join()
        assert "forked in the middle of a call" in told[0]
        _append(stores[:3])

    once = iter([child])  # in the child, too

    def fork() -> int:
        children.extend(map(in_child, once))
        return 0

    return fork


def test_a_signal_handler_may_fork_inside_a_read_of_the_index(stores: list[Persistence]) -> None:
    store, children = stores[3], list[int]()
    store.sessions.find_all()  # connects
    index: Any = store._storage._index  # type: ignore[attr-defined]
    index._connection.set_progress_handler(_fork_once(stores, children), 1)
    assert len(store.sessions.find_all()) == 1
    assert exit_status(children[0]) == 0
    index._connection.set_progress_handler(None, 1)
    _append(stores[3:])
    _check(stores)


def test_a_signal_handler_may_fork_while_the_index_connects(
    stores: list[Persistence], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, children = stores[3], list[int]()
    assert exit_status(in_child(lambda: None)) == 0  # the fork closes the connection
    fork, connect = _fork_once(stores, children), sqlite3.connect

    def connected(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)
        fork()
        return connection

    monkeypatch.setattr(sqlite3, "connect", connected)
    assert len(store.sessions.find_all()) == 1
    assert exit_status(children[0]) == 0
    _append(stores[3:])
    _check(stores)
