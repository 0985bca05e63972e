from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from agentx_persistence import Persistence, create_persistence
from agentx_persistence.postgresql import postgresql_driver
from tests.backends.backend import Backend, Pool
from tests.backends.damage import damage, look_up
from tests.servers.postgresql import PostgresqlServer, given_server, start_server
from tests.servers.process import given, server_folder

DATABASE = "agentx_test"


POOL_OF_FIVE = Pool({"pool_size": 5, "max_overflow": 0})


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgresqlServer]:
    with server_folder("postgresql") as folder:
        url = given("postgresql")
        server = given_server(url) if url else start_server(folder)
        yield server
        server.stop()


@pytest.fixture(scope="session")
def postgresql_database(postgresql_server: PostgresqlServer) -> str:
    """A migrated database; its name. Tests empty it for each other, which is the fastest way."""
    postgresql_server.recreate(DATABASE)
    options = postgresql_server.options(DATABASE)
    create_persistence(postgresql_driver(**options, migrate=True)).close()
    return DATABASE


@pytest.fixture
def postgresql_backend(
    postgresql_server: PostgresqlServer, postgresql_database: str
) -> Iterator[Backend]:
    postgresql_server.empty(postgresql_database)
    options = postgresql_server.options(postgresql_database)
    yield Backend("postgresql", "agentx_persistence.postgresql", options=options)
    postgresql_server.check_for_leaks(postgresql_database)


def corrupt(
    backend: Backend,
    persistence: Persistence,
    kind: str,
    id: str,
    position: int | None,
    raw: bytes,
) -> bool:
    options = {**backend.options}
    with psycopg.connect(dbname=options.pop("database"), **options) as connection:
        try:
            connection.execute(*damage(kind, id, position, raw))
        except (UnicodeDecodeError, psycopg.DataError):  # no UTF-8, or NUL
            return False
    return True


def stored(
    backend: Backend, persistence: Persistence, kind: str, id: str, position: int | None
) -> object:
    options = {**backend.options}
    with psycopg.connect(dbname=options.pop("database"), **options) as connection:
        return connection.execute(*look_up(kind, id, position)).fetchone()
