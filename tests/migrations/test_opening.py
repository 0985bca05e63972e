"""Opening from many threads, beside Alembic runs of the application, and on several nodes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, event, inspect, pool

from agentx_persistence import BackendUnavailableError, create_persistence
from agentx_persistence._sql import engine, schema
from agentx_persistence._sql.connections import LostConnectionError, PooledConnections
from agentx_persistence.sqlite import sqlite_driver
from agentx_persistence.storage import _retrying
from tests.backends.backend import DATABASE_SERVER, Backend
from tests.contract.records import message, saved_session

DATABASE = "agentx_opening"
THREADS = 32


@pytest.fixture
def server(backend: Backend, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The server, with an empty database."""
    server = request.getfixturevalue(f"{backend.name}_server")
    server.recreate(DATABASE)
    yield server
    server.check_for_leaks(DATABASE)
    server.execute(f"DROP DATABASE {DATABASE}")


def _at_once(open: Callable[[int], int]) -> list[int]:
    """Call `open` in as many threads, which start together."""
    barrier = threading.Barrier(THREADS)

    def start(number: int) -> int:
        barrier.wait(60)
        return open(number)

    with ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(start, range(THREADS)))


def test_threads_open_new_files_at_once(tmp_path: Path) -> None:
    def open(number: int) -> int:
        with create_persistence(sqlite_driver(tmp_path / f"{number}.db")) as persistence:
            saved_session(persistence)
            return persistence.sessions.add_message("session", message())

    assert _at_once(open) == [1] * THREADS
    for number in range(THREADS):
        create_persistence(sqlite_driver(tmp_path / f"{number}.db", migrate=False)).close()


def test_threads_open_one_new_file_at_once(tmp_path: Path) -> None:
    def open(number: int) -> int:
        with create_persistence(sqlite_driver(tmp_path / "one.db")) as persistence:
            saved_session(persistence)
            return persistence.sessions.add_message("session", message())

    assert sorted(_at_once(open)) == list(range(1, THREADS + 1))


@pytest.mark.needs(DATABASE_SERVER)
def test_threads_open_one_new_database_at_once(server: Any) -> None:
    def open(number: int) -> int:
        with create_persistence(server.driver(DATABASE, migrate=True)) as persistence:
            saved_session(persistence)
            return persistence.sessions.add_message("session", message())

    assert sorted(_at_once(open)) == list(range(1, THREADS + 1))


@pytest.mark.needs(DATABASE_SERVER)
def test_many_that_open_at_once_wait_for_few_connections(server: Any, backend: Backend) -> None:
    create_persistence(server.driver(DATABASE, migrate=True)).close()
    server.create_application("few", "few", DATABASE)
    limit = {"postgresql": "ALTER ROLE few CONNECTION LIMIT 3"}
    server.execute(limit.get(backend.name, "ALTER USER few WITH MAX_USER_CONNECTIONS 3"))
    options = {"user": "few", "password": "few", "pool_size": 1, "max_overflow": 0}

    def open(number: int) -> int:
        with create_persistence(server.driver(DATABASE, **options)) as persistence:
            persistence.ping()
            time.sleep(0.1)
        return number

    started = time.monotonic()
    assert _at_once(open) == list(range(THREADS))
    assert time.monotonic() - started > 0.9  # at most three at a time


@pytest.mark.parametrize(("seconds", "attempts"), [(0.2, 2), (1.0, 1)])
@pytest.mark.needs(DATABASE_SERVER)
def test_a_server_that_is_silent_is_tried_again_unless_that_took_long(
    server: Any, monkeypatch: pytest.MonkeyPatch, seconds: float, attempts: int
) -> None:
    monkeypatch.setattr(engine, "_OPENING", 0.1)
    monkeypatch.setattr(engine, "_CONNECTING", 0.3)
    tried: list[int] = []

    def silent(self: object, work: object) -> None:
        tried.append(len(tried))
        time.sleep(seconds)
        raise LostConnectionError

    monkeypatch.setattr(PooledConnections, "write", silent)
    with pytest.raises(BackendUnavailableError):
        create_persistence(server.driver(DATABASE))
    assert len(tried) == attempts


