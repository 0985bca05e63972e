"""A server that is there and never answers, such as one that is suspended or swaps."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import pytest

from agentx_persistence import BackendUnavailableError, Persistence
from tests.backends.backend import PROXIED, Backend
from tests.contract.records import image, message, saved_session, texts
from tests.servers.process import ServerProcess

pytestmark = [
    pytest.mark.needs(PROXIED),
    pytest.mark.skipif(sys.platform != "linux", reason="finds the server's processes in /proc"),
]

_SQL = {"answer_timeout": 1, "connect_timeout": 1, "retry_seconds": 0.5, "pool_size": 8}
_REDIS = {"socket_timeout": 1, "socket_connect_timeout": 1, "retry_seconds": 0.5}
_OPTIONS: dict[str, dict[str, Any]] = {
    "postgresql": {**_SQL, "connect_timeout": 2},  # libpq takes no less
    "mysql": _SQL,
    "mariadb": _SQL,
    "redis": _REDIS,
    "valkey": _REDIS,
    "redis_cluster": _REDIS,
    "mongodb": {"socketTimeoutMS": 1000, "serverSelectionTimeoutMS": 1000, "patience": 1.5},
}
# An attempt that began in time can wait for a connection and then for an answer.
_BOUND = 6.0


@pytest.fixture
def processes(backend: Backend, request: pytest.FixtureRequest) -> list[ServerProcess]:
    server = request.getfixturevalue(f"{backend.name}_server")
    found = [each.process for each in getattr(server, "nodes", [server])]
    if None in found:
        pytest.skip("the server that was given cannot be suspended")
    return found


@contextmanager
def _suspended(processes: list[ServerProcess]) -> Iterator[None]:
    with ExitStack() as all_of_them:
        for process in processes:
            all_of_them.enter_context(process.suspended())
        yield


def _open(backend: Backend) -> Persistence:
    return replace(backend, options={**backend.options, **_OPTIONS[backend.name]}).open()


def _seconds_until_unavailable(call: Callable[[], object]) -> float:
    started = time.monotonic()
    with pytest.raises(BackendUnavailableError):
        call()
    return time.monotonic() - started


def test_each_call_ends_in_time_while_the_server_is_silent_and_works_afterwards(
    backend: Backend, processes: list[ServerProcess]
) -> None:
    first, second, batch = message("first"), message("second"), [message("a"), message("b")]
    with _open(backend) as persistence:
        saved_session(persistence)
        sessions = persistence.sessions
        sessions.add_message("session", first)
        calls: list[Callable[[], object]] = [
            lambda: sessions.add_message("session", second),
            lambda: sessions.add_messages("session", batch),
            lambda: sessions.get_messages("session"),
            lambda: sessions.update("session", {"title": "new"}),
            lambda: persistence.images.save(image()),
            lambda: persistence.containers.delete("none"),
            persistence.ping,
        ]
        with ThreadPoolExecutor(len(calls)) as threads:
            list(threads.map(lambda _: persistence.ping(), calls))  # connects
            with _suspended(processes):
                took = list(threads.map(_seconds_until_unavailable, calls))
        assert max(took) < _BOUND, took
        for call in calls:
            call()
        assert texts(persistence)[0] == "first"
        assert sorted(texts(persistence)) == ["a", "b", "first", "second"]
        assert sessions.get("session").title == "new"


def test_opening_ends_in_time_while_the_server_is_silent(
    backend: Backend, processes: list[ServerProcess]
) -> None:
    with _suspended(processes):
        assert _seconds_until_unavailable(lambda: _open(backend)) < _BOUND
    _open(backend).close()
