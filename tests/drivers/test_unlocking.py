"""An exception of a signal handler right after a lock is released reaches the caller."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import pytest

from tests.backends.backend import Backend
from tests.contract.records import message, saved_session, session, texts


class Limit(RuntimeError):
    """A time limit, as an application may raise it."""


@pytest.mark.parametrize("name", ["memory", "fs", "sqlite", "custom"])
@pytest.mark.parametrize("call", ["append", "save"])
def test_an_error_of_a_signal_handler_is_not_taken_for_that_of_the_lock(
    request: pytest.FixtureRequest, name: str, call: str
) -> None:
    backend: Backend = request.getfixturevalue(f"{name}_backend")

    def hear(frame: FrameType, event: str, argument: Any) -> None:
        # CPython runs signal handlers after each call, and so does a profiler.
        if event == "c_return" and argument.__name__ == "release":
            sys.setprofile(None)
            raise Limit

    with backend.open() as persistence:
        saved_session(persistence)
        sessions = persistence.sessions
        calls = {
            "append": lambda: sessions.add_message("session", message("a", id="a")),
            "save": lambda: sessions.save(session(title="new")),
        }
        sys.setprofile(hear)
        try:
            with pytest.raises(Limit):
                calls[call]()
        finally:
            sys.setprofile(None)
        assert calls[call]() in (1, None)
        assert texts(persistence) == (["a"] if call == "append" else [])
