"""A Redis Cluster: slots that move from node to node, and few connections to each node."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from redis import Redis
from redis.crc import key_slot

from agentx_persistence import BackendUnavailableError, Persistence
from agentx_persistence._redis.keys import Keys
from agentx_persistence.storage import SESSIONS
from tests.backends.backend import Backend
from tests.contract.records import message, saved_session, session, texts
from tests.servers.proxy import Proxy
from tests.servers.redis import RedisCluster, RedisServer


class Slot:
    """The slot of a session, which a test moves from its node to another one, and back."""

    def __init__(self, key: bytes, nodes: list[Any]) -> None:
        self.key, self.number = key, key_slot(key)
        clients: list[Redis] = [node.client(decode_responses=True) for node in nodes[:3]]
        ids = [str(client.execute_command("CLUSTER MYID")) for client in clients]
        owner = next(n for n, client in enumerate(clients) if self._is_owner(client, ids[n]))
        self.source, self.target = clients[owner], clients[owner - 1]
        self._ids = ids[owner], ids[owner - 1]
        self._clients = clients

    def _is_owner(self, client: Redis, id: str) -> bool:
        (mine,) = [
            node
            for node in client.execute_command("CLUSTER NODES").values()
            if node["node_id"] == id
        ]
        return any(int(span[0]) <= self.number <= int(span[-1]) for span in mine["slots"])

    def begin(self) -> None:
        self.target.execute_command("CLUSTER SETSLOT", self.number, "IMPORTING", self._ids[0])
        self.source.execute_command("CLUSTER SETSLOT", self.number, "MIGRATING", self._ids[1])

    def move(self, *keys: bytes) -> None:
        """Move these keys, or all."""
        found = keys or self.source.execute_command("CLUSTER GETKEYSINSLOT", self.number, 1000)
        port = self.target.get_connection_kwargs()["port"]
        given = ("127.0.0.1", port, "", 0, 5000, "KEYS", *found)
        assert self.source.execute_command("MIGRATE", *given) == "OK"

    def end(self) -> None:
        # The new owner is first, as Redis advises: it takes a newer epoch, so that no older view of
        # another node wins.
        for client in sorted(self._clients, key=lambda client: client is not self.target):
            client.execute_command("CLUSTER SETSLOT", self.number, "NODE", self._ids[1])
        self.source, self.target = self.target, self.source
        self._ids = self._ids[::-1]

    def close(self) -> None:
        for client in self._clients:
            client.close()


@pytest.fixture
def persistence(redis_cluster_backend: Backend) -> Iterator[Persistence]:
    options = {**redis_cluster_backend.options, "retry_seconds": 0.5}
    with replace(redis_cluster_backend, options=options).open() as persistence:
        saved_session(persistence)
        persistence.sessions.add_message("session", message("first"))
        yield persistence


@pytest.fixture
def slot(
    persistence: Persistence, redis_cluster_backend: Backend, redis_cluster_server: RedisCluster
) -> Iterator[Slot]:
    key = Keys(redis_cluster_backend.options["base"]).document(SESSIONS, "session")
    slot = Slot(key, redis_cluster_server.nodes)
    yield slot
    slot.close()


def test_threads_wait_for_the_only_connection_to_each_node(
    redis_cluster_backend: Backend, redis_cluster_server: RedisCluster
) -> None:
    """The others hold the connection for longer than a call is repeated."""
    ids = [f"session {number}" for number in range(12)]
    options = {**redis_cluster_backend.options, "max_connections": 1, "retry_seconds": 0.2}
    with replace(redis_cluster_backend, options=options).open() as persistence:
        for id in ids:
            persistence.sessions.save(session(id))
        expected = persistence.sessions.find_many(ids)
        reading = [partial(persistence.sessions.find_many, order) for order in (ids, ids[::-1])]
        writing = [partial(persistence.sessions.add_message, id, message()) for id in ids]
        for node in redis_cluster_server.nodes:
            with node.client() as client:
                client.client_pause(500)
        with ThreadPoolExecutor(24) as threads:
            found = [threads.submit(call) for call in reading * 4]
            positions = [threads.submit(call) for call in writing]
            assert [each.result().keys() for each in found] == [expected.keys()] * 8
            assert [each.result() for each in positions] == [1] * len(ids)


def test_calls_follow_a_slot_that_moves(persistence: Persistence, slot: Slot) -> None:
    sessions = persistence.sessions
    slot.begin()
    assert sessions.get("session").session_id == "session"
    slot.move()
    # The node that has the slot refers to the other one for this key.
    assert sessions.get("session").session_id == "session"
    assert sessions.find_many(["session", "other"]).keys() == {"session"}
    slot.end()
    assert sessions.add_message("session", message("second")) == 2
    assert texts(persistence) == ["first", "second"]
    slot.begin()
    slot.move()
    slot.end()
    assert sessions.add_message("session", message("third")) == 3
    assert texts(persistence) == ["first", "second", "third"]


def test_a_session_whose_keys_are_on_two_nodes_is_unavailable_until_they_are_on_one(
    persistence: Persistence, slot: Slot
) -> None:
    late = message("late")
    slot.begin()
    slot.move(slot.key)
    try:
        started = time.monotonic()
        with pytest.raises(BackendUnavailableError):
            persistence.sessions.add_message("session", late)
        assert time.monotonic() - started < 2
    finally:
        slot.move()
        slot.end()
    assert persistence.sessions.add_message("session", late) == 2
    slot.begin()
    slot.move()
    slot.end()
    assert texts(persistence) == ["first", "late"]


def test_what_is_written_while_a_slot_moves_is_there_once(
    redis_cluster_backend: Backend, slot: Slot
) -> None:
    moves = 6
    with redis_cluster_backend.open() as persistence, ExitStack() as stack:
        done = threading.Event()
        stack.callback(done.set)

        def move() -> None:
            for _ in range(moves):
                slot.begin()
                slot.move()
                slot.end()
                time.sleep(0.1)
            done.set()

        mover = threading.Thread(target=move)
        mover.start()
        sent = ["first"]
        while not done.is_set():
            sent.append(f"message {len(sent)}")
            assert persistence.sessions.add_message("session", message(sent[-1])) == len(sent)
            persistence.sessions.save(session("other"))
        mover.join()
        assert len(sent) > moves
        assert texts(persistence) == sent


def test_the_address_in_the_url_is_asked_after_all_nodes_have_got_new_ones(
    redis_cluster_backend: Backend, redis_cluster_server: RedisCluster
) -> None:
    nodes = redis_cluster_server.nodes
    proxies = {port: Proxy("127.0.0.1", port) for port in map(_port, nodes)}
    old = {("127.0.0.1", port): ("127.0.0.1", proxy.port) for port, proxy in proxies.items()}
    options = {
        **redis_cluster_backend.options,
        "dynamic_startup_nodes": False,
        "address_remap": lambda address: old.get(address, address),
    }
    with ExitStack() as proxied:
        for proxy in proxies.values():
            proxied.enter_context(proxy.open())
        with replace(redis_cluster_backend, options=options).open() as persistence:
            saved_session(persistence)
            proxied.close()
            old.clear()
            for node in nodes:
                with node.client() as client:
                    client.client_kill_filter(_type="normal", skipme=True)
            assert persistence.sessions.add_message("session", message()) == 1


def _port(node: RedisServer) -> int:
    return int(node.url.rpartition(":")[2])
