"""How the SQL backends use a database server: round trips, indexes, locks, the caller's engine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import create_engine, orm, text

from agentx_persistence import create_persistence
from agentx_persistence._sql import schema
from tests.backends.backend import DATABASE_SERVER, Backend
from tests.contract.records import container, message, saved_session, texts
from tests.servers.proxy import Proxy

pytestmark = pytest.mark.needs(DATABASE_SERVER)


@pytest.fixture
def server(backend: Backend, request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(f"{backend.name}_server")


@pytest.fixture
def database(backend: Backend) -> str:
    return str(backend.options["database"])


def test_a_call_takes_as_few_round_trips_as_the_protocol_allows(
    backend: Backend, server: Any, database: str
) -> None:
    with (
        Proxy(server.url.host, server.url.port).open() as proxy,
        create_persistence(server.driver(database, port=proxy.port)) as persistence,
    ):
        saved_session(persistence)
        # One statement on PostgreSQL; on MySQL two that change rows, and a commit.
        append = 1 if backend.name == "postgresql" else 3

        def appending() -> object:
            return persistence.sessions.add_message("session", message())

        def reading() -> object:
            return persistence.sessions.get_messages("session")

        for call, expected in ((appending, append), (reading, 1)):
            for _ in range(10):  # the first ones are not prepared yet
                call()
            before = proxy.round_trips
            for _ in range(20):
                call()
            assert proxy.round_trips - before == 20 * expected


@pytest.fixture
def engine(backend: Backend, server: Any, database: str) -> Iterator[Any]:
    """An engine as an application has one, with one connection."""
    url = schema.parse_url(server.url.set(database=database))
    engine = create_engine(url, pool_size=1, max_overflow=0, pool_timeout=1)
    yield engine
    engine.dispose()


def test_the_callers_engine_is_neither_closed_nor_changed(server: Any, engine: Any) -> None:
    def mode() -> tuple[object, ...]:
        with engine.connect() as connection:
            raw = connection.connection.driver_connection
            autocommit = raw.get_autocommit() if callable(raw.autocommit) else raw.autocommit
            return connection.get_isolation_level(), autocommit, raw

    before = mode()
    with create_persistence(server.new_driver(engine=engine)) as persistence:
        persistence.containers.save(container())
        saved_session(persistence)
        assert persistence.sessions.add_message("session", message("a")) == 1
        assert persistence.sessions.add_messages("session", [message("b"), message("c")]) == [2, 3]
        assert texts(persistence) == ["a", "b", "c"]
        assert mode() == before
        assert persistence.sessions.clear_messages("session") == 3
        assert mode() == before
        with orm.Session(engine) as unit:
            unit.execute(text("DELETE FROM containers"))
            unit.rollback()
        assert persistence.containers.exists("box")
    assert engine.pool.checkedout() == 0
    assert mode() == before
