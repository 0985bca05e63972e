from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from bson import Binary
from pymongo.database import Database

from agentx_persistence import Persistence
from tests.backends.backend import Backend, Pool
from tests.contract.records import texts
from tests.servers.mongodb import MongodbServer, start_server
from tests.servers.process import given

# The main thread has a client of its own, with one more; two of each client watch the server.
POOL_OF_FIVE = Pool({"maxPoolSize": 5}, connections=10)


@pytest.fixture(scope="session")
def mongodb_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongodbServer]:
    if url := given("mongodb"):
        yield MongodbServer(url)
        return
    server = start_server(tmp_path_factory.mktemp("mongodb"))
    yield server
    server.stop()


def backend_on(server: MongodbServer, name: str = "mongodb") -> Backend:
    """An empty database of the server."""
    options = {"database_name": f"agentx_test_{uuid4().hex[:12]}"}
    return Backend(name, "agentx_persistence.mongodb", (server.url,), options)


@pytest.fixture
def mongodb_backend(mongodb_server: MongodbServer) -> Iterator[Backend]:
    backend = backend_on(mongodb_server)
    yield backend
    mongodb_server.drop(backend.options["database_name"])


@pytest.fixture
def raw_mongodb(mongodb_server: MongodbServer, mongodb_backend: Backend) -> Iterator[Database[Any]]:
    """The same database, for what the package would not do."""
    with mongodb_server.connect() as client:
        yield client[mongodb_backend.options["database_name"]]


def checked_history(persistence: Persistence, raw: Database[Any]) -> list[str]:
    """Return the texts of the session; fail if its positions have a gap, or anything follows them.

    What calls that died have staged lies under tokens of its own.
    """
    history = texts(persistence)
    assert persistence.sessions.count_messages("session") == len(history)
    head = raw.sessions.find_one({"_id": "session"})
    assert head is not None
    rows = raw.messages.find({"session_id": "session", "log": head["log"]})
    assert sorted(row["position"] for row in rows) == list(range(1, len(history) + 1))
    assert head.keys().isdisjoint({"pending", "held", "hidden"})
    return history


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


def stored(
    backend: Backend, persistence: Persistence, kind: str, id: str, position: int | None
) -> object:
    where = {"_id": id} if position is None else {"session_id": id, "position": position}
    with MongodbServer(backend.arguments[0]).connect() as client:
        rows = client[backend.options["database_name"]][kind if position is None else "messages"]
        row = rows.find_one(where, {"text": 1, "_id": 0})
        assert row is not None
        return row["text"]
