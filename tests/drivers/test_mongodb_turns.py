"""Threads of one process take turns in changing a session."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from agentx_persistence._mongodb import turns
from agentx_persistence._mongodb.turns import Turns

WAIT = 30


def test_many_slow_calls_go_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Together they take far longer than one may wait for one of them."""
    monkeypatch.setattr(turns, "_LONGEST_TURN", 2.0)
    taken, at_work, most = Turns(), 0, 0

    def work() -> None:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        time.sleep(0.15)
        at_work -= 1

    with ThreadPoolExecutor(20) as threads:
        for ended in [threads.submit(taken.run, "session", work) for _ in range(20)]:
            ended.result(WAIT)
    assert most == 1


@pytest.mark.parametrize("name", ["_LONGEST_TURN", "_LONGEST_WAIT"])
def test_a_call_that_does_not_end_holds_the_others_for_a_limited_time(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, name, 0.1)
    taken, has_turn, may_end = Turns(), threading.Event(), threading.Event()

    def never_ends() -> None:
        has_turn.set()
        assert may_end.wait(WAIT)

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(taken.run, "session", never_ends)
        assert has_turn.wait(WAIT)
        try:
            assert threads.submit(taken.run, "session", lambda: "went on").result(WAIT) == "went on"
            assert not first.done()
        finally:
            may_end.set()


def test_sessions_do_not_wait_for_each_other() -> None:
    taken = Turns()
    assert taken.run("one", lambda: taken.run("another", lambda: "inside")) == "inside"
    assert taken.run("one", lambda: taken.run("one", lambda: "itself")) == "itself"
