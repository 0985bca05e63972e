from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from bson import Binary

from agentx_persistence import Persistence
from tests.backends.backend import Backend
from tests.servers.mongodb import MongodbServer, start_server
from tests.servers.process import given


@pytest.fixture(scope="session")
def mongodb_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongodbServer]:
    if url := given("mongodb"):
        yield MongodbServer(url)
        return
    server = start_server(tmp_path_factory.mktemp("mongodb"))
    yield server
    server.stop()


def backend_on(server: MongodbServer) -> Backend:
    """An empty database of the server."""
    name = f"agentx_test_{uuid4().hex[:12]}"
    return Backend("mongodb", "agentx_persistence.mongodb", (server.url,), {"database_name": name})


@pytest.fixture
def mongodb_backend(mongodb_server: MongodbServer) -> Iterator[Backend]:
    backend = backend_on(mongodb_server)
    yield backend
    mongodb_server.drop(backend.options["database_name"])


def corrupt(
    backend: Backend,
    persistence: Persistence,
    kind: str,
    id: str,
    position: int | None,
    raw: bytes,
) -> bool:
    text: Any
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = Binary(raw)
    where = {"_id": id} if position is None else {"session_id": id, "position": position}
    with MongodbServer(backend.arguments[0]).connect() as client:
        rows = client[backend.options["database_name"]][kind if position is None else "messages"]
        return rows.update_one(where, {"$set": {"text": text}}).matched_count == 1
