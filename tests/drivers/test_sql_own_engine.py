"""The application's own engine, whose events see every statement, and its transactions."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, orm, pool, text

from agentx_persistence import (
    ConfigurationError,
    InvalidRecordError,
    Persistence,
    RecordConflictError,
    RecordNotFoundError,
    create_persistence,
)
from agentx_persistence._sql import schema
from tests.backends.backend import DATABASE_SERVER, Backend
from tests.contract.records import container, message, saved_session, session, texts
from tests.servers.postgresql import PostgresqlServer

pytestmark = pytest.mark.needs(DATABASE_SERVER)


@pytest.fixture
def url(backend: Backend, server: Any) -> Any:
    return schema.parse_url(server.url.set(database=backend.options["database"]))


@pytest.fixture
def engine(url: Any) -> Iterator[Engine]:
    engine = create_engine(url)
    yield engine
    engine.dispose()


def _use(persistence: Persistence) -> None:
    persistence.containers.save(container())
    saved_session(persistence)
    assert persistence.sessions.add_message("session", message("a")) == 1
    assert persistence.sessions.add_messages("session", [message("b"), message("c")]) == [2, 3]
    assert texts(persistence) == ["a", "b", "c"]
    assert persistence.sessions.clear_messages("session") == 3
    assert persistence.containers.delete("box")
    with pytest.raises(RecordNotFoundError):
        persistence.sessions.add_message("session", message())


def test_every_statement_is_seen_by_the_events_of_the_engine(server: Any, url: Any) -> None:
    engine = create_engine(url)
    seen: list[str] = []

    @event.listens_for(engine, "before_cursor_execute")
    def see(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        seen.append(statement.split()[0])

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        seen.append("begin")

    with create_persistence(server.new_driver(engine=engine)) as persistence:
        saved_session(persistence)
        for call, words in (
            (lambda: persistence.sessions.get_messages("session"), {"begin", "SELECT"}),
            (lambda: persistence.sessions.delete("session"), {"begin", "DELETE"}),
        ):
            seen.clear()
            call()
            assert words <= set(seen)
            assert seen[0] == "begin"
    engine.dispose()


def test_what_begin_sets_for_the_transaction_holds_for_every_statement(
    postgresql_server: PostgresqlServer, postgresql_backend: Backend
) -> None:
    server = postgresql_server
    url = server.url.set(
        drivername="postgresql+psycopg", database=postgresql_backend.options["database"]
    )
    engine = create_engine(url)

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("SET LOCAL application_name = 'tenant-7'")

    names: list[str] = []

    @event.listens_for(engine, "after_cursor_execute")
    def after(connection: Any, cursor: Any, *rest: Any) -> None:
        names.append(
            connection.connection.driver_connection.info.parameter_status("application_name")
        )

    with create_persistence(server.new_driver(engine=engine)) as persistence:
        names.clear()
        _use(persistence)
    assert set(names) == {"tenant-7"}
    engine.dispose()


_ENGINES: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "serializable": {"isolation_level": "SERIALIZABLE"},
    "repeatable read": {"isolation_level": "REPEATABLE READ"},
    "autocommit": {"isolation_level": "AUTOCOMMIT"},
    "no pool": {"poolclass": pool.NullPool},
    "assertion pool": {"poolclass": pool.AssertionPool},
    "another paramstyle": {"paramstyle": "format"},
    "named parameters": {"paramstyle": "pyformat"},
}


@pytest.mark.parametrize("options", _ENGINES.values(), ids=_ENGINES)
def test_an_engine_of_any_kind_works(server: Any, url: Any, options: dict[str, Any]) -> None:
    engine = create_engine(url, **options)
    with create_persistence(server.new_driver(engine=engine)) as persistence:
        _use(persistence)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT 1")) == 1
    engine.dispose()


def test_an_engine_that_cannot_be_used_is_refused(server: Any, url: Any, engine: Engine) -> None:
    for options in (
        {"poolclass": pool.StaticPool},
        {"execution_options": {"schema_translate_map": {None: "other"}}},
    ):
        other = create_engine(url, **options)
        with pytest.raises(ConfigurationError):
            create_persistence(server.new_driver(engine=other))
        other.dispose()
    with engine.connect() as connection, pytest.raises(InvalidRecordError, match="Engine"):
        server.new_driver(engine=connection)


# SQLAlchemy leaves the connection open on which its own first questions fail.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_connection_that_cannot_carry_every_character_is_refused(server: Any, url: Any) -> None:
    wrong = (
        [{"client_encoding": "latin1"}, {"client_encoding": "sql_ascii"}]
        if "postgresql" in url.drivername
        else [{"charset": "utf8"}, {"charset": "latin1"}]
    )
    for arguments in wrong:
        engine = create_engine(url, connect_args=arguments)
        with pytest.raises(ConfigurationError, match=r"UTF8|utf8mb4|client_encoding"):
            create_persistence(server.new_driver(engine=engine))
        engine.dispose()
    gc.collect()


def _orders(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS orders"))
        connection.execute(text("CREATE TABLE orders (id INTEGER PRIMARY KEY)"))


@pytest.mark.parametrize("kind", ["connection", "session"])
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_row_and_a_message_are_kept_or_undone_together(
    persistence: Persistence, engine: Engine, kind: str, end: str
) -> None:
    _orders(engine)
    saved_session(persistence)
    persistence.sessions.add_message("session", message("before", id="m1"))
    transaction: Any = engine.connect() if kind == "connection" else orm.Session(engine)
    with transaction:
        transaction.execute(text("INSERT INTO orders VALUES (1)"))
        inside = persistence.within(transaction)
        assert inside.sessions.add_message("session", message("joint")) == 2
        with pytest.raises(RecordConflictError):
            inside.sessions.add_message("session", message("other", id="m1"))
        with pytest.raises(RecordNotFoundError):
            inside.sessions.add_message("absent", message())
        with pytest.raises(RecordConflictError):
            inside.sessions.create(session())
        inside.close()
        transaction.execute(text("INSERT INTO orders VALUES (2)"))
        assert texts(inside) == ["before", "joint"]
        assert texts(persistence) == ["before"]
        getattr(transaction, end)()
    with engine.connect() as connection:
        orders = connection.scalars(text("SELECT id FROM orders ORDER BY id")).all()
    kept = end == "commit"
    assert (orders, texts(persistence)) == (
        [1, 2] if kept else [],
        ["before", "joint"] if kept else ["before"],
    )
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE orders"))


def test_messages_that_are_there_already_keep_their_places_inside_a_transaction(
    persistence: Persistence, engine: Engine
) -> None:
    saved_session(persistence)
    first, second = message("first"), message("second")
    persistence.sessions.add_message("session", first)
    with engine.connect() as connection:
        inside = persistence.within(connection)
        assert inside.sessions.add_messages("session", [second, first]) == [2, 1]
        connection.commit()
    assert texts(persistence) == ["first", "second"]


def test_a_connection_that_commits_each_statement_is_refused(
    persistence: Persistence, engine: Engine
) -> None:
    saved_session(persistence)
    with engine.connect() as connection:
        inside = persistence.within(connection.execution_options(isolation_level="AUTOCOMMIT"))
        with pytest.raises(ConfigurationError, match="AUTOCOMMIT"):
            inside.sessions.add_message("session", message())
    assert texts(persistence) == []


def test_nothing_of_the_callers_transaction_is_ended_repeated_or_set(
    persistence: Persistence, engine: Engine
) -> None:
    saved_session(persistence)
    seen: list[str] = []

    @event.listens_for(engine, "before_cursor_execute")
    def see(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        seen.append(statement)

    for ending in ("commit", "rollback"):
        event.listen(engine, ending, lambda connection: seen.append("ended"))
    with engine.connect().execution_options(isolation_level="SERIALIZABLE") as connection:
        level = connection.get_isolation_level()
        inside = persistence.within(connection)
        inside.sessions.add_messages("session", [message("a"), message("b")])
        inside.sessions.save(session())
        inside.sessions.rewrite("session", after=None, messages=[message("c")])
        with pytest.raises(RecordNotFoundError):
            inside.sessions.add_message("absent", message())
        inside.sessions.delete("session")
        inside.close()
        assert connection.get_isolation_level() == level
        assert connection.in_transaction()
        assert not [text for text in seen if text.split()[0] in ("ended", "COMMIT", "SET", "BEGIN")]
        connection.rollback()
    assert texts(persistence) == []
