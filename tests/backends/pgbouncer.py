from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from agentx_persistence import create_persistence
from agentx_persistence.postgresql import postgresql_driver
from tests.backends.backend import Backend
from tests.backends.postgresql import POOL_OF_FIVE, corrupt, stored
from tests.servers.pgbouncer import start_server
from tests.servers.postgresql import PostgresqlServer
from tests.servers.process import server_folder

__all__ = ["POOL_OF_FIVE", "corrupt", "stored"]


@pytest.fixture(scope="session")
def pgbouncer_server(postgresql_server: PostgresqlServer) -> Iterator[PostgresqlServer]:
    with server_folder("pgbouncer") as folder:
        server = start_server(folder, postgresql_server)
        yield server
        server.stop()


@pytest.fixture(scope="session")
def pgbouncer_database(
    pgbouncer_server: PostgresqlServer, postgresql_server: PostgresqlServer
) -> str:
    """A database of its own, as the pooler keeps connections to it."""
    database = "agentx_pooled"
    postgresql_server.recreate(database)
    driver = postgresql_driver(**pooled(pgbouncer_server, database), migrate=True)
    create_persistence(driver).close()
    return database


@pytest.fixture
def pgbouncer_backend(
    pgbouncer_server: PostgresqlServer,
    postgresql_server: PostgresqlServer,
    pgbouncer_database: str,
) -> Backend:
    postgresql_server.empty(pgbouncer_database)
    options = pooled(pgbouncer_server, pgbouncer_database)
    return Backend("pgbouncer", "agentx_persistence.postgresql", options=options)


def pooled(server: PostgresqlServer, database: str) -> dict[str, Any]:
    # PgBouncer keeps prepared statements apart only from its version 1.21 on.
    return {**server.options(database), "prepare_threshold": None}
