"""How long calls wait for a database server, and what they repeat."""

from __future__ import annotations

import logging
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from sqlalchemy import create_engine

from agentx_persistence import (
    BackendError,
    BackendUnavailableError,
    ConfigurationError,
    Persistence,
    create_persistence,
)
from agentx_persistence._sql import schema
from agentx_persistence._sql.engine import Database
from agentx_persistence.storage import _retrying
from tests.backends.backend import DATABASE_SERVER, Backend
from tests.contract.records import message, saved_session, texts

pytestmark = pytest.mark.needs(DATABASE_SERVER)


@pytest.fixture
def is_postgresql(backend: Backend) -> bool:
    return backend.name == "postgresql"


@contextmanager
def _opened(server: Any, backend: Backend, **options: Any) -> Iterator[Persistence]:
    with create_persistence(server.new_driver(**{**backend.options, **options})) as persistence:
        yield persistence


def _database(persistence: Any) -> Database:
    database: Database = persistence._storage._database
    return database


def _failure(is_postgresql: bool, code: str | int) -> str:
    """Return a statement that fails with this code."""
    if is_postgresql:
        return f"DO $$ BEGIN RAISE EXCEPTION 'as asked' USING ERRCODE = '{code}'; END $$"
    return f"SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {code}, MESSAGE_TEXT = 'as asked'"


def _connection_id(is_postgresql: bool, cursor: Any) -> int:
    cursor.execute("SELECT pg_backend_pid()" if is_postgresql else "SELECT connection_id()")
    (id,) = cursor.fetchone()
    return int(id)


_TRANSIENT = {False: (1205, 1213, 1180, 3101, 1020), True: ("40001", "40P01", "55P03")}
_LOST = {False: (1290, 1836, 1047, 1053), True: ("25006", "57P01", "57P02", "57P03")}


@pytest.mark.parametrize("own", [True, False], ids=["own engine", "engine of the caller"])
def test_what_passes_is_repeated_and_logged(
    server: Any,
    backend: Backend,
    is_postgresql: bool,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    own: bool,
) -> None:
    monkeypatch.setattr(_retrying, "_LONGEST_PAUSE", 0.05)
    url = schema.parse_url(server.url.set(database=backend.options["database"]))
    engine = create_engine(url)
    opened = (
        _opened(server, backend) if own else create_persistence(server.new_driver(engine=engine))
    )
    with opened as persistence:
        for code in (*_TRANSIENT[is_postgresql], *_LOST[is_postgresql]):
            connections: list[int] = []

            def work(cursor: Any, code: Any = code, connections: list[int] = connections) -> int:
                connections.append(_connection_id(is_postgresql, cursor))
                if len(connections) < 4:
                    cursor.execute(_failure(is_postgresql, code))
                return len(connections)

            caplog.clear()
            assert _database(persistence).write(work) == 4
            assert (len(set(connections)) == 4) == (code in _LOST[is_postgresql]), code
            logged = [r for r in caplog.records if r.name == "agentx_persistence"]
            assert [record.levelno for record in logged] == [logging.WARNING] * 3
            assert "attempt 3" in logged[2].getMessage()
            assert "as asked" in logged[2].getMessage()
    engine.dispose()


def test_what_does_not_pass_is_repeated_for_as_long_as_the_driver_is_told(
    server: Any, backend: Backend, is_postgresql: bool
) -> None:
    (code, *_) = _TRANSIENT[is_postgresql]
    with _opened(server, backend, retry_seconds=1.0) as persistence:
        started = time.monotonic()
        with pytest.raises(BackendUnavailableError, match="as asked"):
            _database(persistence).write(lambda c: c.execute(_failure(is_postgresql, code)))
        assert 0.3 < time.monotonic() - started < 2


