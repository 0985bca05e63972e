"""How the SQL backends use a database server: round trips, indexes, locks, the caller's engine."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import create_engine, orm, text

from agentx_persistence import Persistence, create_persistence
from agentx_persistence._sql import schema
from agentx_persistence._sql.repositories import name_digest
from agentx_persistence._sql.statements import Statement
from tests.backends.backend import DATABASE_SERVER, Backend
from tests.contract.records import container, image, message, saved_session, texts

pytestmark = pytest.mark.needs(DATABASE_SERVER)


@pytest.fixture
def server(backend: Backend, request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(f"{backend.name}_server")


@pytest.fixture
def database(backend: Backend) -> str:
    return str(backend.options["database"])


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


@pytest.mark.parametrize("paging", [False, True], ids=["first page", "next page"])
@pytest.mark.parametrize(
    "filters",
    [(), ("container_id",), ("name_digest",), ("container_id", "name_digest")],
    ids=" and ".join,
)
def test_a_listing_reads_its_place_in_an_index(
    backend: Backend,
    server: Any,
    database: str,
    persistence: Persistence,
    filters: tuple[str, ...],
    paging: bool,
) -> None:
    images: Any = persistence.images
    with server.connect(database) as connection, connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO images (image_id, container_id, session_id, name_digest,"
            " created_at, updated_at, body) VALUES (%s, %s, 's', %s, %s, 1, '{}')",
            [
                (f"i{number}", f"c{number % 20}", name_digest(f"n{number % 20}"), number)
                for number in range(4000)
            ],
        )
    server.analyze(database, "images")
    statement = Statement(images._page(filters, paging, True), images._database.engine.dialect)
    # A place near the end: reading from the start of the index would be another plan.
    values = {"newest": -300, "id": "i2", "limit": 5}
    values.update({"container_id": "c0", "name_digest": name_digest("n0")})
    plan = server.explain(database, statement.sql, statement.bind(values))
    assert "_".join(("ix_images", *filters, "newest_image_id")) in plan
    for costly in ("Seq Scan", "Sort", "filesort", "temporary", "Filter"):
        assert costly not in plan
    if paging:
        assert server.READS_A_RANGE.search(plan)


def test_a_deadlock_ends_for_the_application_as_if_there_was_none(
    backend: Backend, server: Any, database: str, persistence: Persistence
) -> None:
    persistence.images.save(image())
    saved_session(persistence)
    with (
        ThreadPoolExecutor(1) as thread,
        closing(server.connect(database, autocommit=False)) as other,
    ):
        cursor = other.cursor()
        server.be_no_victim(cursor)
        # Deleting an image takes its sessions first, then the image: the other way round here.
        cursor.execute("SELECT 1 FROM images WHERE image_id = 'image' FOR UPDATE")
        deleted = thread.submit(persistence.images.delete, "image")
        server.wait_until_one_waits(database)
        cursor.execute("UPDATE sessions SET updated_at = 1 WHERE session_id = 'session'")
        other.commit()
        assert deleted.result(20)
    assert not persistence.sessions.exists("session")


def test_a_message_of_tens_of_megabytes_comes_back(persistence: Persistence) -> None:
    saved_session(persistence)
    text = 'x"\\\n\U0001f642' * (4 * 2**20)
    persistence.sessions.add_message("session", message(text))
    assert texts(persistence) == [text]
