from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.backends.backend import Backend, Pool
from tests.backends.redis import corrupt, empty_store, stored
from tests.servers.process import given
from tests.servers.redis import RedisCluster, RedisServer, redis_binary, start_cluster

__all__ = ["corrupt", "stored"]


# For each of the masters, and one that asks which nodes there are.
POOL_OF_FIVE = Pool({"max_connections": 5}, connections=16)


@pytest.fixture(scope="session")
def redis_cluster_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    url = given("redis_cluster")
    if url:
        yield RedisCluster([RedisServer(url)])
        return
    cluster = start_cluster(tmp_path_factory.mktemp("redis_cluster"), redis_binary())
    yield cluster
    cluster.stop()


@pytest.fixture
def redis_cluster_backend(redis_cluster_server: RedisCluster) -> Iterator[Backend]:
    yield from empty_store("redis_cluster", redis_cluster_server, cluster=True)
