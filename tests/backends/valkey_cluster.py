from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from tests.backends.backend import Backend
from tests.backends.redis import corrupt, stored
from tests.backends.sentinel import spread
from tests.servers.process import server_folder
from tests.servers.redis import valkey_binary
from tests.servers.redis_nodes import ClusterNodes

__all__ = ["corrupt", "stored"]


@pytest.fixture(scope="session")
def valkey_cluster_nodes() -> Iterator[ClusterNodes]:
    with server_folder("valkey-cluster") as folder:
        nodes = ClusterNodes(folder, valkey_binary())
        yield nodes
        nodes.stop()


@pytest.fixture
def valkey_cluster_backend(valkey_cluster_nodes: ClusterNodes) -> Iterator[Backend]:
    yield spread("valkey_cluster", valkey_cluster_nodes, f"test-{secrets.token_hex(6)}")
    valkey_cluster_nodes.cluster.check_for_leaks()