def test_what_repeating_cannot_cure_is_not_repeated(
    server: Any, backend: Backend, is_postgresql: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with _opened(server, backend) as persistence:
        for code, kind in (
            ("42501" if is_postgresql else 1142, ConfigurationError),
            ("22012" if is_postgresql else 1365, BackendError),
        ):
            with pytest.raises(BackendError, match="as asked") as raised:
                _database(persistence).write(
                    lambda c, code=code: c.execute(_failure(is_postgresql, code))  # type: ignore[misc]
                )
            assert type(raised.value) is kind
        assert not [r for r in caplog.records if r.name == "agentx_persistence"]


def test_a_change_that_was_undone_is_repeated_though_others_have_changed_the_session(
    server: Any, backend: Backend, is_postgresql: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _opened(server, backend) as persistence, _opened(server, backend) as other:
        saved_session(persistence)
        persistence.sessions.add_message("session", message("first"))
        connections: Any = _database(persistence)._connections
        # PostgreSQL changes the session and its messages in one statement.
        name = "fetch" if is_postgresql else "write"
        call, calls = getattr(connections, name), []

        def undone_at_first(*work: Any) -> Any:
            if is_postgresql and "DELETE" not in work[0]:
                return call(*work)
            calls.append(work)
            if len(calls) > 1:
                return call(*work)
            failure = _failure(is_postgresql, _TRANSIENT[is_postgresql][1])
            try:
                if is_postgresql:
                    return call(failure, ())
                return call(lambda cursor: (work[0](cursor), cursor.execute(failure)))
            finally:
                other.sessions.rewrite("session", after=None, messages=[message("meanwhile")])

        monkeypatch.setattr(connections, name, undone_at_first)
        popped = persistence.sessions.pop_message("session")
        assert popped
        assert popped.text == "meanwhile"
        assert len(calls) > 1


def test_a_locked_session_is_given_up_after_the_lock_timeout(server: Any, backend: Backend) -> None:
    with _opened(server, backend, lock_timeout=1, retry_seconds=0.5) as persistence:
        saved_session(persistence)
        with closing(server.connect(backend.options["database"], autocommit=False)) as other:
            other.cursor().execute("SELECT 1 FROM agentx_sessions FOR UPDATE")
            started = time.monotonic()
            with pytest.raises(BackendUnavailableError):
                persistence.sessions.add_message("session", message())
            assert time.monotonic() - started < 2.5
        assert persistence.sessions.add_message("session", message("later")) == 1
        assert texts(persistence) == ["later"]


@pytest.mark.parametrize(
    ("seconds", "milliseconds", "whole_seconds"),
    [(5.0, 5000, 5), (0.0004, 1, 1), (1.5, 1500, 2), (math.inf, 2**31 - 1, 2**30)],
)
def test_the_lock_timeout_is_rounded_to_what_the_server_takes(
    server: Any,
    backend: Backend,
    is_postgresql: bool,
    seconds: float,
    milliseconds: int,
    whole_seconds: int,
) -> None:
    asking = "SELECT @@innodb_lock_wait_timeout"
    if is_postgresql:
        asking = "SELECT setting FROM pg_settings WHERE name = 'lock_timeout'"
    with _opened(server, backend, lock_timeout=seconds) as persistence:
        ((found,),) = _database(persistence).fetch(asking)
    # 100000000 is the highest value on MariaDB.
    expected = (milliseconds,) if is_postgresql else (whole_seconds, min(whole_seconds, 10**8))
    assert int(found) in expected


@contextmanager
def _busy(database: Database, threads: int = 1) -> Iterator[None]:
    """Have threads hold a connection each."""
    inside = threading.Barrier(threads + 1)
    leave = threading.Event()

    def work(cursor: Any) -> None:
        inside.wait(10)
        leave.wait(30)

    running = [threading.Thread(target=database.write, args=(work,)) for _ in range(threads)]
    for thread in running:
        thread.start()
    inside.wait(10)
    try:
        yield
    finally:
        leave.set()
        for thread in running:
            thread.join()


def test_opening_waits_for_another_process_that_upgrades_as_long_as_it_is_told(
    server: Any, backend: Backend, is_postgresql: bool
) -> None:
    database = "agentx_upgraded"
    server.recreate(database)
    options = {"database": database, "migrate": True, "opening_timeout": 1.0}
    lock = (
        f"SELECT pg_advisory_lock({schema._LOCK})"
        if is_postgresql
        else f"SELECT GET_LOCK('agentx_{schema._LOCK}', 0)"
    )
    with closing(server.connect(database, autocommit=True)) as other:
        other.cursor().execute(lock)
        started = time.monotonic()
        with pytest.raises(BackendUnavailableError, match="another process has been migrating"):
            _opened(server, backend, **options).__enter__()
        assert 0.9 < time.monotonic() - started < 5
    with _opened(server, backend, **options) as persistence:
        persistence.ping()


def test_a_pool_that_is_exhausted_is_unavailable(server: Any, backend: Backend) -> None:
    options = {"pool_size": 1, "max_overflow": 1, "pool_timeout": 0.5}
    with _opened(server, backend, **options) as persistence:
        with _busy(_database(persistence), 2):
            started = time.monotonic()
            with pytest.raises(BackendUnavailableError, match="pool_size"):
                persistence.ping()
            assert 0.4 < time.monotonic() - started < 1.5
        persistence.ping()


def test_who_waits_first_for_a_connection_has_it_first(server: Any, backend: Backend) -> None:
    options = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 10}
    with _opened(server, backend, **options) as persistence:
        database, served = _database(persistence), list[int]()
        waiting = []
        with _busy(database):
            for number in range(5):
                call = threading.Thread(
                    target=database.write,
                    args=(lambda cursor, number=number: served.append(number),),
                )
                call.start()
                waiting.append(call)
                time.sleep(0.05)
        for call in waiting:
            call.join()
        assert served == [0, 1, 2, 3, 4]


@contextmanager
def _signalled(persistence: Persistence, handle: Callable[[int, object], None]) -> Iterator[Any]:
    """Let `handle` be called in the middle of the next read; lend the database."""
    database: Any = _database(persistence)
    original = database._connections._fetch

    def fetch(*arguments: Any) -> Any:
        database._connections._fetch = original
        signal.raise_signal(signal.SIGUSR1)
        return original(*arguments)

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        database._connections._fetch = fetch
        yield database
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_signal_handler_works_inside_a_read_and_is_refused_inside_a_write(
    server: Any, backend: Backend
) -> None:
    with _opened(server, backend) as persistence:
        saved_session(persistence)
        refused: list[BackendError] = []

        def handle(number: int, frame: object) -> None:
            try:
                persistence.sessions.add_message("session", message("handled"))
            except BackendError as error:
                refused.append(error)

        started = time.monotonic()
        with _signalled(persistence, handle) as database:
            assert database.fetch("SELECT 1")
            assert refused == []
            database.write(lambda cursor: signal.raise_signal(signal.SIGUSR1))
            assert "signal handler" in str(refused[0])
        assert time.monotonic() - started < 2
        assert texts(persistence) == ["handled"]


def test_a_signal_handler_inside_the_only_connections_read_is_refused_at_once(
    server: Any, backend: Backend
) -> None:
    options = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 10}
    with _opened(server, backend, **options) as persistence:
        refused: list[float] = []

        def handle(number: int, frame: object) -> None:
            started = time.monotonic()
            with pytest.raises(BackendUnavailableError, match="inside other calls of its thread"):
                persistence.ping()
            refused.append(time.monotonic() - started)

        with _signalled(persistence, handle) as database:
            assert database.fetch("SELECT 1")
        assert len(refused) == 1
        assert refused[0] < 1
        persistence.ping()


