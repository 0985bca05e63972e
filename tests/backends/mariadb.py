from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.backends.backend import Backend
from tests.backends.mysql import POOL_OF_FIVE, corrupt, emptied, migrated, stored
from tests.servers.mariadb import start_server
from tests.servers.mysql import MysqlServer, given_server
from tests.servers.process import given, server_folder

__all__ = ["POOL_OF_FIVE", "corrupt", "stored"]


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[MysqlServer]:
    with server_folder("mariadb") as folder:
        url = given("mariadb")
        server = given_server(url) if url else start_server(folder)
        yield server
        server.stop()


@pytest.fixture(scope="session")
def mariadb_database(mariadb_server: MysqlServer) -> str:
    return migrated(mariadb_server)


@pytest.fixture
def mariadb_backend(mariadb_server: MysqlServer, mariadb_database: str) -> Iterator[Backend]:
    yield from emptied("mariadb", mariadb_server, mariadb_database)