@pytest.mark.parametrize("silence", [0.5, 1.5])
@pytest.mark.needs(DATABASE_SERVER)
def test_a_server_that_is_starting_is_waited_for_until_it_is_silent_for_some_time(
    server: Any, backend: Backend, monkeypatch: pytest.MonkeyPatch, silence: float
) -> None:
    monkeypatch.setattr(engine, "_OPENING", 1.0)
    monkeypatch.setattr(_retrying, "_LONGEST_PAUSE", 0.1)
    write = PooledConnections.write
    started = time.monotonic()

    def starting(self: PooledConnections, work: Any) -> Any:
        passed = time.monotonic() - started
        if passed < 1.5:  # longer than a server is waited for that does not answer
            texts = {"postgresql": ["the database system is starting up"]}
            arguments = texts.get(backend.name, [1040, "Too many connections"])
            raise LostConnectionError from self._dbapi.OperationalError(*arguments)
        if passed < 1.5 + silence:
            raise LostConnectionError
        return write(self, work)

    monkeypatch.setattr(PooledConnections, "write", starting)
    if silence < 1:
        create_persistence(server.driver(DATABASE, migrate=True, opening_timeout=9)).close()
        return
    with pytest.raises(BackendUnavailableError):
        create_persistence(server.driver(DATABASE, opening_timeout=9))
    assert 2 < time.monotonic() - started < 4


def test_nodes_that_migrate_at_the_same_moment_do_not_disturb_each_other(
    mariadb_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Galera, a lock by name holds for one node only, and so for none of these threads."""
    monkeypatch.setattr(schema, "_lock", lambda connection, seconds: None)
    overtaken: set[int] = set()

    engine = schema.migrating_engine(schema.parse_url(mariadb_server.url.set(database=DATABASE)))

    @event.listens_for(engine, "handle_error")
    def see(context: Any) -> None:
        overtaken.add(context.original_exception.args[0])

    for _ in range(5):
        mariadb_server.recreate(DATABASE)
        assert _at_once(lambda number: schema.upgrade(engine) or number) == list(range(THREADS))
        assert schema.revision(engine) == schema.HEAD
        create_persistence(mariadb_server.driver(DATABASE)).close()
        if overtaken & schema._OVERTAKEN:
            break
    assert overtaken & schema._OVERTAKEN
    mariadb_server.execute(f"DROP DATABASE {DATABASE}")


_ENV = """
from alembic import context
from sqlalchemy import create_engine, pool

engine = create_engine(context.config.get_main_option("sqlalchemy.url"), poolclass=pool.NullPool)
with engine.connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""
_MIGRATION = """
import sqlalchemy as sa
from alembic import context, op
from agentx_persistence import SessionRecord, UserMessage, create_persistence

revision, down_revision = "0001", None

def upgrade():
    op.create_table("before", sa.Column("id", sa.Integer()))
    with create_persistence(context.config.attributes["driver"]) as persistence:
        session = SessionRecord(session_id="s")
        persistence.sessions.add_message("s", UserMessage(content="hi"), create=session)
    op.create_table("after", sa.Column("id", sa.Integer()))
    assert context.get_context() is op.get_context()

def downgrade():
    pass
"""


def _migrate(folder: Path, url: str, driver: Any) -> None:
    (folder / "versions").mkdir(parents=True)
    (folder / "env.py").write_text(_ENV)
    (folder / "versions" / "0001.py").write_text(_MIGRATION)
    config = Config()
    config.set_main_option("script_location", str(folder))
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    config.attributes["driver"] = driver
    command.upgrade(config, "head")
    engine = create_engine(url, poolclass=pool.NullPool)
    assert {"before", "after", "alembic_version"} <= set(inspect(engine).get_table_names())
    engine.dispose()
    with create_persistence(driver) as persistence:
        assert persistence.sessions.count_messages("s") == 1


def test_a_new_file_can_be_opened_inside_a_migration_of_the_application(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'application.db'}"
    _migrate(tmp_path / "history", url, sqlite_driver(tmp_path / "agentx.db"))


@pytest.mark.needs(DATABASE_SERVER)
def test_a_new_database_can_be_opened_inside_a_migration_of_the_application(
    server: Any, tmp_path: Path
) -> None:
    url = schema.parse_url(server.url.set(database=DATABASE))
    driver = server.driver(DATABASE, migrate=True)
    _migrate(tmp_path / "history", url.render_as_string(hide_password=False), driver)
