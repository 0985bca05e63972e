"""What a Galera cluster does that one server does not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from sqlalchemy import create_engine

from agentx_persistence import BackendUnavailableError, Persistence, create_persistence
from agentx_persistence._sql import schema
from agentx_persistence.mysql import mysql_driver
from tests.backends.backend import Backend
from tests.contract.records import message, saved_session
from tests.servers.galera import GaleraCluster

_DATABASE = "agentx_nodes"


@pytest.fixture
def nodes(galera_cluster: GaleraCluster, galera_backend: Backend) -> Iterator[list[Persistence]]:
    """The store, opened on each node alone."""
    database = galera_backend.options["database"]
    with ExitStack() as opened:
        drivers = [server.driver(database) for server in galera_cluster.servers]
        yield [opened.enter_context(create_persistence(driver)) for driver in drivers]


def test_a_node_reads_what_another_one_has_just_acknowledged(nodes: list[Persistence]) -> None:
    saved_session(nodes[0])
    for number in range(300):
        position = nodes[number % 3].sessions.add_message("session", message(str(number)))
        assert nodes[(number + 1) % 3].sessions.count_messages("session") == position


def test_a_node_changes_and_deletes_what_another_one_has_just_made(
    nodes: list[Persistence],
) -> None:
    for number in range(100):
        one, other = nodes[number % 3], nodes[(number + 1) % 3]
        saved_session(one)
        assert other.sessions.add_message("session", message()) == 1
        assert one.sessions.delete("session")


def test_the_settings_of_a_callers_engine_are_left_alone(
    galera_cluster: GaleraCluster, galera_backend: Backend
) -> None:
    url = galera_cluster.servers[0].url.set(database=galera_backend.options["database"])
    engine = create_engine(schema.parse_url(url), connect_args={"ssl_disabled": True})
    with create_persistence(mysql_driver(engine=engine)), engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT @@wsrep_sync_wait").scalar() == 0
    engine.dispose()


def test_nodes_that_migrate_at_once_make_one_schema(galera_cluster: GaleraCluster) -> None:
    galera_cluster.servers[0].recreate(_DATABASE)

    def open(number: int) -> int:
        server = galera_cluster.servers[number % 3]
        with create_persistence(server.driver(_DATABASE, migrate=True)) as persistence:
            saved_session(persistence)
            return persistence.sessions.add_message("session", message())

    with ThreadPoolExecutor(9) as threads:
        assert sorted(threads.map(open, range(9))) == list(range(1, 10))
    galera_cluster.servers[0].execute(f"DROP DATABASE {_DATABASE}")


def test_without_a_quorum_calls_and_opening_are_unavailable_and_then_go_on(
    galera_cluster: GaleraCluster, galera_backend: Backend
) -> None:
    driver = galera_cluster.servers[0].driver(galera_backend.options["database"], retry_seconds=2)
    with create_persistence(driver) as persistence:
        saved_session(persistence)
        sent = message("said without a quorum")
        with galera_cluster.minority():
            began = time.monotonic()
            with pytest.raises(BackendUnavailableError):
                _add_until_refused(persistence)
            assert time.monotonic() - began < 15
            with pytest.raises(BackendUnavailableError):
                persistence.sessions.add_message("session", sent)
            with pytest.raises(BackendUnavailableError):
                create_persistence(driver)
        galera_cluster.wait()
        count = persistence.sessions.count_messages("session")
        assert persistence.sessions.add_message("session", sent) == count + 1


def _add_until_refused(persistence: Persistence) -> None:
    while True:
        persistence.sessions.add_message("session", message())
