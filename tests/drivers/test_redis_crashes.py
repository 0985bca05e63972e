"""Servers that are killed while an application writes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from redis.sentinel import Sentinel

from agentx_persistence import (
    BackendUnavailableError,
    Persistence,
    UserMessage,
    create_persistence,
)
from agentx_persistence.redis import driver_from_url, redis_driver
from tests.backends.redis import connected
from tests.contract.records import message, saved_session, session, texts
from tests.servers.redis import (
    RedisServer,
    redis_binary,
    start_cluster,
    start_sentinel,
    start_server,
)

_PATIENCE = 30.0


class Writer(threading.Thread):
    """Adds messages without a pause, as an application that tries again after an error."""

    def __init__(self, persistence: Persistence) -> None:
        super().__init__()
        self._sessions = persistence.sessions
        self._ended = threading.Event()
        self.acknowledged: list[str] = []
        self.errors: list[Exception] = []

    def run(self) -> None:
        while not self._ended.is_set():
            sent = message(str(len(self.acknowledged)))
            self._add(sent)
            self.acknowledged.append(str(sent.content))

    def _add(self, sent: UserMessage) -> None:
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                self._sessions.add_message("session", sent)
                return
            except BackendUnavailableError as error:
                self.errors.append(error)
                if time.monotonic() > deadline:
                    raise

    def wait_for_more(self, count: int = 50) -> None:
        goal, deadline = len(self.acknowledged) + count, time.monotonic() + _PATIENCE
        while len(self.acknowledged) < goal:
            assert self.is_alive()
            assert time.monotonic() < deadline, self.errors[-3:]
            time.sleep(0.01)

    def end(self) -> list[str]:
        self._ended.set()
        self.join(2 * _PATIENCE)
        assert not self.is_alive()
        return self.acknowledged


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = start_server(tmp_path_factory.mktemp("killed"), redis_binary())
    yield server
    server.stop()


def test_a_server_that_is_killed_and_restarted_loses_and_doubles_nothing(
    server: RedisServer,
) -> None:
    assert server.process
    with create_persistence(redis_driver(server.url)) as persistence:
        saved_session(persistence)
        writer = Writer(persistence)
        writer.start()
        for _ in range(3):
            writer.wait_for_more()
            server.process.kill()
            server.process.start()
        writer.wait_for_more()
        acknowledged = writer.end()
        assert texts(persistence) == acknowledged
        assert writer.errors == []


def test_a_server_that_stays_away_is_an_error_in_bounded_time(server: RedisServer) -> None:
    driver = redis_driver(server.url, retry_seconds=1)
    with create_persistence(driver) as persistence:
        saved_session(persistence)
        server.stop()
        for call in (
            lambda: persistence.sessions.add_message("session", message()),
            lambda: persistence.sessions.get_messages("session"),
            lambda: persistence.sessions.find_all(image_id="image"),
            lambda: persistence.sessions.save(session()),
            persistence.ping,
        ):
            started = time.monotonic()
            with pytest.raises(BackendUnavailableError):
                call()
            assert 1 <= time.monotonic() - started < 5
        assert server.process
        server.process.start()
        assert persistence.sessions.add_message("session", message()) == 1


def test_a_master_whose_replica_takes_over_doubles_nothing_and_the_writer_goes_on(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    cluster = start_cluster(tmp_path_factory.mktemp("failover"), redis_binary())
    try:
        with create_persistence(redis_driver(cluster.url, cluster=True)) as persistence:
            saved_session(persistence)
            writer = Writer(persistence)
            writer.start()
            writer.wait_for_more()
            with connected(cluster.url, cluster=True) as client:
                port = client.get_node_from_key("agentx:{session}:messages").port
                replicated = len(writer.acknowledged)
                # What the replica has is all that can outlive its master: the replication is
                # asynchronous. Here we wait for it, so as to know what must be there.
                master = next(n for n in cluster.nodes if n.url.endswith(f":{port}"))
                with master.client() as direct:
                    direct.wait(1, 5000)
            assert master.process
            master.process.kill()
            writer.wait_for_more()
            acknowledged = writer.end()
            history = texts(persistence)
        assert len(set(history)) == len(history)
        assert history[:replicated] == acknowledged[:replicated]
        assert history[-50:] == acknowledged[-50:]
        assert set(history) <= set(acknowledged)
    finally:
        cluster.stop()


@pytest.mark.parametrize("given", [True, False], ids=["client", "url"])
def test_a_client_of_sentinel_follows_the_master(
    tmp_path_factory: pytest.TempPathFactory, given: bool
) -> None:
    folder, binary = tmp_path_factory.mktemp("sentinel"), redis_binary()
    homes = [folder / name for name in ("master", "replica", "sentinel")]
    for home in homes:
        home.mkdir()
    with ExitStack() as servers:
        master = start_server(homes[0], binary, repl_diskless_sync_delay=0)
        servers.callback(master.stop)
        replica = start_server(
            homes[1], binary, replicaof=("127.0.0.1", master.url.rpartition(":")[2])
        )
        servers.callback(replica.stop)
        sentinel = start_sentinel(homes[2], binary, master, "main")
        servers.callback(sentinel.stop)
        port = int(sentinel.url.rpartition(":")[2])
        client = Sentinel([("127.0.0.1", port)]).master_for("main")
        url = f"redis+sentinel://127.0.0.1:{port}/main/0"
        driver = redis_driver(client=client) if given else driver_from_url(url)
        with create_persistence(driver) as persistence:
            saved_session(persistence)
            writer = Writer(persistence)
            writer.start()
            writer.wait_for_more()
            replicated = len(writer.acknowledged)
            with master.client() as direct:
                direct.wait(1, 5000)
            assert master.process
            master.process.kill()
            writer.wait_for_more()
            acknowledged = writer.end()
            history = texts(persistence)
        if not given:
            sentinel.check_for_leaks()
        client.close()
        assert len(set(history)) == len(history)
        assert history[:replicated] == acknowledged[:replicated]
        assert history[-50:] == acknowledged[-50:]
