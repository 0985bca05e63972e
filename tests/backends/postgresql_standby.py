from __future__ import annotations

from collections.abc import Iterator

import pytest

from agentx_persistence import create_persistence
from agentx_persistence.postgresql import postgresql_driver
from tests.backends.backend import Backend, Spread
from tests.backends.postgresql import DATABASE, corrupt, stored
from tests.servers.postgresql_standby import PostgresqlPair
from tests.servers.process import server_folder

__all__ = ["corrupt", "stored"]


@pytest.fixture(scope="session")
def postgresql_standby_nodes() -> Iterator[PostgresqlPair]:
    with server_folder("standby") as folder:
        pair = PostgresqlPair(folder)
        prepare(pair)
        yield pair
        pair.stop()


@pytest.fixture
def postgresql_standby_backend(postgresql_standby_nodes: PostgresqlPair) -> Iterator[Backend]:
    nodes = postgresql_standby_nodes
    first = nodes.servers[nodes.primary()]
    first.empty(DATABASE)
    yield spread(nodes)
    first.check_for_leaks(DATABASE)


def prepare(nodes: PostgresqlPair) -> None:
    """Make a migrated database."""
    first = nodes.servers[nodes.primary()]
    first.recreate(DATABASE)
    create_persistence(postgresql_driver(**first.options(DATABASE), migrate=True)).close()


def spread(nodes: PostgresqlPair) -> Spread:
    options = nodes.servers[nodes.primary()].options(DATABASE)
    urls = tuple(f"{url}/{DATABASE}" for url in nodes.urls)
    return Spread("postgresql_standby", "agentx_persistence.postgresql", (), options, urls)
