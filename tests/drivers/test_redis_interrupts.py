"""Exceptions at any moment, and calls inside other calls of the same thread."""

from __future__ import annotations

import gc
import logging
import os
import random
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest
from redis import RedisCluster as ClusterClient
from redis.connection import AbstractConnection

from agentx_persistence import BackendUnavailableError, Persistence, create_persistence
from agentx_persistence._redis.pool import PACKER, NodePool
from agentx_persistence.redis import redis_driver
from tests.contract.records import message, saved_session, texts
from tests.drivers.interrupting import interrupted_at_each_point
from tests.servers.redis import RedisCluster, RedisServer, redis_binary, start_server

# redis-py leaves a socket to the garbage collector if it is interrupted while it connects.
pytestmark = pytest.mark.usefixtures("unheard_destructors")


class _Interrupt(BaseException):
    """Stands for KeyboardInterrupt, at which pytest would stop."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = start_server(tmp_path_factory.mktemp("interrupted"), redis_binary())
    yield server
    server.stop()


@contextmanager
def opened(server: RedisServer, how: str) -> Iterator[Persistence]:
    """Open database 5, over connections of our own or of a client of the application's.

    That one does without hiredis' packing, which crashes in a storm.
    """
    base = f"test-{secrets.token_hex(6)}"
    if how == "given":
        with (
            server.client(db=5, command_packer=PACKER) as client,
            create_persistence(redis_driver(client=client, base=base)) as persistence,
        ):
            yield persistence
    else:
        options = {"max_connections": 2} if how == "limited" else {}
        driver = redis_driver(f"{server.url}/5", base=base, pool_timeout=5, **options)
        with create_persistence(driver) as persistence:
            yield persistence


def check(server: RedisServer, persistence: Persistence, acknowledged: list[str]) -> None:
    """All that was acknowledged is there once, in order; nothing is in database 0."""
    history = texts(persistence)
    assert [text for text in history if text in set(acknowledged)] == acknowledged
    assert len(set(history)) == len(history)
    with server.client() as client:
        assert client.dbsize() == 0


POINTS = ["on_connect_check_health", "send_packed_command", "read_response"]


@pytest.mark.parametrize("how", ["own", "limited", "given"])
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("name", POINTS)
def test_an_interrupt_of_the_client_library_loses_no_connection_and_no_database(
    server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    moment: str,
    how: str,
) -> None:
    method = getattr(AbstractConnection, name)
    countdown = [-1]

    def interrupting(self: Any, *arguments: Any, **options: Any) -> Any:
        countdown[0] -= 1
        now = countdown[0] == 0
        if now and moment == "before":
            raise _Interrupt
        result = method(self, *arguments, **options)
        if now:
            raise _Interrupt
        return result

    with opened(server, how) as persistence, server.client() as raw:
        saved_session(persistence)
        acknowledged: list[str] = []
        with monkeypatch.context() as patched:
            patched.setattr(AbstractConnection, name, interrupting)
            for step in range(1, 12):
                countdown[0] = -1
                raw.client_kill_filter(_type="normal", skipme=True)
                countdown[0] = step
                for _ in range(2):
                    sent = message(secrets.token_hex(8))
                    try:
                        persistence.sessions.add_message("session", sent)
                        acknowledged.append(str(sent.content))
                    except _Interrupt:
                        pass
        for _ in range(4):  # with `limited` more than there are connections
            persistence.sessions.add_message("session", message(secrets.token_hex(8)))
        check(server, persistence, acknowledged)


@pytest.mark.parametrize("again", range(9))
def test_interrupts_at_any_point_lose_none_of_few_connections(
    server: RedisServer, again: int
) -> None:
    base = f"test-{secrets.token_hex(6)}"
    driver = redis_driver(f"{server.url}/5", base=base, max_connections=1, pool_timeout=0.2)
    with create_persistence(driver) as persistence:
        saved_session(persistence)
        for interrupt in interrupted_at_each_point(
            lambda: persistence.sessions.exists("session"), "/_redis/", again=again
        ):
            assert persistence.sessions.exists("session"), interrupt


def append_in_storm(
    persistence: Persistence, seed: int, interrupts: int, longest: float = 3e-3
) -> list[str]:
    """Append while the thread is interrupted again and again; return what was acknowledged."""
    chance, raised, inside, over = random.Random(seed), [0], [False], False

    def interrupt(number: int, frame: FrameType | None) -> None:
        if not over:  # or the next signal meets the default action, which ends the process
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-4, longest))
        if inside[0]:
            raised[0] += 1
            raise _Interrupt

    acknowledged: list[str] = []
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 1e-3)
    while raised[0] < interrupts:
        sent = message(secrets.token_hex(8))
        try:
            inside[0] = True
            persistence.sessions.add_message("session", sent)
            inside[0] = False
        except _Interrupt:
            inside[0] = False
            continue
        acknowledged.append(str(sent.content))
    over = True
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
    return acknowledged


@pytest.mark.parametrize("how", ["own", "limited", "given"])
def test_a_storm_of_interrupts_loses_doubles_and_misplaces_nothing(
    server: RedisServer, how: str
) -> None:
    with opened(server, how) as persistence:
        saved_session(persistence)
        others = [
            threading.Thread(
                target=lambda: [persistence.sessions.count_messages("session") for _ in range(50)]
            )
            for _ in range(2)
        ]
        for thread in others:
            thread.start()
        acknowledged = append_in_storm(persistence, 7, 100)
        for thread in others:
            thread.join(30)
        gc.collect()
        started = time.monotonic()
        for _ in range(4):
            persistence.sessions.add_message("session", message(secrets.token_hex(8)))
        assert time.monotonic() - started < 4
        check(server, persistence, acknowledged)
        if how == "limited":
            assert len(server.connections()) <= 2
    server.check_for_leaks()


@pytest.mark.parametrize("given", [False, True])
def test_a_storm_of_interrupts_on_a_cluster_loses_and_doubles_nothing(
    redis_cluster_server: RedisCluster, given: bool
) -> None:
    base = f"test-{secrets.token_hex(6)}"
    client = (
        ClusterClient.from_url(redis_cluster_server.url, connection_pool_class=NodePool)
        if given
        else None
    )
    driver = (
        redis_driver(client=client, base=base)
        if given
        else redis_driver(redis_cluster_server.url, cluster=True, base=base)
    )
    with create_persistence(driver) as persistence:
        saved_session(persistence)
        acknowledged = append_in_storm(
            persistence, 11, 40, 3e-2
        )  # it has to look for its nodes anew
        history = texts(persistence)
        assert [text for text in history if text in set(acknowledged)] == acknowledged
        assert len(set(history)) == len(history)
        persistence.containers.delete("box")
        persistence.sessions.delete("session")
    if client is not None:
        client.disconnect_connection_pools()
    gc.collect()
    redis_cluster_server.check_for_leaks()


def call_inside(persistence: Persistence, inner: Callable[[], object]) -> list[object]:
    """Run `inner` in a handler that comes while the thread waits for the server."""
    results: list[object] = []

    def handle(number: int, frame: FrameType | None) -> None:
        try:
            results.append(inner())
        except BackendUnavailableError as error:
            results.append(error)

    before = signal.signal(signal.SIGALRM, handle)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        results.append(persistence.sessions.add_message("session", message("outer")))
    finally:
        signal.signal(signal.SIGALRM, before)
    return results


@pytest.mark.parametrize("how", ["own", "limited", "given"])
def test_a_call_in_a_signal_handler_works_inside_another_call(
    server: RedisServer, how: str
) -> None:
    with opened(server, how) as persistence:
        saved_session(persistence)
        with server.client() as raw:
            raw.client_pause(300)
        inner = message("inner")
        results = call_inside(
            persistence, lambda: persistence.sessions.add_message("session", inner)
        )
        assert sorted(map(str, results)) == ["1", "2"]
        assert sorted(texts(persistence)) == ["inner", "outer"]


def test_a_call_inside_those_that_have_all_connections_raises_at_once(
    server: RedisServer,
) -> None:
    base = f"test-{secrets.token_hex(6)}"
    driver = redis_driver(f"{server.url}/5", base=base, max_connections=1)
    with create_persistence(driver) as persistence:
        saved_session(persistence)
        with server.client() as raw:
            raw.client_pause(300)
        started = time.monotonic()
        error, position = call_inside(
            persistence, lambda: persistence.sessions.add_message("session", message())
        )
        assert isinstance(error, BackendUnavailableError)
        assert position == 1
        assert time.monotonic() - started < 4


def test_a_fork_does_not_wait_for_a_server_that_hangs(server: RedisServer) -> None:

    with opened(server, "own") as persistence:
        saved_session(persistence)
        with server.client() as raw:
            raw.client_pause(2000)
        call = threading.Thread(
            target=lambda: persistence.sessions.add_message("session", message())
        )
        call.start()
        time.sleep(0.05)
        started = time.monotonic()
        child = os.fork()
        if child == 0:
            os._exit(0)
        assert time.monotonic() - started < 1
        os.waitpid(child, 0)
        with server.client() as raw:
            raw.client_unpause()
        call.join()
        assert len(texts(persistence)) == 1


def test_connecting_takes_no_lock_of_logging(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupt in `logging.getLogger` leaves its lock locked, on Python 3.11 and 3.12."""
    asked: list[object] = []

    def get_logger(name: str | None = None) -> logging.Logger:
        asked.append(name)
        return original(name)

    original = logging.getLogger
    create_persistence(redis_driver(server.url)).close()  # imports what loggers are made for
    monkeypatch.setattr(logging, "getLogger", get_logger)
    with create_persistence(redis_driver(server.url)) as persistence:
        persistence.ping()
    assert asked == []
