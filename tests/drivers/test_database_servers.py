"""What only a database server can do to an application: refuse it, cut it off, go away."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any
from urllib.parse import quote_plus

import pytest
from sqlalchemy import URL

from agentx_persistence import (
    BackendUnavailableError,
    ConfigurationError,
    InvalidRecordError,
    Persistence,
    SchemaError,
    create_persistence,
)
from tests.backends.backend import DATABASE_SERVER, Backend
from tests.contract.records import container, image, message, saved_session, texts
from tests.servers.process import free_port

pytestmark = pytest.mark.needs(DATABASE_SERVER)

SECRET = "s3:c/r@e%t"


@pytest.fixture
def database(backend: Backend) -> str:
    return str(backend.options["database"])


def test_connections_that_were_ended_between_two_calls_are_not_noticed(
    server: Any, database: str, persistence: Persistence
) -> None:
    saved_session(persistence)
    calls = [
        lambda: persistence.sessions.add_message("session", message()),
        lambda: persistence.sessions.add_messages("session", [message(), message()]),
        lambda: persistence.sessions.get("session"),
        lambda: persistence.sessions.truncate_after("session", first.id),
        lambda: persistence.images.save(image()),
        lambda: persistence.images.update_metadata("image", {"a": 1}),
        lambda: persistence.containers.delete("none"),
        lambda: persistence.ping(),
    ]
    first = message()
    persistence.sessions.add_message("session", first)
    for call in calls:
        ended = 0
        for _ in range(30):  # how many connections four threads open at once is up to chance
            _fill_pool(persistence)
            ended = server.end_connections(database)
            if ended >= 4:
                break
        assert ended >= 4
        call()


def _fill_pool(persistence: Persistence) -> None:
    """Make the pool keep several connections, all of which would have to be tried."""
    barrier = threading.Barrier(4)

    def use(_: int) -> None:
        barrier.wait()
        for _ in range(50):
            persistence.sessions.get_messages("session")

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(use, range(4)))


def test_connections_that_are_ended_during_appends_lose_and_double_nothing(
    server: Any, database: str, persistence: Persistence
) -> None:
    saved_session(persistence)
    done = threading.Event()
    ended = 0

    def end() -> None:
        nonlocal ended
        while not done.wait(0.1):
            ended += server.end_connections(database)

    def append(name: int) -> list[int]:
        given: list[int] = []
        while ended < 6 and len(given) < 20_000:
            sent = message(f"{name} {len(given)}")
            given.append(persistence.sessions.add_message("session", sent))
        return given

    ending = threading.Thread(target=end)
    ending.start()
    with ThreadPoolExecutor(2) as threads:
        given = list(threads.map(append, range(2)))
    done.set()
    ending.join()
    assert ended >= 6
    assert sorted(chain.from_iterable(given)) == list(range(1, len(given[0]) + len(given[1]) + 1))
    stored = texts(persistence)
    for name, positions in enumerate(given):
        own = [each for each in stored if each.startswith(f"{name} ")]
        assert own == [f"{name} {number}" for number in range(len(positions))]


def test_an_unreachable_server_is_said_so_within_seconds(
    backend: Backend, server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    driver = server.driver("shop", port=(port := free_port()), password=SECRET)
    started = time.monotonic()
    with pytest.raises(BackendUnavailableError) as raised:
        create_persistence(driver)
    assert time.monotonic() - started < 5
    for part in (server.url.get_backend_name(), f"127.0.0.1:{port}/shop"):
        assert part in str(raised.value)
    _assert_secret(driver, raised.value, caplog)


def test_a_password_of_special_characters_opens_the_door_and_is_never_shown(
    server: Any, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.create_application("careful", SECRET, database)
    address = URL.create(
        server.url.get_backend_name(), "careful", SECRET, "127.0.0.1", server.url.port, database
    )
    full = address.render_as_string(hide_password=False)
    for driver in (
        server.driver(database, user="careful", password=SECRET),
        server.new_driver(full),
    ):
        with create_persistence(driver) as persistence:
            persistence.ping()
        assert SECRET not in repr(driver)
        assert address.host in repr(driver)
    for wrong in ({"user": "stranger"}, {"database": "elsewhere"}):
        driver = server.driver(**{"database": database, "password": SECRET, **wrong})
        with pytest.raises(ConfigurationError) as raised:
            create_persistence(driver)
        _assert_secret(driver, raised.value, caplog)
    with pytest.raises(InvalidRecordError) as refusal:
        server.new_driver(f"nonsense {full}")
    _assert_secret(None, refusal.value, caplog)


def _assert_secret(driver: object, error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    shown = [repr(driver), repr(error), str(error), caplog.text]
    shown += traceback.format_exception(error)
    for secret in (SECRET, quote_plus(SECRET)):
        assert secret not in "\n".join(shown)


def test_an_application_needs_no_right_to_change_tables(server: Any, database: str) -> None:
    server.create_application("modest", "modest", database)
    driver = server.driver(database, user="modest", password="modest")
    with create_persistence(driver) as persistence:
        persistence.containers.save(container())
        persistence.images.save(image())
        saved_session(persistence)
        persistence.sessions.add_message("session", message("hello"))
        assert texts(persistence) == ["hello"]
        assert persistence.images.update_metadata("image", {"a": 1}).metadata is not None
        assert persistence.containers.delete("box")


def test_a_schema_that_does_not_fit_names_the_command(server: Any) -> None:
    server.recreate("agentx_empty")
    driver = server.driver("agentx_empty")
    with pytest.raises(SchemaError) as raised:
        create_persistence(driver)
    assert "python -m agentx_persistence upgrade" in raised.value.remedy
    assert "agentx_empty" in raised.value.remedy
    create_persistence(server.driver("agentx_empty", migrate=True)).close()
    create_persistence(driver).close()
    server.execute(
        "UPDATE agentx_alembic_version SET version_num = '9999', oldest = '9999'",
        database="agentx_empty",
    )
    for options in ({}, {"migrate": True}):
        with pytest.raises(SchemaError, match="newer"):
            create_persistence(server.driver("agentx_empty", **options))
    server.execute("DROP DATABASE agentx_empty")