def test_a_fork_does_not_wait_for_the_server(
    server: Any, backend: Backend, is_postgresql: bool
) -> None:
    with _opened(server, backend) as persistence:
        database = _database(persistence)
        slow = "SELECT pg_sleep(2)" if is_postgresql else "SELECT SLEEP(2)"
        thread = threading.Thread(target=database.fetch, args=(slow,))
        thread.start()
        time.sleep(0.2)
        started = time.monotonic()
        child = os.fork()
        if not child:
            status = 1
            try:
                persistence.ping()
                status = 0
            finally:
                os._exit(status)
        assert time.monotonic() - started < 1
        assert os.waitpid(child, 0)[1] == 0
        thread.join()
        persistence.ping()


def test_a_column_whose_type_is_changed_online_is_read_on(
    server: Any, backend: Backend, is_postgresql: bool
) -> None:
    with _opened(server, backend, pool_size=1, max_overflow=0) as persistence:
        database = _database(persistence)
        database.execute("CREATE TABLE changing (value VARCHAR(10))")
        try:
            database.execute("INSERT INTO changing VALUES ('1')")
            for _ in range(10):  # until it is prepared
                database.fetch("SELECT value FROM changing WHERE value <> %s", ("x",))
            change = "TYPE text" if is_postgresql else "MODIFY value LONGTEXT"
            alter = "ALTER COLUMN value" if is_postgresql else ""
            server.execute(
                f"ALTER TABLE changing {alter} {change}", database=backend.options["database"]
            )
            rows = database.fetch("SELECT value FROM changing WHERE value <> %s", ("x",))
            assert [tuple(row) for row in rows] == [("1",)]
        finally:
            database.execute("DROP TABLE changing")
