"""Servers that were restarted and still load their data.

They answer LOADING to each call; the node of a cluster, as it knows no other node yet, CLUSTERDOWN.
"""

from __future__ import annotations

import logging
import re
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from redis.exceptions import BusyLoadingError

from agentx_persistence import BackendUnavailableError, PersistenceDriver, create_persistence
from agentx_persistence.redis import redis_driver
from tests.backends.redis import connected
from tests.contract.records import message, saved_session, texts
from tests.servers.nodes import wait_until
from tests.servers.process import ServerProcess, server_folder
from tests.servers.redis import (
    RedisServer,
    redis_binary,
    start_cluster,
    start_server,
    valkey_binary,
)

# A server waits for each key, in microseconds, and answers others after each 1024 bytes, which none
# of the keys' values is below.
_KEYS = 1500
_SLOW = ("--key-load-delay", "50000", "--loading-process-events-interval-bytes", "1024")
_ANSWER = re.compile("loading the dataset|cluster is down")


@dataclass
class Nodes:
    servers: Sequence[RedisServer]
    cluster: bool

    @property
    def processes(self) -> list[ServerProcess]:
        return [server.process for server in self.servers if server.process]

    def driver(self, retry_seconds: float) -> PersistenceDriver:
        url = self.servers[0].url
        return redis_driver(url, cluster=self.cluster, retry_seconds=retry_seconds)

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Kill all nodes; start them again. They load until the end of this or `end_loading`."""
        with connected(self.servers[0].url, self.cluster) as client:
            for number in range(_KEYS):
                client.set(f"filler {number}", secrets.token_hex(1024))
        for server in self.servers:
            _rewrite(server)
        for process in self.processes:
            process.kill()
        with ThreadPoolExecutor(len(self.servers)) as threads:
            started = [threads.submit(process.start, *_SLOW) for process in self.processes]
            try:
                for server in self.servers:
                    wait_until(lambda server=server: _is_loading(server), "a server that loads")
                yield
            finally:
                self.end_loading()
            for each in started:
                each.result()

    def end_loading(self) -> None:
        for server in self.servers:
            with server.client(retry=None) as client:
                client.config_set("key-load-delay", 0)


@pytest.fixture(params=["redis", "valkey", "redis_cluster"])
def nodes(request: pytest.FixtureRequest) -> Iterator[Nodes]:
    with server_folder("loading") as folder:
        if request.param == "redis_cluster":
            cluster = start_cluster(folder, redis_binary())
            nodes = Nodes(cluster.nodes, cluster=True)
        else:
            binary = redis_binary() if request.param == "redis" else valkey_binary()
            nodes = Nodes([start_server(folder, binary)], cluster=False)
        try:
            if nodes.servers[0].version < 7:
                pytest.skip("NOT TESTED: Redis 6.2 cannot be made to load slowly for so long")
            yield nodes
        finally:
            for server in nodes.servers:
                server.stop()


def test_a_server_that_loads_its_data_is_waited_for(
    nodes: Nodes, caplog: pytest.LogCaptureFixture
) -> None:
    with create_persistence(nodes.driver(retry_seconds=20)) as persistence:
        saved_session(persistence)
        persistence.sessions.add_message("session", message("before"))
        with nodes.loading(), caplog.at_level(logging.WARNING, "agentx_persistence"):
            timer = threading.Timer(0.5, nodes.end_loading)
            timer.start()
            assert persistence.sessions.add_message("session", message("after")) == 2
            timer.join()
        assert texts(persistence) == ["before", "after"]
    assert any(_ANSWER.search(record.getMessage()) for record in caplog.records)


def test_a_server_that_loads_for_long_is_unavailable_and_then_goes_on(nodes: Nodes) -> None:
    driver, sent = nodes.driver(retry_seconds=0.3), message("once")
    with (
        create_persistence(nodes.driver(retry_seconds=20)) as patient,
        create_persistence(driver) as persistence,
    ):
        saved_session(persistence)
        with nodes.loading():
            for call in (
                lambda: persistence.sessions.add_message("session", sent),
                lambda: persistence.sessions.get_messages("session"),
                persistence.ping,
                lambda: create_persistence(driver),
            ):
                started = time.monotonic()
                with pytest.raises(BackendUnavailableError, match=_ANSWER):
                    call()
                assert 0.3 <= time.monotonic() - started < 5
        assert patient.sessions.add_message("session", sent) == 1
        assert texts(patient) == ["once"]


def _rewrite(server: RedisServer) -> None:
    """Let the server write its data as a snapshot; it waits for each key of one as it loads."""
    with server.client() as client:
        client.bgrewriteaof()
        wait_until(lambda: not _is_rewriting(client), "a rewritten log")


def _is_rewriting(client: Any) -> bool:
    state = client.info("persistence")
    return bool(state["aof_rewrite_in_progress"] or state["aof_rewrite_scheduled"])


def _is_loading(server: RedisServer) -> bool:
    with server.client(retry=None) as client:
        try:
            client.ping()
        except BusyLoadingError:
            return True
    return False
