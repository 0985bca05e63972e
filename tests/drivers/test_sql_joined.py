"""Calls in the caller's transaction, beside transactions of others that lock or hide rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, exc
from sqlalchemy.engine import Compiled

from agentx_persistence import ItemRecord, Persistence, RecordConflictError
from agentx_persistence._sql import schema
from agentx_persistence.transfer import prune
from tests.backends.backend import DATABASE_SERVER, Backend
from tests.contract.records import container, image, message, saved_session, session, texts
from tests.servers.mysql import set_snapshot_isolation

pytestmark = pytest.mark.needs(DATABASE_SERVER)

ITEM = ItemRecord(namespace=("box",), key="new", value=1)
CREATING: dict[str, tuple[str, Callable[[Persistence], object]]] = {
    "container": ("container", lambda p: p.containers.create(container("new"))),
    "image": ("image", lambda p: p.images.create(image("new"))),
    "session": ("session", lambda p: p.sessions.create(session("new"))),
    "item": ("item", lambda p: p.items.create(ITEM)),
    "fork": ("session", lambda p: p.sessions.fork("session", session("new"))),
    "add": ("session", lambda p: p.sessions.add_message("new", message(), create=session("new"))),
}

_KEYS = " UNION ALL ".join(
    f"SELECT '{table}', {key} FROM agentx_{table}"  # noqa: S608
    for table, key in (
        ("containers", "container_id"),
        ("images", "image_id"),
        ("sessions", "session_id"),
        ("items", "namespace"),
        ("messages", "session_id"),
    )
)


@pytest.fixture
def engine(backend: Backend, server: Any) -> Iterator[Engine]:
    engine = create_engine(schema.parse_url(server.url.set(database=backend.options["database"])))
    if backend.name == "mariadb":
        set_snapshot_isolation(engine, "OFF")
    yield engine
    engine.dispose()


def test_the_statements_of_transactions_are_compiled_once(
    persistence: Persistence, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[str] = []
    compile = Compiled.__init__

    def count(self: Compiled, *arguments: Any, **options: Any) -> None:
        compile(self, *arguments, **options)
        compiled.extend([str(self)] if "agentx" in str(self) else [])

    saved_session(persistence)
    monkeypatch.setattr(Compiled, "__init__", count)
    for text in ("first", "second"):
        with engine.begin() as connection:
            compiled.clear()
            persistence.within(connection).sessions.add_message("session", message(text))
    assert compiled == []
    assert texts(persistence) == ["first", "second"]


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ"])
@pytest.mark.parametrize("name", CREATING)
def test_what_others_created_meanwhile_is_a_conflict(
    persistence: Persistence, engine: Engine, backend: Backend, name: str, level: str
) -> None:
    saved_session(persistence)
    kind, create = CREATING[name]
    statements: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *seen: statements.append(seen[2]))
    with engine.connect().execution_options(isolation_level=level) as connection:
        inside = persistence.within(connection)
        assert texts(inside) == []  # the snapshot begins
        create(persistence)
        statements.clear()
        if name == "add" and (level == "READ COMMITTED" or backend.name != "postgresql"):
            assert create(inside) == 2
        else:
            with pytest.raises(RecordConflictError) as raised:
                create(inside)
            assert (raised.value.kind, raised.value.id[-3:]) == (kind, "new")
        assert len(statements) < 30
        assert texts(inside) == []  # the transaction is still usable
        connection.commit()


SAVING: dict[str, Callable[[Persistence], object]] = {
    "save a container": lambda p: p.containers.save(container("new")),
    "save an image": lambda p: p.images.save(image("new")),
    "save a session": lambda p: p.sessions.save(session("new")),
    "save an item": lambda p: p.items.save(ITEM),
    **{name: create for name, (_, create) in CREATING.items()},
}


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ"])
@pytest.mark.parametrize("name", SAVING)
def test_what_others_deleted_meanwhile_is_not_there_twice(
    persistence: Persistence, engine: Engine, backend: Backend, name: str, level: str
) -> None:
    saved_session(persistence)
    for part in ("container", "image", "item", "session"):
        CREATING[part][1](persistence)
    with engine.connect().execution_options(isolation_level=level) as connection:
        inside = persistence.within(connection)
        assert texts(inside) == []  # the snapshot begins
        for record in (persistence.containers, persistence.images, persistence.sessions):
            assert record.delete("new")
        assert persistence.items.delete(("box",), "new")
        if level == "REPEATABLE READ" and backend.name == "postgresql":
            with pytest.raises(exc.DBAPIError, match="could not serialize"):
                SAVING[name](inside)
        else:
            SAVING[name](inside)
            keys = connection.exec_driver_sql(_KEYS).fetchall()
            assert len(keys) == len({*keys})
            connection.commit()


@pytest.mark.parametrize("name", CREATING)
@pytest.mark.parametrize("deleted", [False, True])
def test_what_others_changed_meanwhile_is_refused_where_mariadb_sees_to_it(
    mariadb_backend: Backend, mariadb_server: Any, name: str, deleted: bool
) -> None:
    create = CREATING[name][1]
    url = schema.parse_url(mariadb_server.url.set(database=mariadb_backend.options["database"]))
    engine = create_engine(url, isolation_level="REPEATABLE READ")
    set_snapshot_isolation(engine, "ON")
    with mariadb_backend.open() as store, engine.connect() as connection:
        saved_session(store)
        if deleted:
            create(store)
        inside = store.within(connection)
        assert texts(inside) == []  # the snapshot begins
        if deleted:
            for record in (store.containers, store.images, store.sessions):
                record.delete("new")
            store.items.delete(("box",), "new")
        else:
            create(store)
        with pytest.raises(exc.OperationalError, match=r"1020.*changed since last read"):
            create(inside)
        connection.rollback()
        with suppress(RecordConflictError):
            create(inside)
        connection.commit()
    engine.dispose()


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ"])
def test_a_session_that_others_have_added_to_is_not_pruned(
    persistence: Persistence, engine: Engine, backend: Backend, level: str
) -> None:
    for id in "ab":
        persistence.sessions.add_message(id, message(), create=session(id))
        persistence.sessions.save(session(id, updated_at=1))
    with engine.connect().execution_options(isolation_level=level) as connection:
        inside = persistence.within(connection)
        assert inside.sessions.get("a").updated_at == 1  # the snapshot begins
        persistence.sessions.add_message("a", message())
        if level == "REPEATABLE READ" and backend.name == "postgresql":
            with pytest.raises(exc.DBAPIError, match="could not serialize"):
                list(prune(inside, before=1000))
            return
        assert [found.session_id for found in prune(inside, before=1000)] == ["b"]
        assert persistence.sessions.exists("b")
        connection.commit()
    assert not persistence.sessions.exists("b")
    assert persistence.sessions.count_messages("a") == 2


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ"])
def test_a_deadlock_is_the_error_of_the_client_library(
    persistence: Persistence, engine: Engine, level: str
) -> None:
    for id in "ab":
        saved_session(persistence, id)

    def add_to_both(first: str, second: str) -> str:
        with engine.connect().execution_options(isolation_level=level) as connection:
            sessions = persistence.within(connection).sessions
            sessions.add_message(first, message())
            both_started.wait()
            try:
                sessions.add_message(second, message())
            except exc.DBAPIError as error:
                connection.rollback()
                assert sessions.count_messages(first) in (0, 1)
                return str(error.orig)
            connection.commit()
            return ""

    both_started = Barrier(2, timeout=30)
    with ThreadPoolExecutor() as pool:
        errors = sorted(pool.map(add_to_both, "ab", "ba"))
    assert errors[0] == ""
    assert "deadlock" in errors[1].lower()
    assert [len(texts(persistence, id)) for id in "ab"] == [1, 1]
