from __future__ import annotations

import re
import sqlite3
import sqlite3.dbapi2
import sys
import time
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import create_engine, event, orm, text

from agentx_persistence import (
    BackendUnavailableError,
    ConfigurationError,
    CorruptRecordError,
    Persistence,
    RecordConflictError,
    RecordNotFoundError,
    SchemaError,
    create_persistence,
)
from agentx_persistence._sql import schema
from agentx_persistence.cli.app import run
from agentx_persistence.sqlite import sqlite_driver
from tests.contract.records import image, message, saved_session, texts


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agentx.db"


def _database(persistence: Any) -> Any:
    return persistence._storage._database


def _pragma(persistence: Persistence, name: str) -> Any:
    return _database(persistence).fetch(f"PRAGMA {name}")[0][0]


def test_a_memory_database_works_on_one_shared_connection() -> None:
    with create_persistence(sqlite_driver(":memory:")) as persistence:
        saved_session(persistence)
        persistence.sessions.add_message("session", message("hello"))
        assert texts(persistence) == ["hello"]
    with create_persistence(sqlite_driver(":memory:")) as another:
        assert not another.sessions.exists("session")


def test_an_interruption_undoes_what_was_begun_and_keeps_the_database() -> None:
    with create_persistence(sqlite_driver(":memory:")) as persistence:
        saved_session(persistence)
        persistence.sessions.add_message("session", message("kept"))

        def interrupted(cursor: Any) -> None:
            cursor.execute("DELETE FROM agentx_messages")
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            _database(persistence).write(interrupted)
        assert texts(persistence) == ["kept"]
        assert persistence.sessions.add_message("session", message("next")) == 2


@pytest.mark.parametrize(("level", "number"), [("FULL", 2), ("NORMAL", 1), ("EXTRA", 3)])
def test_what_was_asked_of_sqlite_is_so(path: Path, level: Any, number: int) -> None:
    with create_persistence(sqlite_driver(path, synchronous=level)) as persistence:
        assert _pragma(persistence, "synchronous") == number
        assert _pragma(persistence, "journal_mode") == "wal"
        assert _pragma(persistence, "foreign_keys") == 1


def test_it_is_durable_by_default(path: Path) -> None:
    with create_persistence(sqlite_driver(path)) as persistence:
        assert _pragma(persistence, "synchronous") == 2


