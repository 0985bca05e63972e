"""What is peculiar to PostgreSQL, and to a pooler in front of it."""

from __future__ import annotations

import io
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, event
from sqlalchemy.exc import DBAPIError

from agentx_persistence import (
    ConfigurationError,
    InvalidRecordError,
    RecordConflictError,
    RecordTooLargeError,
    SchemaError,
    create_persistence,
)
from agentx_persistence.__main__ import main
from agentx_persistence._sql.flavour import Flavour
from agentx_persistence._sql.schema import parse_url
from agentx_persistence.mysql import mysql_driver
from agentx_persistence.postgresql import postgresql_driver
from tests.backends.pgbouncer import pooled
from tests.contract.records import image, message, saved_session, texts
from tests.migrations.test_migrations import open_and_append, starting_at_once
from tests.servers.postgresql import PostgresqlServer


def test_nul_in_text_comes_back_though_a_column_cannot_hold_it(postgresql_backend: Any) -> None:
    with postgresql_backend.open() as persistence:
        strange = image(name="a\x00b", description="\x00", model="m\x00")
        persistence.images.save(strange)
        assert persistence.images.get("image") == strange
        assert persistence.images.find_all(name="a\x00b") == [strange]
        assert persistence.images.find_all(name="ab") == []
        saved_session(persistence)
        persistence.sessions.add_message("session", message("\x00 \\u0000"))
        assert texts(persistence) == ["\x00 \\u0000"]


