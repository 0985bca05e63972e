from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from tests.backends.backend import Backend, Spread
from tests.backends.redis import corrupt, stored
from tests.servers.process import server_folder
from tests.servers.redis import redis_binary
from tests.servers.redis_nodes import ClusterNodes, SentinelGroup

__all__ = ["corrupt", "stored"]


@pytest.fixture(scope="session")
def sentinel_nodes() -> Iterator[SentinelGroup]:
    with server_folder("sentinel") as folder:
        nodes = SentinelGroup(folder, redis_binary())
        yield nodes
        nodes.stop()


@pytest.fixture
def sentinel_backend(sentinel_nodes: SentinelGroup) -> Iterator[Backend]:
    yield spread("sentinel", sentinel_nodes, f"test-{secrets.token_hex(6)}")
    sentinel_nodes.servers[sentinel_nodes.primary()].check_for_leaks()


def spread(name: str, nodes: SentinelGroup | ClusterNodes, base: str) -> Spread:
    if isinstance(nodes, ClusterNodes):
        url, options = nodes.cluster.nodes[nodes.primary()].url, {"base": base, "cluster": True}
    else:
        url, options = nodes.servers[nodes.primary()].url, {"base": base}
    module, opening = "agentx_persistence.redis", {"base": base}
    return Spread(name, module, (url,), options, nodes.urls, opening)
