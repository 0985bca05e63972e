"""A database server that goes down while an application works, and comes up again."""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from agentx_persistence import BackendUnavailableError, create_persistence
from tests.contract.records import message, saved_session, texts
from tests.servers.process import server_folder

_SECONDS_DOWN = 2


@pytest.fixture(scope="module", params=["mysql", "mariadb", "postgresql"])
def restarted_server(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A server of its own, which keeps what it acknowledged when it is killed."""
    with server_folder(request.param) as folder:
        module = importlib.import_module(f"tests.servers.{request.param}")
        server = module.start_server(folder, durable=True)
        yield server
        server.stop()


@pytest.mark.parametrize("seconds", [1.0, 40.0], ids=["for a second", "long enough"])
def test_a_server_that_is_killed_and_comes_back_loses_nothing(
    restarted_server: Any, seconds: float
) -> None:
    """A call is repeated for so many seconds."""
    server = restarted_server
    server.recreate("agentx")
    acknowledged: list[str] = []
    refused: list[str] = []
    done = threading.Event()
    with create_persistence(
        server.driver("agentx", migrate=True, retry_seconds=seconds)
    ) as persistence:
        saved_session(persistence)

        def append() -> None:
            number = 0
            while not done.is_set():
                number += 1
                try:
                    persistence.sessions.add_message("session", message(str(number)))
                except BackendUnavailableError:
                    refused.append(str(number))
                else:
                    acknowledged.append(str(number))

        appending = threading.Thread(target=append)
        appending.start()
        _wait_for(lambda: len(acknowledged) > 50)
        server.process.kill()
        time.sleep(_SECONDS_DOWN)
        before = len(acknowledged)
        server.process.start()
        _wait_for(lambda: len(acknowledged) > before + 50)
        done.set()
        appending.join()
        stored = texts(persistence)
    assert bool(refused) == (seconds < _SECONDS_DOWN)
    assert len(stored) == len(set(stored))
    assert set(acknowledged) <= set(stored) <= set(acknowledged + refused)
    assert stored == sorted(stored, key=int)


def _wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
