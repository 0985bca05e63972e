"""Exceptions at random moments, as Ctrl-C and time limits raise them, on every backend.

The long form: ``AGENTX_TEST_INTERRUPTS=2000``.
"""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any

import pytest

from agentx_persistence import Persistence, UserMessage
from tests.backends.backend import SHARED, Backend
from tests.conftest import BACKENDS
from tests.contract.records import image, message, session
from tests.processes import prepared

_INTERRUPTS = int(os.environ.get("AGENTX_TEST_INTERRUPTS", "40"))
_SESSIONS = ["one", "two", "three"]

pytestmark = [
    pytest.mark.usefixtures("collected"),
    pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers"),
    pytest.mark.timeout(300 if _INTERRUPTS < 1000 else 0),
    # Of sockets that the test before has left to the collector, see `Storm.on`. They are counted.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class Interrupted(BaseException):
    """What a signal's handler raises here, like `KeyboardInterrupt`."""


class Storm:
    """Raises in the main thread every few milliseconds, only while `raging`."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.raging = False
        self._over = False
        self.interrupts = 0

    def _strike(self, number: int, frame: FrameType | None) -> None:
        if self.raging:
            self.interrupts += 1
            self._aim()
            raise Interrupted
        self._aim()

    def _aim(self) -> None:
        if not self._over:  # or the next signal meets the default action, which ends the process
            signal.setitimer(signal.ITIMER_REAL, self._chance.uniform(0.0002, 0.008))

    @contextmanager
    def on(self) -> Iterator[None]:
        # A client library that is interrupted while it connects leaves its socket to the collector,
        # which warns of it. The test runner's own hook must not be interrupted by that.
        hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
        old = signal.signal(signal.SIGALRM, self._strike)
        self._over = False
        self._aim()
        try:
            yield
        finally:
            self.raging = False
            self._over = True
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, old)
            gc.collect()
            sys.unraisablehook = hook

    def call(self, work: Callable[[], Any]) -> bool:
        """Run `work` in the storm; tell whether it came to its end."""
        try:
            self.raging = True
            work()
            self.raging = False
        except Interrupted:
            self.raging = False
            _unlock_logging()
            return False
        finally:
            self.raging = False
        return True


def _unlock_logging() -> None:
    """Release what `logging` has left locked.

    Before Python 3.13 it takes its locks before its `try`, and an exception in between leaves them
    locked. redis-py asks for a logger for each connection, so that this happens here as well.
    """
    handlers = [handler for reference in logging._handlerList if (handler := reference())]
    for lock in [logging._lock, *(handler.lock for handler in handlers)]:
        while lock is not None and lock._is_owned():
            lock.release()


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    # A captured record keeps its exception alive, and that the connection that was interrupted.
    for name in ("sqlalchemy.pool", "agentx_persistence._sql.pool"):
        caplog.set_level(logging.CRITICAL, name)


@pytest.mark.skipif(
    sys.implementation.name == "pypy",
    reason="NOT TESTED: an interrupt of `RLock.acquire` can leave the lock taken on PyPy",
)
def test_interrupts_lose_double_and_damage_nothing_and_leave_nothing_locked(
    backend: Backend, report: Callable[[str], None]
) -> None:
    seed = random.getrandbits(32)
    chance = random.Random(seed)
    acknowledged: defaultdict[str, list[str]] = defaultdict(list)
    sent: defaultdict[str, set[str]] = defaultdict(set)
    backend.open().close()  # what stays open from then on is no leak
    # Nor are the pipes to the processes that `multiprocessing` needs.
    resource_tracker.ensure_running()
    prepared()
    forkserver.ensure_running()
    before = _descriptors()
    with _another_process(backend) as stop_process, backend.open() as persistence:
        for id in [*_SESSIONS, "beside", "process", "child"]:
            persistence.sessions.save(session(id))
        _check_that_every_call_works(persistence)  # pydantic builds its validators at first use
        persistence.images.save(image("image 0", name="a"))
        persistence.images.find_all()
        storm, stop = Storm(chance), threading.Event()
        arguments = (persistence, stop, acknowledged)
        beside = threading.Thread(target=_write_beside, args=arguments, daemon=True)
        with storm.on():
            beside.start()
            deadline = time.monotonic() + 100 + _INTERRUPTS
            try:
                while storm.interrupts < _INTERRUPTS:
                    assert time.monotonic() < deadline, (seed, storm.interrupts)
                    _one_call(persistence, storm, chance, acknowledged, sent)
            finally:
                stop.set()
                beside.join(60)
        acknowledged["process"] = stop_process()
        assert not beside.is_alive(), f"{seed}\n{_stack(beside)}"
        _check(persistence, acknowledged, sent, seed)
        _append_in_a_child(persistence)
        _check_that_every_call_works(persistence)
    if backend.name not in ("memory", "encrypted_memory"):
        with backend.open() as persistence:
            _check(persistence, acknowledged, sent, seed)
    deadline = time.monotonic() + 5  # pymongo's threads take a moment to end
    while (leaked := _descriptors() - before) > 5 and time.monotonic() < deadline:
        time.sleep(0.02)
    added = sum(map(len, acknowledged.values()))
    assert leaked <= 5, seed
    others = len(acknowledged["process"])
    report(
        f"interrupts, {backend.name}: {storm.interrupts:,}; messages acknowledged: {added:,}, of"
        f" these of another process: {others:,};"
        f" file descriptors left: {leaked}; seed {seed}"
    )


@contextmanager
def _another_process(backend: Backend) -> Iterator[Callable[[], list[str]]]:
    """Have another process append to a session; yield what ends it and returns what it has added.

    The process begins when the session is there.
    """
    if SHARED not in BACKENDS[backend.name]:
        yield list
        return
    ours, theirs = multiprocessing.Pipe()
    writer = prepared().Process(target=_append_in_a_process, args=(backend, theirs), daemon=True)
    writer.start()

    def stop() -> list[str]:
        ours.send("stop")
        assert ours.poll(60)
        added: list[str] = ours.recv()
        assert added
        return added

    try:
        yield stop
    finally:
        writer.terminate()
        writer.join()
        for each in (ours, theirs, writer):
            each.close()


def _append_in_a_process(backend: Backend, pipe: Connection) -> None:
    added: list[str] = []
    with backend.open() as persistence:
        while not (pipe.poll(0.005) and added):
            if added or persistence.sessions.exists("process"):
                new = message("process")
                persistence.sessions.add_message("process", new)
                added.append(new.id)
    pipe.send(added)


def _descriptors() -> int:
    """Return how many files and sockets are open, where the system tells."""
    gc.collect()
    return len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0


def _one_call(
    persistence: Persistence,
    storm: Storm,
    chance: random.Random,
    acknowledged: dict[str, list[str]],
    sent: dict[str, set[str]],
) -> None:
    id = chance.choice(_SESSIONS)
    sessions, images = persistence.sessions, persistence.images
    kind = chance.randrange(8)
    if kind < 4:
        new = [message(str(n)) for n in range(1 if kind < 3 else 3)]
        sent[id].update(each.id for each in new)
        if storm.call(lambda: sessions.add_messages(id, new)):
            acknowledged[id].extend(each.id for each in new)
    elif kind == 4:
        storm.call(lambda: sessions.get_messages(id, last=5))
    elif kind == 5:
        record = image(f"image {chance.randrange(4)}", name=chance.choice(["a", "b"]))
        storm.call(lambda: images.save(record))
    elif kind == 6:
        storm.call(lambda: images.find_all(container_id="box", name="a"))
    else:
        storm.call(lambda: images.delete(f"image {chance.randrange(4)}"))


def _write_beside(
    persistence: Persistence, stop: threading.Event, acknowledged: dict[str, list[str]]
) -> None:
    while not stop.is_set():
        new = message("beside")
        persistence.sessions.add_message("beside", new)
        acknowledged["beside"].append(new.id)
        stop.wait(0.005)


def _stack(thread: threading.Thread) -> str:
    """Return where the thread hangs."""
    frame = sys._current_frames().get(thread.ident or 0)
    return "".join(traceback.format_stack(frame)) if frame else ""


def _check(
    persistence: Persistence,
    acknowledged: dict[str, list[str]],
    sent: dict[str, set[str]],
    seed: int,
) -> None:
    for id in [*_SESSIONS, "beside", "process"]:
        found = [each.id for each in persistence.sessions.get_messages(id)]
        assert len(set(found)) == len(found), (seed, id)
        there = set(acknowledged[id])
        assert [each for each in found if each in there] == acknowledged[id], (seed, id)
        assert set(found) <= there | sent[id], (seed, id)
        assert persistence.sessions.count_messages(id) == len(found), (seed, id)
    listed = persistence.images.find_all()
    assert [each for each in listed if persistence.images.find(each.image_id) != each] == [], seed
    by_name = [each for name in ("a", "b") for each in persistence.images.find_all(name=name)]
    assert sorted(each.image_id for each in by_name) == sorted(each.image_id for each in listed)


def _append_in_a_child(persistence: Persistence) -> None:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm(30)
            persistence.sessions.add_message("child", UserMessage(content="hello"))
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert status == 0


def _check_that_every_call_works(persistence: Persistence) -> None:
    sessions = persistence.sessions
    sessions.save(session("after"))
    assert sessions.add_messages("after", [message("a"), message("b")]) == [1, 2]
    newest = sessions.pop_message("after")
    assert newest is not None
    assert sessions.clear_messages("after") == 1
    assert sessions.delete("after")
