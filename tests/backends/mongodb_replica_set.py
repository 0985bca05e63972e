from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.backends.backend import Backend
from tests.backends.mongodb import backend_on, corrupt, stored
from tests.servers.mongodb import MongodbServer
from tests.servers.mongodb_nodes import ReplicaSet
from tests.servers.process import given, server_folder

__all__ = ["corrupt", "stored"]


@pytest.fixture(scope="session")
def mongodb_replica_set_server() -> Iterator[MongodbServer]:
    if url := given("mongodb_replica_set"):
        yield MongodbServer(url)
        return
    with server_folder("replica-set") as folder:
        nodes = ReplicaSet(folder)
        yield MongodbServer(*nodes.urls)
        nodes.stop()


@pytest.fixture
def mongodb_replica_set_backend(mongodb_replica_set_server: MongodbServer) -> Iterator[Backend]:
    backend = backend_on(mongodb_replica_set_server, "mongodb_replica_set")
    yield backend
    mongodb_replica_set_server.drop(backend.options["database_name"])
