"""Calls inside other calls of the same thread, of signal handlers and finalizers.

The long form: ``AGENTX_TEST_INTERRUPTS=2000``.
"""

from __future__ import annotations

import gc
import os
import random
import signal
import sys
import sysconfig
import threading
import time
from types import FrameType

import pytest

from agentx_persistence import BackendError
from tests.backends.backend import Backend
from tests.contract.records import message, session

_CALLS = int(os.environ.get("AGENTX_TEST_INTERRUPTS", "40"))

_FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))

pytestmark = [
    pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers"),
    pytest.mark.timeout(300 if _CALLS < 1000 else 0),
]


def test_a_call_inside_another_call_of_the_same_thread_works_or_is_refused(
    backend: Backend,
) -> None:
    """As a signal's handler does that saves a last message."""
    if sys.implementation.name == "pypy" and backend.name == "redis":
        pytest.skip("NOT TESTED: a call inside a put of PyPy's `queue.SimpleQueue` waits for ever")
    chance = random.Random(1)
    outcomes: list[str] = []

    with backend.open() as persistence:
        for id in ("outer", "inner"):
            persistence.sessions.save(session(id))
        inside, over = False, False

        def handler(number: int, frame: FrameType | None) -> None:
            nonlocal inside
            if not inside:
                inside = True
                try:
                    persistence.sessions.add_message("inner", message())
                    outcomes.append("works")
                except BackendError:
                    outcomes.append("refused")
                finally:
                    inside = False
            if not over:  # or the next signal meets the default action, which ends the process
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.0002, 0.004))

        old = signal.signal(signal.SIGALRM, handler)
        added = 0
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.001)
            deadline = time.monotonic() + 60
            while len(outcomes) < _CALLS and time.monotonic() < deadline:
                persistence.sessions.add_message("outer", message())
                added += 1
        finally:
            over = True
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, old)
        assert len(outcomes) >= _CALLS
        assert persistence.sessions.count_messages("outer") == added
        assert persistence.sessions.count_messages("inner") == outcomes.count("works")


@pytest.mark.skipif(not hasattr(gc, "get_threshold"), reason="PyPy's collector cannot be hurried")
def test_a_finalizer_inside_a_call_works_or_is_refused(backend: Backend) -> None:
    """The collector may run one at any moment of a call."""
    chance = random.Random(1)
    outcomes: list[str] = []
    added: list[int] = []
    calling: set[int] = set()

    class Saving:
        def __init__(self) -> None:
            self.me = self  # so that only the collector ends it

        def __del__(self) -> None:
            me = threading.get_ident()
            if me in calling:
                calling.discard(me)
                try:
                    persistence.sessions.add_message("inner", message())
                    outcomes.append("works")
                except BackendError:
                    outcomes.append("refused")

    def collect(*event: object) -> None:
        if threading.get_ident() in calling and chance.random() < 0.02:
            gc.collect()

    def append(number: int) -> None:
        if _FREE_THREADED:
            # Its collector counts what a thread keeps, which is nothing here, so it would not run.
            sys.setprofile(collect)
        for turn in range(1000):
            if turn >= 10 and outcomes:
                break
            Saving()
            calling.add(threading.get_ident())
            added.append(persistence.sessions.add_message("outer", message()))
            calling.discard(threading.get_ident())

    before = gc.get_threshold()
    with backend.open() as persistence:
        for id in ("outer", "inner"):
            persistence.sessions.save(session(id))
        threads = [threading.Thread(target=append, args=(n,), daemon=True) for n in range(2)]
        try:
            gc.set_threshold(20)
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
        finally:
            gc.set_threshold(*before)
        assert not any(thread.is_alive() for thread in threads)
        assert outcomes
        assert persistence.sessions.count_messages("outer") == len(added) >= 20
        assert persistence.sessions.count_messages("inner") == outcomes.count("works")
