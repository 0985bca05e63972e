from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.backends.backend import Backend
from tests.backends.mongodb import backend_on, corrupt, stored
from tests.servers.mongodb import MongodbServer
from tests.servers.mongodb_nodes import ShardedCluster
from tests.servers.process import given, server_folder

__all__ = ["corrupt", "stored"]


@pytest.fixture(scope="session")
def mongodb_sharded_server() -> Iterator[MongodbServer]:
    if url := given("mongodb_sharded"):
        yield MongodbServer(url)
        return
    with server_folder("sharded") as folder:
        cluster = ShardedCluster(folder)
        yield MongodbServer(cluster.url)
        cluster.stop()


@pytest.fixture
def mongodb_sharded_backend(mongodb_sharded_server: MongodbServer) -> Iterator[Backend]:
    """A database whose messages are spread over the shards."""
    backend = backend_on(mongodb_sharded_server, "mongodb_sharded")
    name = backend.options["database_name"]
    with mongodb_sharded_server.connect() as client:
        client.admin.command("shardCollection", f"{name}.messages", key={"session_id": 1})
    yield backend
    mongodb_sharded_server.drop(name)
