from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from redis import Redis
from redis import RedisCluster as ClusterClient

from agentx_persistence import Persistence
from agentx_persistence._redis.keys import Keys
from agentx_persistence._redis.opening import COMMANDS
from agentx_persistence.storage import KINDS, Kind
from tests.backends.backend import Backend, Pool
from tests.servers.process import given
from tests.servers.redis import RedisCluster, RedisServer, redis_binary, start_server

POOL_OF_FIVE = Pool({"max_connections": 5})


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    url = given("redis")
    if url:
        yield RedisServer(url)
        return
    server = start_server(tmp_path_factory.mktemp("redis"), redis_binary())
    yield server
    server.stop()


@pytest.fixture(scope="module")
def redis_with_users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server whose settings a test may change, with users whose password is `tiger`."""
    server = start_server(tmp_path_factory.mktemp("redis_with_users"), redis_binary())
    # redis-py greets with the last three.
    needed = [f"+{name}" for name in (*COMMANDS, "hello", "select", "client")]
    with server.client() as client:
        for user, rules in {
            "all": ("~*", "+@all"),
            "reader": ("~*", "+@all", "-evalsha"),
            "half": ("~*", "+@all", "-zadd"),
            "other": ("~other:*", "+@all"),
            "least": ("~least:*", "-@all", *needed),
        }.items():
            client.execute_command("ACL", "SETUSER", user, "on", ">tiger", *rules)
    yield server
    server.stop()


def as_user(server: RedisServer, user: str) -> str:
    return server.url.replace("//", f"//{user}:tiger@")


@pytest.fixture
def redis_backend(redis_server: RedisServer) -> Iterator[Backend]:
    yield from empty_store("redis", redis_server)


def empty_store(
    name: str, server: RedisServer | RedisCluster, **options: bool
) -> Iterator[Backend]:
    """Give a store whose keys no other test has."""
    base = f"test-{secrets.token_hex(6)}"
    yield Backend(name, "agentx_persistence.redis", (server.url,), {"base": base, **options})
    if given(name) is None:
        server.check_for_leaks()
        return
    with connected(server.url, **options) as client:  # a server that goes on after the tests
        for key in list(client.scan_iter(f"{base}:*", count=1000)):
            client.delete(key)


@contextmanager
def connected(url: str, cluster: bool = False) -> Iterator[Any]:
    client = ClusterClient.from_url(url) if cluster else Redis.from_url(url)
    try:
        yield client
    finally:
        if isinstance(client, ClusterClient):
            client.disconnect_connection_pools()  # which its close() does not
        client.close()


def corrupt(
    backend: Backend,
    persistence: Persistence,
    kind: str,
    id: str,
    position: int | None,
    raw: bytes,
) -> bool:
    options = {**backend.options}
    keys = Keys(options.pop("base"))
    with connected(*backend.arguments, **options) as client:
        if position is not None:
            client.lset(keys.log(id)[1], position - 1, raw)
        else:
            client.hset(keys.document(kind_of(kind), id), "text", raw)
    return True


def stored(
    backend: Backend, persistence: Persistence, kind: str, id: str, position: int | None
) -> object:
    options = {**backend.options}
    keys = Keys(options.pop("base"))
    with connected(*backend.arguments, **options) as client:
        if position is not None:
            return client.lindex(keys.log(id)[1], position - 1)
        return client.hget(keys.document(kind_of(kind), id), "text")


def kind_of(name: str) -> Kind:
    return next(kind for kind in KINDS if kind.name == name)
