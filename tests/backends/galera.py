from __future__ import annotations

from collections.abc import Iterator

import pytest

from agentx_persistence import create_persistence
from agentx_persistence.mysql import mysql_driver
from tests.backends.backend import Backend, Spread
from tests.backends.mysql import DATABASE, corrupt, stored
from tests.servers.galera import GaleraCluster, start_cluster
from tests.servers.group_replication import ReplicationGroup
from tests.servers.process import server_folder

__all__ = ["corrupt", "stored"]


@pytest.fixture(scope="session")
def galera_cluster() -> Iterator[GaleraCluster]:
    with server_folder("galera") as folder:
        cluster = start_cluster(folder)
        prepare(cluster)
        yield cluster
        cluster.stop()


@pytest.fixture
def galera_backend(galera_cluster: GaleraCluster) -> Iterator[Backend]:
    yield from emptied("galera", galera_cluster)


def prepare(nodes: GaleraCluster | ReplicationGroup) -> None:
    """Make a migrated database."""
    first = nodes.servers[nodes.primary()]
    first.recreate(DATABASE)
    create_persistence(mysql_driver(**first.options(DATABASE), migrate=True)).close()


def spread(name: str, nodes: GaleraCluster | ReplicationGroup) -> Spread:
    first = nodes.servers[nodes.primary()]
    urls = tuple(f"{url}/{DATABASE}" for url in nodes.urls)
    own = first.options(DATABASE)
    opening = {"connect_args": own["connect_args"]}
    return Spread(name, "agentx_persistence.mysql", options=own, urls=urls, opening=opening)


def emptied(name: str, nodes: GaleraCluster | ReplicationGroup) -> Iterator[Backend]:
    nodes.servers[nodes.primary()].empty(DATABASE)
    yield spread(name, nodes)
    for server in nodes.servers:
        server.check_for_leaks(DATABASE)
