from __future__ import annotations

from collections.abc import Iterator

import pymysql
import pytest

from agentx_persistence import Persistence, create_persistence
from agentx_persistence.mysql import mysql_driver
from tests.backends.backend import Backend, Pool
from tests.backends.damage import damage, look_up
from tests.servers.mysql import MysqlServer, given_server, start_server
from tests.servers.process import given, server_folder

DATABASE = "agentx_test"


POOL_OF_FIVE = Pool({"pool_size": 5, "max_overflow": 0})


@pytest.fixture(scope="session")
def mysql_server() -> Iterator[MysqlServer]:
    with server_folder("mysql") as folder:
        url = given("mysql")
        server = given_server(url) if url else start_server(folder)
        yield server
        server.stop()


@pytest.fixture(scope="session")
def mysql_database(mysql_server: MysqlServer) -> str:
    return migrated(mysql_server)


@pytest.fixture
def mysql_backend(mysql_server: MysqlServer, mysql_database: str) -> Iterator[Backend]:
    yield from emptied("mysql", mysql_server, mysql_database)


def migrated(server: MysqlServer) -> str:
    """Make a migrated database; return its name. Tests empty it for each other."""
    server.recreate(DATABASE)
    create_persistence(mysql_driver(**server.options(DATABASE), migrate=True)).close()
    return DATABASE


def emptied(name: str, server: MysqlServer, database: str) -> Iterator[Backend]:
    server.empty(database)
    yield Backend(name, "agentx_persistence.mysql", options=server.options(database))
    server.check_for_leaks(database)


def corrupt(
    backend: Backend,
    persistence: Persistence,
    kind: str,
    id: str,
    position: int | None,
    raw: bytes,
) -> bool:
    options = {**backend.options}
    with pymysql.connect(**options.pop("connect_args"), **options, autocommit=True) as connection:
        try:
            connection.cursor().execute(*damage(kind, id, position, raw))
        except UnicodeDecodeError:
            return False
    return True


def stored(
    backend: Backend, persistence: Persistence, kind: str, id: str, position: int | None
) -> object:
    options = {**backend.options}
    with (
        pymysql.connect(**options.pop("connect_args"), **options) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(*look_up(kind, id, position))
        return cursor.fetchone()