def test_opening_a_current_file_costs_one_query(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_persistence(sqlite_driver(path)).close()
    statements: list[str] = []
    connect = sqlite3.connect

    def traced(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)
        connection.set_trace_callback(statements.append)
        return connection

    monkeypatch.setattr(sqlite3, "connect", traced)
    create_persistence(sqlite_driver(path)).close()
    asked = [statement for statement in statements if not statement.startswith("PRAGMA")]
    assert asked == ["SELECT * FROM agentx_alembic_version"]


def test_what_is_no_database_is_an_error_at_once(tmp_path: Path) -> None:
    folder_in_the_way = tmp_path / "folder"
    folder_in_the_way.mkdir()
    with pytest.raises(ConfigurationError, match="folder"):
        create_persistence(sqlite_driver(folder_in_the_way))
    file = tmp_path / "file"
    file.write_bytes(b"this is no database, but it is long enough to be taken for one" * 99)
    with pytest.raises(ConfigurationError, match="not a database"):
        create_persistence(sqlite_driver(file))
    assert file.read_bytes().startswith(b"this is no database")
    with pytest.raises(ConfigurationError):
        create_persistence(sqlite_driver(file / "below.db"))


def test_a_table_of_somebody_else_is_left_as_it_is(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE agentx_images (somebody TEXT)")
    with pytest.raises(SchemaError, match="agentx_images"):
        create_persistence(sqlite_driver(path))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table'"
        ).fetchall() == [("agentx_images",)]


def test_a_lock_that_is_held_too_long_is_an_error_after_one_wait(
    path: Path,
) -> None:
    with create_persistence(sqlite_driver(path, timeout=2.5)) as persistence:
        saved_session(persistence)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            started = time.monotonic()
            with pytest.raises(BackendUnavailableError, match="locked"):
                persistence.sessions.add_message("session", message())
            assert time.monotonic() - started < 2 * 2.5
        assert persistence.sessions.add_message("session", message()) == 1


def test_deleting_leaves_not_one_row(path: Path) -> None:
    with create_persistence(sqlite_driver(path)) as persistence:
        persistence.images.save(image("image"))
        saved_session(persistence)
        persistence.sessions.add_messages("session", [message(), message()])
        persistence.containers.delete("box")
    with closing(sqlite3.connect(path)) as connection:
        for table in ("containers", "images", "sessions", "messages", "items"):
            assert connection.execute(f"SELECT count(*) FROM agentx_{table}").fetchone() == (0,)  # noqa: S608


def test_every_listing_is_read_from_an_index_in_order(path: Path) -> None:
    with create_persistence(sqlite_driver(path)) as persistence:
        saved_session(persistence)
        for number in range(3):
            persistence.images.save(image(f"i{number}", created_at=number))
        images, sessions = persistence.images, persistence.sessions
        cursor = images.find_page(size=1).next_cursor
        for filters in ({}, {"container_id": "box"}, {"name": "plan"}):
            images.find_page(**filters)
            images.find_page(**filters, cursor=cursor)
            images.find_all(**filters, limit=3)
        images.find_page(container_id="box", name="plan", cursor=cursor)
        sessions.find_page(container_id="box", cursor=cursor)
        sessions.find_page(image_id="image", cursor=cursor)
        persistence.containers.find_page(cursor=cursor)
        persistence.containers.find_all()
        first = message()
        sessions.add_message("session", first)
        sessions.get_messages("session", last=5)
        sessions.get_messages("session", first=5, after=first.id)
        list(sessions.iter_messages("session"))
        statements = [
            statement.sql
            for statement in _database(persistence)._statements.values()
            if statement.sql.startswith("SELECT")
        ]
    assert len(statements) > 15
    with closing(sqlite3.connect(path)) as connection:
        for sql in statements:
            plan = connection.execute(f"EXPLAIN QUERY PLAN {sql}", [0] * sql.count("?")).fetchall()
            for *_, step in plan:
                assert "TEMP B-TREE" not in step, (sql, step)
                if step.startswith(("SCAN agentx_", "SEARCH agentx_")):
                    assert "USING INDEX" in step or "USING COVERING INDEX" in step, (sql, step)


def test_a_damaged_image_is_named_from_within_a_transaction_that_has_the_only_connection() -> None:
    with create_persistence(sqlite_driver(":memory:")) as persistence:
        persistence.images.save(image("i"))
        _database(persistence).execute("UPDATE agentx_images SET body = '{'", ())
        with pytest.raises(CorruptRecordError, match="'i'"):
            persistence.images.update_metadata("i", {"a": 1})


@pytest.mark.parametrize("end", ["commit", "rollback"])
@pytest.mark.parametrize("begun", [False, True], ids=["first statement", "later statement"])
@pytest.mark.parametrize("kind", ["connection", "session"])
def test_a_row_and_a_message_are_kept_or_undone_together(
    path: Path, kind: str, begun: bool, end: str
) -> None:
    engine = create_engine(f"sqlite:///{path}")
    with create_persistence(sqlite_driver(path)) as persistence:
        saved_session(persistence)
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE orders (id INTEGER PRIMARY KEY)"))
        transaction: Any = engine.connect() if kind == "connection" else orm.Session(engine)
        with transaction:
            if begun:
                transaction.execute(text("INSERT INTO orders VALUES (1)"))
            inside = persistence.within(transaction)
            assert inside.sessions.add_message("session", message("a", id="m1")) == 1
            with pytest.raises(RecordConflictError):
                inside.sessions.add_message("session", message("b", id="m1"))
            with pytest.raises(RecordNotFoundError):
                inside.sessions.add_message("absent", message())
            transaction.execute(text("INSERT INTO orders VALUES (2)"))
            assert texts(persistence) == []
            getattr(transaction, end)()
        assert texts(persistence) == (["a"] if end == "commit" else [])
        with engine.connect() as connection:
            orders = connection.scalars(text("SELECT id FROM orders ORDER BY id")).all()
        assert orders == (([1, 2] if begun else [2]) if end == "commit" else [])
    engine.dispose()


# The module `sqlite3` has `autocommit=` from Python 3.12 on.
_WAYS = ["engine", "connection", *(["module"] if sys.version_info >= (3, 12) else [])]


@pytest.mark.parametrize("way", _WAYS)
def test_a_connection_that_commits_each_statement_is_refused(path: Path, way: str) -> None:
    options: dict[str, dict[str, Any]] = {
        "engine": {"isolation_level": "AUTOCOMMIT"},
        "module": {"connect_args": {"autocommit": True}},
    }
    engine = create_engine(f"sqlite:///{path}", **options.get(way, {}))
    with create_persistence(sqlite_driver(path)) as persistence, engine.connect() as connection:
        saved_session(persistence)
        if way == "connection":
            connection.execution_options(isolation_level="AUTOCOMMIT")
        inside = persistence.within(connection)
        with pytest.raises(ConfigurationError, match="AUTOCOMMIT"):
            inside.sessions.add_message("session", message())
    engine.dispose()


@pytest.mark.parametrize("begin", ["BEGIN", "BEGIN IMMEDIATE"])
@pytest.mark.parametrize("kind", ["connection", "session"])
@pytest.mark.parametrize("begun", [False, True], ids=["first statement", "later statement"])
def test_a_transaction_that_listeners_begin_can_be_joined(
    path: Path, kind: str, begun: bool, begin: str
) -> None:
    engine = create_engine(f"sqlite:///{path}")
    event.listen(engine, "connect", lambda new, _: setattr(new, "isolation_level", None))
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    with create_persistence(sqlite_driver(path)) as persistence:
        saved_session(persistence)
        for end, kept in (("rollback", []), ("commit", ["a"])):
            transaction: Any = engine.connect() if kind == "connection" else orm.Session(engine)
            with transaction:
                if begun:
                    transaction.execute(text("SELECT 1"))
                inside = persistence.within(transaction).sessions
                assert inside.add_message("session", message("a")) == 1
                getattr(transaction, end)()
            assert texts(persistence) == kept
    engine.dispose()


def test_a_raw_connection_is_refused(path: Path) -> None:
    engine = create_engine(f"sqlite:///{path}")
    with create_persistence(sqlite_driver(path)) as persistence:
        raw = engine.raw_connection()
        with pytest.raises(ConfigurationError, match="give an open sqlalchemy Connection"):
            persistence.within(raw)
        raw.close()
    engine.dispose()


@pytest.fixture
def old_sqlite(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make Python's own SQLite one that is too old, and that nothing may connect with."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    monkeypatch.setattr(sqlite3, "sqlite_version", "3.34.1")
    for module in (sqlite3, sqlite3.dbapi2):  # SQLAlchemy takes the second one by itself
        monkeypatch.setattr(module, "connect", None)


def test_all_connections_are_of_pysqlite3_if_pythons_own_sqlite_is_too_old(
    path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    newer = ModuleType("pysqlite3")
    newer.__dict__.update({**vars(sqlite3), "__name__": "pysqlite3"})
    monkeypatch.setitem(sys.modules, "pysqlite3", newer)
    request.getfixturevalue("old_sqlite")
    with create_persistence(sqlite_driver(path)) as persistence:
        saved_session(persistence)
    for command in ("check", "upgrade", "doctor"):
        assert run([command, f"sqlite:///{path}"]) == 0


@pytest.mark.parametrize("version", [None, "3.34.0"])
@pytest.mark.usefixtures("old_sqlite")
def test_a_sqlite_that_is_too_old_is_told_with_what_to_install(
    path: Path, version: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    other: Any = version and ModuleType("pysqlite3")
    if version:
        other.sqlite_version, other.sqlite_version_info = version, (3, 34, 0)
    monkeypatch.setitem(sys.modules, "pysqlite3", other)
    found = "sqlite3 has 3.34.1" + (", pysqlite3 has 3.34.0" if version else "")
    words = f"SQLite 3.35 or newer is needed, and {found}; run: pip install --upgrade pysqlite3"
    with pytest.raises(ConfigurationError, match=re.escape(words)):
        create_persistence(sqlite_driver(path))
    monkeypatch.setitem(sys.modules, "sqlite3", None)
    monkeypatch.setitem(sys.modules, "pysqlite3", None)
    with pytest.raises(ConfigurationError, match="and Python has none; run: pip install"):
        create_persistence(sqlite_driver(path))


def test_a_place_that_cannot_be_looked_at_has_no_unknown_revision(tmp_path: Path) -> None:
    engine = schema.migrating_engine(schema.parse_url(f"sqlite:///{tmp_path}/{'a' * 300}"))
    with pytest.raises(ConfigurationError, match="aaa: File name too long"):
        schema.revision(engine)
    for nothing in ("absent", "absent/file"):
        engine = schema.migrating_engine(schema.parse_url(f"sqlite:///{tmp_path}/{nothing}"))
        assert schema.revision(engine) is None
