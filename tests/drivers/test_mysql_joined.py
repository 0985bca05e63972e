"""Calls in the caller's transaction on MySQL and MariaDB, beside changes of others.

In REPEATABLE READ such a transaction sees its own changes together with a snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, exc

from agentx_persistence import (
    CorruptRecordError,
    ItemRecord,
    Persistence,
    RecordConflictError,
    RecordNotFoundError,
)
from agentx_persistence._sql import deletion, owned, schema
from agentx_persistence.repositories.sessions import SessionRepository
from tests.backends.backend import Backend
from tests.contract.records import container, image, message, saved_session, session, texts
from tests.servers.mysql import set_snapshot_isolation

ONE, TWO, THREE = (message(id, id=id) for id in ("one", "two", "three"))
LEVELS = ["READ COMMITTED", "REPEATABLE READ"]

Call = Callable[[SessionRepository], Any]


def _pop_and_add(sessions: SessionRepository) -> None:
    sessions.pop_message("session")
    sessions.add_message("session", TWO)


def _create_anew(sessions: SessionRepository) -> None:
    sessions.delete("session")
    sessions.add_message("session", TWO, create=session())


OTHERS: dict[str, Call] = {
    "append": lambda sessions: sessions.add_message("session", TWO),
    "cut": _pop_and_add,
    "edit": lambda sessions: sessions.replace_message("session", message("edited", id="one")),
    "create anew": _create_anew,
}
OWN: dict[str, Call] = {
    "add": lambda sessions: sessions.add_message("session", THREE),
    "save": lambda sessions: sessions.save(session(title="new")),
    "rewrite": lambda sessions: sessions.rewrite("session", after="zero", messages=[THREE]),
    "pop": lambda sessions: sessions.pop_message("session"),
}
READS: dict[str, Call] = {
    "get": lambda sessions: sessions.get_messages("session"),
    "first": lambda sessions: sessions.get_messages("session", first=3),
    "last": lambda sessions: sessions.get_messages("session", last=2),
    "after": lambda sessions: sessions.get_messages("session", after="zero"),
    "before": lambda sessions: sessions.get_messages("session", last=1, before="three"),
    "iter": lambda sessions: list(sessions.iter_messages("session")),
    "iter after": lambda sessions: list(sessions.iter_messages("session", after="zero")),
    "reverse": lambda sessions: list(sessions.iter_messages("session", reverse=True)),
    "summaries": lambda sessions: sessions.summaries(["session", "other"]),
    "find two": lambda sessions: sessions.find_message("session", "two"),
    "find one": lambda sessions: sessions.find_message("session", "one"),
}


@pytest.fixture(params=["mysql", "mariadb"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    backend: Backend = request.getfixturevalue(f"{request.param}_backend")
    server: Any = request.getfixturevalue(f"{request.param}_server")
    engine = create_engine(schema.parse_url(server.url.set(database=backend.options["database"])))
    if request.param == "mariadb":
        set_snapshot_isolation(engine, "OFF")
    yield engine
    engine.dispose()


@pytest.fixture
def store(request: pytest.FixtureRequest, engine: Engine) -> Iterator[Persistence]:
    name = request.node.callspec.params["engine"]
    backend: Backend = request.getfixturevalue(f"{name}_backend")
    with backend.open() as store:
        saved_session(store)
        store.sessions.add_messages("session", [message("zero", id="zero"), ONE])
        yield store


@pytest.fixture(params=LEVELS)
def connection(request: pytest.FixtureRequest, engine: Engine) -> Iterator[Connection]:
    with engine.connect().execution_options(isolation_level=request.param) as connection:
        yield connection


def _answer(call: Call, sessions: SessionRepository) -> Any:
    try:
        return call(sessions)
    except (RecordConflictError, RecordNotFoundError) as error:
        return type(error)


def _answers(sessions: SessionRepository) -> dict[str, Any]:
    return {name: _answer(read, sessions) for name, read in READS.items()}


@pytest.mark.parametrize("own", OWN)
@pytest.mark.parametrize("others", OTHERS)
def test_what_others_changed_meanwhile_is_seen_or_the_read_conflicts(
    store: Persistence, connection: Connection, others: str, own: str
) -> None:
    inside = store.within(connection).sessions
    snapshot = _answers(inside)
    assert snapshot == _answers(store.sessions)
    OTHERS[others](store.sessions)
    made = _answer(OWN[own], inside)
    seen = _answers(inside)
    assert _answers(store.within(connection).sessions) == seen
    connection.commit()
    if connection.get_isolation_level() == "READ COMMITTED":
        assert seen == _answers(store.sessions)
    elif made is not RecordNotFoundError or seen != snapshot:
        assert {*seen.values()} == {RecordConflictError}
    assert _answers(inside) == _answers(store.sessions)


def test_a_conflict_says_what_helps(store: Persistence, engine: Engine) -> None:
    with engine.connect().execution_options(isolation_level=LEVELS[1]) as connection:
        inside = store.within(connection)
        inside.sessions.get("session")
        store.sessions.add_message("session", TWO)
        inside.sessions.update("session", {"title": "new"})
        with pytest.raises(RecordConflictError, match="begin it anew, or let it use READ COMMIT"):
            inside.sessions.get_messages("session")
        assert store.within(connection).sessions.get("session").title == "new"
        connection.commit()
    assert texts(store) == ["zero", "one", "two"]


@pytest.mark.parametrize("engine", ["mariadb"], indirect=True)
@pytest.mark.parametrize("own", OWN)
@pytest.mark.parametrize("others", OTHERS)
def test_a_change_after_that_of_others_fails_where_the_server_sees_to_it(
    store: Persistence, engine: Engine, others: str, own: str
) -> None:
    set_snapshot_isolation(engine, "ON")
    with engine.connect().execution_options(isolation_level=LEVELS[1]) as connection:
        inside = store.within(connection).sessions
        snapshot = _answers(inside)
        OTHERS[others](store.sessions)
        changed = _answers(store.sessions)
        assert _answers(inside) == snapshot
        with pytest.raises(exc.OperationalError, match=r"1020.*changed since last read"):
            OWN[own](inside)
        connection.rollback()
        assert _answers(inside) == _answers(store.sessions) == changed
        _answer(OWN[own], inside)
        connection.commit()
        assert _answers(inside) == _answers(store.sessions)


def test_changes_answer_rightly_though_the_snapshot_is_older(
    store: Persistence, connection: Connection
) -> None:
    inside = store.within(connection).sessions
    assert inside.count_messages("session") == 2
    store.sessions.add_message("session", TWO)
    assert inside.add_message("session", THREE) == 4
    assert inside.add_message("session", TWO) == 3
    assert inside.add_messages("session", [THREE, ONE, TWO]) == [4, 2, 3]
    with pytest.raises(RecordConflictError):
        inside.add_message("session", message("other", id="two"))
    assert inside.truncate_after("session", "two") == 1
    assert inside.rewrite("session", after="one", messages=[THREE]) == [TWO]
    with pytest.raises(RecordConflictError):
        inside.rewrite("session", after="one", messages=[ONE])
    assert inside.pop_message("session") == THREE
    assert inside.pop_message("session") == ONE
    connection.commit()
    assert texts(store) == ["zero"]


def test_a_retry_after_an_update_finds_what_the_snapshot_hides(
    store: Persistence, connection: Connection
) -> None:
    inside = store.within(connection).sessions
    assert inside.count_messages("session") == 2
    store.sessions.add_messages("session", [TWO, THREE])
    inside.update("session", {"title": "new"})
    four = message("four")
    assert inside.add_messages("session", [THREE, TWO]) == [4, 3]
    assert inside.add_message("session", four) == 5
    connection.commit()
    assert texts(store) == ["zero", "one", "two", "three", "four"]


def test_a_transaction_sees_all_that_it_wrote_itself(
    store: Persistence, connection: Connection
) -> None:
    inside = store.within(connection)
    store.sessions.add_message("session", TWO)
    inside.sessions.add_message("session", THREE)
    assert texts(inside) == ["zero", "one", "two", "three"]
    inside.sessions.add_message("new", ONE, create=session("new"))
    inside.sessions.save(session("new", title="saved"))
    inside.sessions.update("session", {"title": "new"})
    inside.sessions.pop_message("session")
    inside.sessions.replace_message("session", message("edited", id="two"))
    assert texts(inside) == ["zero", "one", "edited"]
    assert texts(inside, "new") == ["one"]
    assert texts(inside, after="zero", before="two") == ["one"]
    assert inside.sessions.summaries(["session"])["session"].message_count == 3


@pytest.mark.parametrize("undone", ["refused", "not found", "rolled back"])
def test_a_change_that_was_not_made_hides_nothing(
    store: Persistence, connection: Connection, undone: str
) -> None:
    inside = store.within(connection).sessions
    before = _answers(inside)
    store.sessions.add_messages("session", [TWO, THREE])
    store.sessions.add_message("new", ONE, create=session("new"))
    if undone == "refused":
        with pytest.raises(RecordConflictError, match="expected"):
            inside.add_message("session", message(), expected=2)
    elif undone == "not found":
        with pytest.raises(RecordNotFoundError):
            inside.rewrite("session", after="absent")
    else:
        savepoint = connection.begin_nested()
        inside.add_message("session", message())
        inside.save(session("new", title="saved"))
        savepoint.rollback()
    committed = connection.get_isolation_level() == "READ COMMITTED"
    assert _answers(inside) == (_answers(store.sessions) if committed else before)
    assert inside.exists("new") is committed
    assert inside.add_message("session", message()) == 5
    if not committed:
        assert {*_answers(inside).values()} == {RecordConflictError}
    connection.commit()
    assert store.sessions.count_messages("session") == 5


def test_another_session_is_read_as_the_snapshot_has_it(
    store: Persistence, connection: Connection
) -> None:
    saved_session(store, "other")
    inside = store.within(connection)
    assert texts(inside, "other") == []
    store.sessions.add_message("other", TWO)
    inside.sessions.add_message("session", THREE)
    committed = connection.get_isolation_level() == "READ COMMITTED"
    assert texts(inside, "other") == (["two"] if committed else [])
    assert texts(inside) == ["zero", "one", "three"]


def test_a_session_that_others_created_meanwhile_is_not_read_in_part(
    store: Persistence, connection: Connection
) -> None:
    inside = store.within(connection)
    assert not inside.sessions.exists("new")
    store.sessions.add_message("new", ONE, create=session("new"))
    inside.sessions.save(session("new", title="saved"))
    if connection.get_isolation_level() == "READ COMMITTED":
        assert texts(inside, "new") == ["one"]
    else:
        for call in (
            lambda: texts(inside, "new"),
            lambda: inside.sessions.find_message("new", "one"),
        ):
            with pytest.raises(RecordConflictError):
                call()


def test_what_others_have_not_committed_is_no_damage(store: Persistence, engine: Engine) -> None:
    with (
        engine.connect() as other,
        engine.connect().execution_options(isolation_level="READ UNCOMMITTED") as connection,
    ):
        # As in the middle of a call that appends.
        other.exec_driver_sql("UPDATE agentx_sessions SET message_count = 3")
        inside = store.within(connection).sessions
        for name in ("get", "last", "after", "iter", "reverse", "summaries"):
            with pytest.raises(RecordConflictError):
                READS[name](inside)


@pytest.mark.parametrize("lost", ["position > 0", "position > 2"])
def test_a_lost_message_is_damage_where_each_statement_sees_one_moment(
    store: Persistence, engine: Engine, lost: str
) -> None:
    store.sessions.add_messages("session", [TWO, THREE])
    with engine.begin() as damaging:
        damaging.exec_driver_sql(f"DELETE FROM agentx_messages WHERE {lost}")  # noqa: S608
    for level in ("READ COMMITTED", "SERIALIZABLE", "REPEATABLE READ"):
        with engine.connect().execution_options(isolation_level=level) as connection:
            sessions = store.within(connection).sessions
            for read in ("get", "first", "last", "iter", "reverse", "summaries"):
                conflict = level == "REPEATABLE READ"
                with pytest.raises(RecordConflictError if conflict else CorruptRecordError):
                    READS[read](sessions)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (deletion, owned):
        monkeypatch.setattr(module, "LISTED", 3)


def _rows_left(connection: Connection) -> list[int]:
    tables = ("containers", "images", "sessions", "messages", "items")
    counts = (f"SELECT count(*) FROM agentx_{table} LOCK IN SHARE MODE" for table in tables)  # noqa: S608
    return [connection.exec_driver_sql(count).scalar_one() for count in counts]


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("part", ["sessions", "sessions of images", "items"])
def test_a_deletion_ends_though_the_snapshot_has_what_others_have_deleted(
    store: Persistence, connection: Connection, part: str
) -> None:
    store.containers.save(container())
    for number in range(3):
        if part == "items":
            store.items.save(ItemRecord(namespace=("box",), key=f"key {number}", value=1))
        else:
            store.images.save(image(f"image {number}"))
            of_image = {"image_id": f"image {number}"} if part == "sessions of images" else {}
            store.sessions.save(session(f"log {number}", **of_image))
    inside = store.within(connection)
    assert inside.sessions.count() == store.sessions.count()  # the snapshot begins
    assert store.containers.delete("box")
    assert not inside.containers.delete("box")
    connection.commit()
    assert _rows_left(connection) == [0, 0, 0, 0, 0]


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("number", [1, 3, 4])
def test_a_deletion_takes_what_others_have_created_since_the_snapshot(
    store: Persistence, connection: Connection, number: int
) -> None:
    store.containers.save(container())
    inside = store.within(connection)
    assert inside.sessions.count() == 1  # the snapshot begins
    for key in map(str, range(number)):
        store.images.save(image(key))
        store.sessions.add_message(key, ONE, create=session(key))
        store.sessions.save(session(f"of image {key}", container_id="other", image_id=key))
        store.items.save(ItemRecord(namespace=("box",), key=key, value=1))
    assert inside.containers.delete("box")
    connection.commit()
    assert _rows_left(connection) == [0, 0, 0, 0, 0]