def test_the_texts_of_many_messages_travel_in_binary(
    postgresql_backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As text psycopg would escape each of them in Python, which takes longer than the insert."""
    with postgresql_backend.open() as persistence:
        saved_session(persistence)
        database = persistence._storage._database
        sent: list[str] = []
        fetch = database.fetch
        monkeypatch.setattr(
            database, "fetch", lambda sql, given: sent.append(sql) or fetch(sql, given)
        )
        persistence.sessions.add_messages("session", [message('"a" \\'), message("{b}")])
        assert ["%b::TEXT[]" in sql for sql in sent] == [True]
        assert texts(persistence) == ['"a" \\', "{b}"]


def test_they_travel_in_binary_in_the_callers_transaction(
    postgresql_backend: Any, postgresql_server: PostgresqlServer
) -> None:
    engine = create_engine(
        parse_url(postgresql_server.url.set(database=postgresql_backend.options["database"]))
    )
    sent: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *seen: sent.append(seen[2]))
    with postgresql_backend.open() as persistence, engine.begin() as connection:
        saved_session(persistence)
        persistence.within(connection).sessions.add_messages("session", [message(), message()])
    assert [sql for sql in sent if "%(body)b::TEXT[]" in sql]
    engine.dispose()


def test_a_row_is_bounded_and_a_batch_is_not(
    postgresql_backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if PostgreSQL's own limit were lower, as a gigabyte takes long to make."""
    monkeypatch.setattr(Flavour, "row_limit", 10_000)
    with postgresql_backend.open() as persistence:
        saved_session(persistence)
        sessions = persistence.sessions
        large = message("x" * 10_000, id="large")
        writes: list[Callable[[], object]] = [
            lambda: sessions.add_message("session", large),
            lambda: sessions.add_messages("session", [message(), large]),
            lambda: sessions.rewrite("session", after=None, messages=[message(), large]),
            lambda: sessions.replace_message("session", large),
            lambda: persistence.images.save(image(description="x" * 10_000)),
        ]
        for write in writes:
            with pytest.raises(RecordTooLargeError) as raised:
                write()
            assert 10_000 < raised.value.size < 11_000
            assert raised.value.limit == 10_000
        batch = [message("é" * 2_000, id=str(number)) for number in range(5)]
        assert sessions.add_messages("session", batch[:3]) == [1, 2, 3]
        assert sessions.add_messages("session", batch) == [1, 2, 3, 4, 5]
        assert sessions.get_messages("session") == batch
        assert sessions.rewrite("session", after="0", messages=batch[:0:-1]) == batch[1:]
        assert sessions.get_messages("session") == [batch[0], *batch[:0:-1]]
        with pytest.raises(RecordConflictError):
            sessions.rewrite("session", after="0", messages=batch)


ADDING: dict[str, Callable[[Any], Any]] = {
    "one": lambda sessions: sessions.add_message("session", message("new")),
    "many": lambda sessions: sessions.add_messages("session", [message("new"), message("more")]),
    "rewrite": lambda sessions: sessions.rewrite(
        "session", after="first", messages=[message("new"), message("more")]
    ),
}


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
@pytest.mark.parametrize("name", ADDING)
def test_no_snapshot_has_new_messages_beside_leftovers_of_a_large_cut(
    postgresql_server: PostgresqlServer, postgresql_backend: Any, name: str, level: str
) -> None:
    url = postgresql_server.url.set(database=postgresql_backend.options["database"])
    engine = create_engine(parse_url(url), isolation_level=level)
    with postgresql_backend.open() as persistence, engine.connect() as connection:
        saved_session(persistence)
        batch = [message("old", id=id) for id in ("first", "second", "third")]
        persistence.sessions.add_messages("session", batch)
        # As a cut of many messages does it: they are deleted afterwards.
        execute = persistence._storage._database.execute
        execute("UPDATE agentx_sessions SET message_count = 1")
        inside = persistence.within(connection)
        assert texts(inside) == ["old"]
        execute("DELETE FROM agentx_messages WHERE position > 1")
        if level == "READ COMMITTED":
            ADDING[name](inside.sessions)
            assert texts(inside)[:2] == ["old", "new"]
        else:
            with pytest.raises(DBAPIError, match="could not serialize"):
                ADDING[name](inside.sessions)
    engine.dispose()


@pytest.mark.parametrize("name", ADDING)
def test_new_messages_replace_leftovers_of_a_large_cut(postgresql_backend: Any, name: str) -> None:
    with postgresql_backend.open() as persistence:
        saved_session(persistence)
        batch = [message("old", id=id) for id in ("first", "second", "third", "fourth")]
        persistence.sessions.add_messages("session", batch)
        persistence._storage._database.execute("UPDATE agentx_sessions SET message_count = 1")
        ADDING[name](persistence.sessions)
        assert texts(persistence)[:2] == ["old", "new"]
        assert persistence.sessions.add_messages("session", batch[1:])[0] == (
            3 if name == "one" else 4
        )


def test_a_client_encoding_that_is_set_elsewhere_does_not_matter(
    postgresql_server: PostgresqlServer,
    postgresql_backend: Any,
    postgresql_database: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    with create_persistence(postgresql_server.driver(postgresql_database)) as persistence:
        saved_session(persistence)
        persistence.sessions.add_message("session", message("\U0001f642 é"))
        assert texts(persistence) == ["\U0001f642 é"]


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_that_cannot_hold_every_character_is_refused(
    postgresql_server: PostgresqlServer, encoding: str
) -> None:
    database = "agentx_narrow"
    postgresql_server.execute(f"DROP DATABASE IF EXISTS {database}")
    properties = f"ENCODING '{encoding}' TEMPLATE template0 LOCALE_PROVIDER libc LOCALE 'C'"
    postgresql_server.execute(f"CREATE DATABASE {database} {properties}")
    with pytest.raises(ConfigurationError, match=f"database must be in UTF8, not in {encoding}"):
        create_persistence(postgresql_server.driver(database, migrate=True))
    postgresql_server.execute(f"DROP DATABASE {database}")


@pytest.fixture
def empty_database(
    pgbouncer_server: PostgresqlServer, postgresql_server: PostgresqlServer
) -> Iterator[str]:
    """A database without tables, which the pooler does not know yet."""
    postgresql_server.recreate("agentx_pooled_start")
    yield "agentx_pooled_start"
    postgresql_server.execute("DROP DATABASE agentx_pooled_start WITH (FORCE)")


def test_ten_processes_start_at_once_behind_a_pooler(
    pgbouncer_server: PostgresqlServer, postgresql_server: PostgresqlServer, empty_database: str
) -> None:
    driver = postgresql_driver(**pooled(pgbouncer_server, empty_database), migrate=True)
    assert sorted(starting_at_once(open_and_append, driver)) == list(range(1, 11))
    locks = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory'"
    assert postgresql_server.execute(locks) == []


def test_connections_of_the_pooler_that_are_ended_are_not_noticed(
    pgbouncer_backend: Any, pgbouncer_database: str, postgresql_server: PostgresqlServer
) -> None:
    with pgbouncer_backend.open() as persistence:
        saved_session(persistence)
        for number in range(1, 20):
            assert postgresql_server.end_connections(pgbouncer_database) > 0
            assert persistence.sessions.add_message("session", message()) == number


@pytest.mark.parametrize("own", [False, True], ids=["pool", "engine"])
def test_a_connection_whose_socket_fails_is_replaced_and_the_call_repeated(
    postgresql_backend: Any,
    postgresql_server: PostgresqlServer,
    monkeypatch: pytest.MonkeyPatch,
    own: bool,
) -> None:
    url = postgresql_server.url.set(database=postgresql_backend.options["database"])
    engine = create_engine(url.set(drivername="postgresql+psycopg"))
    driver = postgresql_server.new_driver(engine=engine, migrate=True)
    with create_persistence(driver) if own else postgresql_backend.open() as persistence:
        saved_session(persistence)
        database: Any = persistence._storage._database  # type: ignore[attr-defined]
        before = database.fetch("SELECT pg_backend_pid()")
        execute, failures = psycopg.Cursor.execute, iter([True])

        def failing_once(*arguments: Any, **options: Any) -> Any:
            answer = execute(*arguments, **options)
            if next(failures, False):  # it is done, and its answer is lost
                raise psycopg.OperationalError("connection socket closed")
            return answer

        monkeypatch.setattr(psycopg.Cursor, "execute", failing_once)
        assert persistence.sessions.add_message("session", message("a")) == 1
        monkeypatch.undo()
        assert texts(persistence) == ["a"]
        assert database.fetch("SELECT pg_backend_pid()") != before
    engine.dispose()


def test_connecting_has_a_limit_even_if_it_is_0() -> None:
    driver = postgresql_driver("postgresql://localhost/agentx", connect_timeout=0)
    assert driver.options["connect_args"]["connect_timeout"] == 1  # psycopg takes 0 for 130


def test_what_does_not_fit_together_is_refused() -> None:
    engine = create_engine("sqlite://")
    wrong: list[dict[str, Any]] = [
        {"url": "mysql://localhost/agentx"},
        {"url": "postgresql+psycopg2://localhost/agentx"},
        {"url": "postgresql://localhost/agentx", "password": "x"},
        {"engine": engine},
        {"engine": engine, "user": "x"},
    ]
    for arguments in wrong:
        with pytest.raises(InvalidRecordError):
            postgresql_driver(**arguments)
    for arguments in ({"url": "postgresql://localhost/agentx"}, {"engine": engine}):
        with pytest.raises(InvalidRecordError):
            mysql_driver(**arguments)


def test_the_tables_can_be_in_a_schema_of_their_own(postgresql_server: PostgresqlServer) -> None:
    database, name = "agentx_schemas", 'a "schema" %s'
    postgresql_server.recreate(database)
    options = {**postgresql_server.options(database), "schema": name}
    with pytest.raises(SchemaError, match="schema="):
        create_persistence(postgresql_server.new_driver(**options))
    with create_persistence(postgresql_server.new_driver(**options, migrate=True)) as persistence:
        saved_session(persistence)
        persistence.sessions.add_messages("session", [message("a"), message("b")])
        assert texts(persistence) == ["a", "b"]
        assert persistence.sessions.clear_messages("session") == 2
        assert [found.session_id for found in persistence.sessions.find_all()] == ["session"]
    listed = "SELECT table_schema FROM information_schema.tables WHERE table_name LIKE 'agentx%%'"
    assert {row[0] for row in postgresql_server.execute(listed, database=database)} == {name}
    url = postgresql_server.url.set(database=database, drivername="postgresql+psycopg")
    engine = create_engine(url)
    driver = postgresql_server.new_driver(engine=engine, schema=name)
    with create_persistence(driver) as persistence:
        assert persistence.sessions.delete("session")
    engine.dispose()
    address = url.update_query_dict({"schema": name}).render_as_string(hide_password=False)
    assert main(["check", address]) == 0
    assert main(["doctor", address]) == 0
    with create_persistence(address) as persistence:
        assert persistence.sessions.find_all() == []
    config = Config(Path(__file__).parents[2] / "alembic.ini", output_buffer=io.StringIO())
    plain = url.render_as_string(hide_password=False)
    config.cmd_opts = Namespace(x=[f"url={plain}", f"schema={name}"])
    command.check(config)
    command.downgrade(config, "base")
    command.upgrade(config, "head")
    assert main(["check", address]) == 0
    assert main(["check", plain]) == 1
    quoted = name.replace('"', '""')
    postgresql_server.execute(f'DROP SCHEMA "{quoted}" CASCADE', database=database)
    command.upgrade(config, "head", sql=True)
    postgresql_server.execute(config.output_buffer.getvalue(), database=database)
    command.check(config)
    assert {row[0] for row in postgresql_server.execute(listed, database=database)} == {name}
    postgresql_server.execute(f"DROP DATABASE {database}")
