"""An interrupt at any point of a call leaves no lock, permit or connection taken."""

from __future__ import annotations

import gc
import logging
import random
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from agentx_persistence import create_persistence
from agentx_persistence._sql.engine import Database
from agentx_persistence.sqlite import sqlite_driver
from tests.backends.backend import DATABASE_SERVER, Backend
from tests.contract.records import message, saved_session
from tests.drivers.interrupting import Interrupt, interrupted_at_each_point

# Where interrupts can leave something behind: this package, and SQLAlchemy's pool.
pytestmark = pytest.mark.usefixtures("collected")

PLACES = ("/_sql/", "sqlalchemy/pool/", "sqlalchemy/engine/base.py", "/logging/")

# How many points later a second interrupt follows, if any.
_AGAIN = [0, 1, 2, 5]

CREATE = "CREATE TABLE {} (number INTEGER PRIMARY KEY)"


def _calls(database: Database) -> dict[str, Callable[[], object]]:
    numbers = iter(range(10**6))
    insert = "INSERT INTO {} VALUES ({})"

    def work(cursor: Any) -> None:
        number = next(numbers)
        cursor.execute(insert.format("pairs_1", number))
        cursor.execute(insert.format("pairs_2", number))

    return {
        "fetch": lambda: database.fetch("SELECT * FROM pairs_1"),
        "execute": lambda: database.execute("DELETE FROM pairs_2 WHERE number < 0"),
        "write": lambda: database.write(work),
    }


def _work(database: Database) -> None:
    started = time.monotonic()
    assert database.fetch("SELECT 1")
    database.write(lambda cursor: cursor.execute("DELETE FROM pairs_1 WHERE number < 0"))
    assert time.monotonic() - started < 1.8


def _check(database: Database, again: int) -> None:
    with ThreadPoolExecutor(1) as another:
        for call in _calls(database).values():
            _interrupt(database, call, another, again)


def _interrupt(
    database: Database, call: Callable[[], object], another: ThreadPoolExecutor, again: int
) -> None:
    kept = None
    for interrupt in interrupted_at_each_point(call, *PLACES, again=again):
        # The traceback keeps alive what the call had in its variables.
        kept = interrupt or kept
        # In this thread and in another one, which a lock that is still held would stop.
        _work(database)
        another.submit(_work, database).result(10)
    assert kept is not None
    one, other = (database.fetch(f"SELECT number FROM pairs_{n}") for n in (1, 2))  # noqa: S608
    assert {tuple(row) for row in one} == {tuple(row) for row in other}


@pytest.fixture
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "sqlalchemy.pool")


@pytest.mark.parametrize("again", _AGAIN)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_sqlite_survives_interrupts_at_any_point(tmp_path: Path, again: int) -> None:
    storage: Any = sqlite_driver(tmp_path / "agentx.db", timeout=2).create_storage()
    database: Database = storage._database
    for table in ("pairs_1", "pairs_2"):
        database.execute(CREATE.format(table))
    _check(database, again)
    storage.close()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers")
@pytest.mark.usefixtures("_quiet", "unheard_destructors")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_sqlite_survives_interrupts_of_what_follows_an_interrupt(tmp_path: Path) -> None:
    storage: Any = sqlite_driver(tmp_path / "agentx.db", timeout=1).create_storage()
    database: Database = storage._database
    chance, armed, interrupts = random.Random(0), False, 0

    def interrupt(number: int, frame: object) -> None:
        if armed:
            raise Interrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    ending = time.monotonic() + 3
    try:
        while time.monotonic() < ending:
            try:
                try:
                    armed = True
                    signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-5, 2e-4), 2e-5)
                    database.write(lambda cursor: cursor.execute("SELECT 1"))
                finally:
                    armed = False
            except Interrupt:
                armed = False
                interrupts += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupts
    with ThreadPoolExecutor(1) as another:
        another.submit(database.write, lambda cursor: cursor.execute("SELECT 1")).result(10)
    storage.close()


@pytest.mark.parametrize("again", _AGAIN)
@pytest.mark.needs(DATABASE_SERVER)
@pytest.mark.usefixtures("_quiet")
@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_a_pool_of_one_survives_interrupts_at_any_point(
    backend: Backend, request: pytest.FixtureRequest, again: int
) -> None:
    server: Any = request.getfixturevalue(f"{backend.name}_server")
    driver = server.new_driver(**backend.options, pool_size=1, max_overflow=0, pool_timeout=2)
    storage = driver.create_storage()
    database: Database = storage._database
    try:
        for table in ("pairs_1", "pairs_2"):
            database.execute(CREATE.format(table))
        _check(database, again)
        assert database.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    finally:
        for table in ("pairs_1", "pairs_2"):
            database.execute(f"DROP TABLE {table}")
        storage.close()
        gc.collect()  # closes connections that the tracebacks of interrupts have kept


@pytest.mark.needs(DATABASE_SERVER)
@pytest.mark.usefixtures("_quiet")
def test_a_second_interrupt_leaves_no_row_locked(
    backend: Backend, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes while the connection of the interrupted call is ended."""
    server: Any = request.getfixturevalue(f"{backend.name}_server")
    driver = server.new_driver(**backend.options, lock_timeout=1, retry_seconds=0)
    with create_persistence(driver) as persistence:
        saved_session(persistence)
        database: Database = persistence._storage._database  # type: ignore[attr-defined]
        terminate, interrupts = database.dialect.do_terminate, 0

        def interrupted(connection: Any) -> None:
            nonlocal interrupts
            interrupts += 1
            if interrupts == 1:
                raise KeyboardInterrupt
            terminate(connection)

        def work(cursor: Any) -> None:
            cursor.execute("UPDATE agentx_sessions SET updated_at = updated_at + 1")
            raise KeyboardInterrupt

        monkeypatch.setattr(database.dialect, "do_terminate", interrupted)
        with pytest.raises(KeyboardInterrupt) as raised:
            database.write(work)
        assert interrupts
        assert persistence.sessions.add_message("session", message("next")) == 1
        assert raised.traceback  # which keeps the interrupted connection alive until here
