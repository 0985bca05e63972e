"""A server that is there and never answers, such as one that is suspended or swaps."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from agentx_persistence import BackendUnavailableError, Persistence, PersistenceClosedError
from tests.backends.backend import BOUNDED, DATABASE_SERVER, Backend
from tests.contract.records import image, message, saved_session, session, texts
from tests.servers.nodes import wait_until
from tests.servers.process import ServerProcess
from tests.servers.redis import RedisCluster
from tests.servers.redis_nodes import is_well

pytestmark = [
    pytest.mark.needs(BOUNDED),
    pytest.mark.skipif(sys.platform != "linux", reason="finds the server's processes in /proc"),
]

_SQL = {"answer_timeout": 1, "connect_timeout": 1, "retry_seconds": 0.5, "pool_size": 8}
_REDIS = {"socket_timeout": 1, "socket_connect_timeout": 1, "retry_seconds": 0.5}
_OPTIONS: dict[str, dict[str, Any]] = {
    "postgresql": {**_SQL, "connect_timeout": 2},  # libpq takes no less
    "mysql": _SQL,
    "mariadb": _SQL,
    "redis": _REDIS,
    "redis_cluster": _REDIS,
    "valkey": _REDIS,
    "mongodb": {
        **dict.fromkeys(("socketTimeoutMS", "connectTimeoutMS", "waitQueueTimeoutMS"), 1000),
        **{"serverSelectionTimeoutMS": 1000, "patience": 1.5},
    },
}
# An attempt that begins in time waits a second at most for each of these: on MongoDB a server and
# the call of another thread on the same session; a place in the pool, a connection, an answer.
_BOUND = 8.0
# A second for an answer, one for asking which nodes there are, and one for a last attempt.
_CLUSTER_BOUND = 4.0


@pytest.fixture
def process(backend: Backend, request: pytest.FixtureRequest) -> ServerProcess | _Processes:
    server = request.getfixturevalue(f"{backend.name}_server")
    return _Processes(server) if isinstance(server, RedisCluster) else _process(server)


class _Processes:
    """The nodes of a cluster."""

    def __init__(self, cluster: RedisCluster) -> None:
        self._nodes = cluster.nodes

    @contextmanager
    def suspended(self) -> Iterator[None]:
        with ExitStack() as stack:
            for node in self._nodes:
                stack.enter_context(_process(node).suspended())
            yield
        wait_until(lambda: all(map(is_well, self._nodes)), "a whole cluster")


def _process(server: Any) -> ServerProcess:
    if server.process is None:
        pytest.skip("the server that was given cannot be suspended")
    process: ServerProcess = server.process
    return process


def _open(backend: Backend) -> Persistence:
    return _with(backend, **_OPTIONS[backend.name]).open()


def _with(backend: Backend, **options: Any) -> Backend:
    return replace(backend, options={**backend.options, **options})


def _seconds_until_unavailable(call: Callable[[], object]) -> float:
    started = time.monotonic()
    with pytest.raises(BackendUnavailableError):
        call()
    return time.monotonic() - started


def test_each_call_ends_in_time_while_the_server_is_silent_and_works_afterwards(
    backend: Backend, process: ServerProcess | _Processes
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
            with process.suspended():
                took = list(threads.map(_seconds_until_unavailable, calls))
        assert max(took) < _BOUND, took
        for call in calls:
            call()
        assert texts(persistence)[0] == "first"
        assert sorted(texts(persistence)) == ["a", "b", "first", "second"]
        assert sessions.get("session").title == "new"


def test_opening_ends_in_time_while_the_server_is_silent(
    backend: Backend, process: ServerProcess | _Processes
) -> None:
    with process.suspended():
        assert _seconds_until_unavailable(lambda: _open(backend)) < _BOUND
    _open(backend).close()


def test_closing_ends_in_time_while_the_server_is_silent(
    backend: Backend, process: ServerProcess | _Processes
) -> None:
    persistence = _open(backend)
    saved_session(persistence)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: persistence.ping(), range(8)))
        with process.suspended():
            time.sleep(0.2)  # the system takes a moment to stop all threads of a process
            call = threads.submit(persistence.sessions.get_messages, "session")
            time.sleep(0.2)
            started = time.monotonic()
            persistence.close()
            assert time.monotonic() - started < _BOUND
            with pytest.raises((BackendUnavailableError, PersistenceClosedError)):
                call.result()
            assert time.monotonic() - started < _BOUND


def test_a_node_of_a_cluster_that_is_silent_delays_only_the_calls_that_need_it(
    redis_cluster_backend: Backend, redis_cluster_server: Any
) -> None:
    ids = [f"session {number}" for number in range(30)]
    sent = {id: message(id) for id in ids}
    refused: list[str] = []
    with _with(redis_cluster_backend, **_REDIS).open() as persistence:
        for id in ids:
            persistence.sessions.save(session(id))
        with _process(redis_cluster_server.nodes[0]).suspended():
            for id in ids:
                started = time.monotonic()
                try:
                    persistence.sessions.add_message(id, sent[id])
                except BackendUnavailableError:
                    refused.append(id)
                assert time.monotonic() - started < _BOUND
        assert len(refused) < len(ids) / 2
        for id in ids:
            persistence.sessions.add_message(id, sent[id])
            assert persistence.sessions.get_messages(id) == [sent[id]]


def test_a_listing_waits_once_for_a_silent_node(
    redis_cluster_backend: Backend, redis_cluster_server: Any
) -> None:
    ids = [f"session {number}" for number in range(30)]
    with _with(redis_cluster_backend, **_REDIS).open() as persistence:
        for id in ids:
            persistence.sessions.save(session(id))
        expected = persistence.sessions.find_many(ids)
        with _process(redis_cluster_server.nodes[1]).suspended():
            started = time.monotonic()
            with suppress(BackendUnavailableError):  # unless a replica has taken over
                assert persistence.sessions.find_many(ids) == expected
            assert time.monotonic() - started < _CLUSTER_BOUND
        wait_until(lambda: all(map(is_well, redis_cluster_server.nodes)), "a whole cluster")
        assert persistence.sessions.find_many(ids) == expected


def test_a_cluster_that_is_silent_ends_the_calls_of_all_threads_in_time(
    redis_cluster_backend: Backend, redis_cluster_server: Any
) -> None:
    ids = [f"session {number}" for number in range(12)]
    sent = {id: message(id) for id in ids}
    with _with(redis_cluster_backend, **_REDIS).open() as persistence:
        sessions = persistence.sessions
        for id in ids:
            sessions.save(session(id))
        calls: list[Callable[[], object]] = [
            persistence.ping,
            lambda: sessions.find_many(ids),
            lambda: sessions.find_all(container_id="box"),
            *(partial(sessions.add_message, id, sent[id]) for id in ids),
        ]
        with (
            _Processes(redis_cluster_server).suspended(),
            ThreadPoolExecutor(len(calls)) as threads,
        ):
            took = list(threads.map(_seconds_until_unavailable, calls))
        assert max(took) < _CLUSTER_BOUND, took
        for id in ids:
            sessions.add_message(id, sent[id])
            assert sessions.get_messages(id) == [sent[id]]


_PIECE = {
    "postgresql": "SELECT repeat('x', 100000), pg_sleep(0.3) FROM generate_series(1, 4)",
    "mysql": "SELECT REPEAT('x', 100000), SLEEP(0.3) FROM (SELECT 1 UNION SELECT 2"
    " UNION SELECT 3 UNION SELECT 4) AS four",
}


@pytest.mark.needs(DATABASE_SERVER)
def test_only_silence_counts_so_an_answer_that_comes_in_pieces_may_take_longer(
    backend: Backend,
) -> None:
    with _with(backend, answer_timeout=1, retry_seconds=0).open() as persistence:
        database: Any = persistence._storage._database  # type: ignore[attr-defined]
        started = time.monotonic()
        slow = _PIECE.get(backend.name, _PIECE["mysql"])
        assert len(database.fetch(slow)) == 4
        assert time.monotonic() - started > 1.1
        silent = "SELECT pg_sleep(2)" if backend.name == "postgresql" else "SELECT SLEEP(2)"
        assert _seconds_until_unavailable(lambda: database.fetch(silent)) < 2
