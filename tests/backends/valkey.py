from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.backends.backend import Backend
from tests.backends.redis import POOL_OF_FIVE, corrupt, empty_store, stored
from tests.servers.process import given
from tests.servers.redis import RedisServer, start_server, valkey_binary

__all__ = ["POOL_OF_FIVE", "corrupt", "stored"]


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    url = given("valkey")
    if url:
        yield RedisServer(url)
        return
    server = start_server(tmp_path_factory.mktemp("valkey"), valkey_binary())
    yield server
    server.stop()


@pytest.fixture
def valkey_backend(valkey_server: RedisServer) -> Iterator[Backend]:
    yield from empty_store("valkey", valkey_server)
