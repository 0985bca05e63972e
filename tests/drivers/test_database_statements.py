"""How the SQL backends use a database server: round trips, indexes, locks, the caller's engine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import pytest
from sqlalchemy import create_engine, orm, text

from agentx_persistence import Persistence, create_persistence
from agentx_persistence._sql import schema
from agentx_persistence._sql.documents import digest
from agentx_persistence.storage import CONTAINERS, IMAGES, ITEMS, SESSIONS, Kind, Place, Query
from tests.backends.backend import DATABASE_SERVER, Backend
from tests.contract.records import container, image, message, saved_session, session, texts

pytestmark = pytest.mark.needs(DATABASE_SERVER)


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
            unit.execute(text("DELETE FROM agentx_containers"))
            unit.rollback()
        assert persistence.containers.exists("box")
    assert engine.pool.checkedout() == 0
    assert mode() == before


# Listings with the index that each reads.
LISTINGS: list[tuple[Kind, Query, str]] = [
    (CONTAINERS, Query(), "newest_container_id"),
    (IMAGES, Query(), "newest_image_id"),
    (IMAGES, Query({"container_id": "c1"}), "container_id_newest_image_id"),
    (IMAGES, Query({"name": "n1"}), "name_digest_newest_image_id"),
    (
        IMAGES,
        Query({"container_id": "c1", "name": "n1"}),
        "container_id_name_digest_newest_image_id",
    ),
    (SESSIONS, Query(), "newest_session_id"),
    (SESSIONS, Query({"container_id": "c1"}), "container_id_newest_session_id"),
    (SESSIONS, Query({"image_id": "i1"}), "image_id_newest_session_id"),
    (SESSIONS, Query({"container_id": "c1", "image_id": "i1"}), "owners_digest_newest_session_id"),
    (SESSIONS, Query({"container_id": "c1"}, "active"), "container_id_latest_session_id"),
    (ITEMS, Query({"namespace": "c1\x1f"}), "namespace_newest_key"),
]
PLACES = {
    "first page": lambda query: query,
    "next page": lambda query: query._replace(after=_place(query)),
    "since and until": lambda query: query._replace(since=1000, until=3_000_000),
    "oldest": lambda query: query._replace(order="oldest", after=_place(query)),
}


def _place(query: Query) -> Place:
    """Return a place near the end: to read from the start would be another plan."""
    key = "c1\x1f\x1fk1" if "namespace" in query.where else "x"
    return Place(300, key)


@pytest.mark.parametrize("page", PLACES)
def test_a_listing_reads_its_place_in_an_index(
    backend: Backend, server: Any, database: str, page: str
) -> None:
    _fill(server, database)
    with closing(backend.driver().create_storage()) as storage:
        for kind, query, index in LISTINGS:
            if page == "oldest" and query.order == "active":
                continue
            asked = PLACES[page](query)._replace(limit=5)
            sql, values = _statement(storage, kind, asked)
            plan = server.explain(database, sql, values)
            assert f"ix_agentx_{kind}_{index}" in plan, (kind, query, plan)
            for costly in ("Seq Scan", "Sort", "filesort", "temporary"):
                assert costly not in plan, (kind, query, plan)
            if asked.after:
                assert server.READS_A_RANGE.search(plan), (kind, query, plan)


def _statement(storage: Any, kind: Kind, query: Query) -> tuple[str, Any]:
    """Return the statement of a listing, and its values."""
    asked = []
    fetch = storage._database.fetch
    storage._database.fetch = lambda *statement: asked.append(statement) or fetch(*statement)
    storage.find(kind, query)
    del storage._database.fetch
    (statement,) = asked
    return statement  # type: ignore[no-any-return]


def _fill(server: Any, database: str) -> None:
    documents = "created_at, updated_at, revision, body"
    tables = {
        "containers": f"container_id, {documents}",
        "images": f"image_id, container_id, name_digest, {documents}",
        "sessions": "session_id, container_id, image_id, owners_digest, generation, latest, "
        + documents,
        "items": f"namespace, key, {documents}",
    }
    with server.connect(database) as connection, connection.cursor() as cursor:
        for table, columns in tables.items():
            rows = []
            for number in range(4000):
                few = number % 20
                owners = digest(f"c{few}", f"i{few}")
                begin: tuple[object, ...] = {
                    "containers": (f"c{number}",),
                    "images": (f"i{number}", f"c{few}", digest(f"n{few}")),
                    "sessions": (f"s{number}", f"c{few}", f"i{few}", owners, "g", -number),
                    "items": (f"c{few}\x1f", f"k{number}"),
                }[table]
                rows.append((*begin, number, number * 1000, "r", "{}"))
            named = ", ".join(server.quoted(name) for name in columns.split(", "))
            marks = ", ".join(["%s"] * len(rows[0]))
            cursor.executemany(
                f"INSERT INTO agentx_{table} ({named}) VALUES ({marks})",  # noqa: S608
                rows,
            )
    for table in tables:
        server.analyze(database, f"agentx_{table}")


@pytest.mark.parametrize("analysed", [True, False])
def test_no_call_reads_a_whole_session(
    backend: Backend, server: Any, database: str, analysed: bool
) -> None:
    """If most sessions have one message, its id and its position look equally selective."""
    long = [message(id=f"m{number}") for number in range(10_000)]
    with backend.open() as persistence:
        saved_session(persistence)
        if analysed:
            _fill_with_short_sessions(server, database)
        persistence.sessions.add_messages("session", long)
    for reverse in (False, True):
        with _reading_at_most(6000, server, database), backend.open() as persistence:
            sessions = persistence.sessions
            begin = next(sessions.iter_messages("session", reverse=reverse))
            assert begin == long[-1 if reverse else 0]
            after = next(sessions.iter_messages("session", after="m5000", reverse=reverse))
            assert after == long[-1 if reverse else 5001]
    with _reading_at_most(9000, server, database), backend.open() as persistence:
        sessions = persistence.sessions
        for _ in range(6):
            assert sessions.get_messages("session", last=100) == long[-100:]
            assert sessions.get_messages("session", last=20) == long[-20:]
            assert sessions.get_messages("session", first=100) == long[:100]
            assert sessions.get_messages("session", last=50, before="m5000") == long[4950:5000]
            assert sessions.get_messages("session", first=50, after="m5000") == long[5001:5051]
    with _reading_at_most(3000, server, database), backend.open() as persistence:
        for number in range(8):
            fork = session(f"fork {number}")
            assert persistence.sessions.fork("session", fork, through="m49") == 50
    with _reading_at_most(4000, server, database), backend.open() as persistence:
        for start in (600, 3000, 9000):
            again = long[start : start + 300]
            places = list(range(start + 1, start + 301))
            assert persistence.sessions.add_messages("session", again) == places
    with (
        _reading_at_most(4000, server, database),
        closing(backend.driver().create_storage()) as storage,
    ):
        for start in (600, 3000, 9000):
            ids = [f"m{number}" for number in range(start, start + 300)]
            assert len(storage.lookup("session", ids).there) == 300
    if not analysed:
        return  # without statistics PostgreSQL may look for the rows to delete among all ids
    with _reading_at_most(5000, server, database), backend.open() as persistence:
        sessions = persistence.sessions
        # psycopg prepares a statement at its sixth call, and PostgreSQL plans for any values then
        # five calls later.
        for number in range(9999, 9985, -1):
            id, kept = f"m{number}", f"m{number - 1}"
            assert sessions.add_message("session", long[number]) == number + 1
            assert sessions.add_messages("session", long[500:520]) == list(range(501, 521))
            assert sessions.get_message("session", id) == long[number]
            assert sessions.summaries(["session"])["session"].message_count == number + 1
            edited = message("edited", id=id)
            sessions.replace_message("session", edited)
            assert sessions.pop_message("session") == edited
            new = [message(id=f"n{number}")]
            assert sessions.rewrite("session", after=kept, messages=new) == []
            assert sessions.truncate_after("session", kept) == 1
    count = 9986
    with backend.open() as persistence:
        assert persistence.sessions.count_messages("session") == count
    _insert(server, database, [("session", count + 1, "leftover")])
    new = [message(id=f"new {number}") for number in range(299)] + [message(id="leftover")]
    with _reading_at_most(4000, server, database), backend.open() as persistence:
        places = list(range(count + 1, count + 301))
        assert persistence.sessions.add_messages("session", new) == places
        assert persistence.sessions.add_messages("session", new) == places


@contextmanager
def _reading_at_most(number: int, server: Any, database: str) -> Iterator[None]:
    """Fail if more entries of indexes are read inside, or hardly any."""
    before = server.index_entries_read(database)
    yield
    deadline = time.monotonic() + 60
    # PostgreSQL's connections tell what they counted when they end, or after some seconds.
    while (read := server.index_entries_read(database) - before) < 100:
        assert time.monotonic() < deadline, read
        time.sleep(0.05)
    assert read <= number


def _fill_with_short_sessions(server: Any, database: str) -> None:
    _insert(server, database, [(f"s{number}", 1, "m") for number in range(2000)])
    server.analyze(database, "agentx_messages")


def _insert(server: Any, database: str, messages: list[tuple[str, int, str]]) -> None:
    names = "session_id", "position", "message_id", "size", "body"
    columns = ", ".join(map(server.quoted, names))
    with server.connect(database) as connection, connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO agentx_messages ({columns}) VALUES (%s, %s, %s, 2, '{{}}')",  # noqa: S608
            messages,
        )


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
        # Deleting an image locks the image first, then its sessions: the other way round here.
        cursor.execute("UPDATE agentx_sessions SET updated_at = 1 WHERE session_id = 'session'")
        deleted = thread.submit(persistence.images.delete, "image")
        server.wait_until_one_waits(database)
        cursor.execute("SELECT 1 FROM agentx_images WHERE image_id = 'image' FOR UPDATE")
        other.commit()
        assert deleted.result(20)
    assert not persistence.sessions.exists("session")


def test_a_message_of_tens_of_megabytes_comes_back(persistence: Persistence) -> None:
    saved_session(persistence)
    text = 'x"\\\n\U0001f642' * (4 * 2**20)
    persistence.sessions.add_message("session", message(text))
    assert texts(persistence) == [text]
