"""Several hosts in one URL."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from sqlalchemy import URL

from agentx_persistence import (
    BackendUnavailableError,
    ConfigurationError,
    InvalidRecordError,
    create_persistence,
)
from agentx_persistence._sql.hosts import parse, several
from agentx_persistence.schemes import driver_for
from tests.backends.backend import Backend
from tests.backends.postgresql import DATABASE
from tests.contract.records import message, saved_session, texts
from tests.drivers.test_redis_crashes import Writer
from tests.servers.mysql import MysqlServer
from tests.servers.postgresql_standby import PostgresqlPair
from tests.servers.process import free_port

_LOGIN = "u:p%40%2C"


@pytest.mark.parametrize(
    ("url", "places"),
    [
        ("postgresql://{}@a:1,b:2/db", "a:1 b:2"),
        ("postgresql://{}@a,b/db", "a:5432 b:5432"),
        ("postgresql://{}@a,b:5/db", "a:5432 b:5"),
        ("postgresql://{}@a,b/db?port=5", "a:5 b:5"),
        ("postgresql://{}@[::1]:1,[::2]/db?sslmode=disable", "::1:1 ::2:5432"),
        ("postgresql://{}@/db?host=a:1&host=b:2", "a:1 b:2"),
        ("postgresql://{}@/db?host=a:1,b:2", "a:1 b:2"),
        ("postgresql://{}@/db?host=a,b&port=1,2", "a:1 b:2"),
        ("postgresql+psycopg://{}@a,b,c/db", "a:5432 b:5432 c:5432"),
        ("mysql://{}@a:1,b/db", "a:1 b:3306"),
        ("mariadb://{}@/db?host=a:1&host=b", "a:1 b:3306"),
        ("mysql+mysqldb://{}@a,b/db?charset=utf8mb4", "a:3306 b:3306"),
    ],
)
def test_several_hosts_in_every_spelling(url: str, places: str) -> None:
    parsed = parse(url.format(_LOGIN), "postgresql")
    assert " ".join(f"{host}:{port}" for host, port in several(parsed)) == places
    assert (parsed.username, parsed.password, parsed.database) == ("u", "p@,", "db")
    assert parse(parsed, "postgresql") == parsed


@pytest.mark.parametrize(
    "url",
    [
        *("postgresql://u:a,b@h/db", "mysql://u:a,b/c@h/db", "postgresql:///db?host=/var/run"),
        *("postgresql://u@h/db?options=-c%20search_path=a,b", "mysql://u@h:1/db", "mysql://u@/a,b"),
    ],
)
def test_one_host_stays_as_it_is(url: str) -> None:
    assert several(parse(url, "postgresql")) == []


@pytest.mark.parametrize(
    "url",
    [
        *("postgresql://u:tiger@a:x,b:2/db", "mysql://u:tiger@a,b/db?port=1,2,3"),
        *("postgresql://u:tiger@/db?host=a,b&port=1,x", "mysql://u:tiger@a,b:1:2/db"),
    ],
)
def test_ports_that_fit_no_hosts_are_refused(url: str) -> None:
    with pytest.raises(InvalidRecordError, match="url") as raised:
        create_persistence(url)
    assert "tiger" not in str(raised.value)


def test_a_driver_shows_all_its_hosts() -> None:
    shown = repr(driver_for("mysql://u:tiger@a:1,b/db", {}))
    assert "a:1,b:3306/db" in shown
    assert "tiger" not in shown


@pytest.fixture(params=["mysql", "mariadb"])
def server(request: pytest.FixtureRequest) -> MysqlServer:
    server: MysqlServer = request.getfixturevalue(f"{request.param}_server")
    return server


@pytest.fixture
def store(server: MysqlServer, request: pytest.FixtureRequest) -> Backend:
    name = request.node.callspec.params["server"]
    store: Backend = request.getfixturevalue(f"{name}_backend")
    return store


def _url(server: MysqlServer, places: str, database: str) -> str:
    login = server.url.username, server.url.password
    url = URL.create("mysql", *login, "hosts", None, database)
    return url.render_as_string(False).replace("@hosts", f"@{places}")


def _opened(server: MysqlServer, store: Backend, places: str, **options: Any) -> Any:
    text = _url(server, places, store.options["database"])
    options["connect_args"] = store.options["connect_args"]
    return create_persistence(text, **options)


def test_hosts_are_tried_in_turn(server: MysqlServer, store: Backend) -> None:
    good, closed = f"127.0.0.1:{server.url.port}", f"127.0.0.1:{free_port()}"
    with _opened(server, store, f"{closed},{good}") as persistence:
        saved_session(persistence)
        assert persistence.sessions.add_message("session", message()) == 1


def test_a_host_that_answered_is_asked_first_the_next_time(
    server: MysqlServer, store: Backend
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(0)
        port = silent.getsockname()[1]
        places = f"127.0.0.1:{port},127.0.0.1:{server.url.port}"
        with _opened(server, store, places, connect_timeout=1) as persistence:
            silent.accept()[0].close()
            saved_session(persistence)
            server.end_connections(store.options["database"])
            assert persistence.sessions.add_message("session", message()) == 1
            with pytest.raises(BlockingIOError):
                silent.accept()


def test_no_host_that_answers_is_unavailable(server: MysqlServer, store: Backend) -> None:
    places = f"127.0.0.1:{free_port()},127.0.0.1:{free_port()}"
    with pytest.raises(BackendUnavailableError, match="2003"):
        _opened(server, store, places)


def test_a_wrong_password_is_told_at_once(server: MysqlServer, store: Backend) -> None:
    place = f"127.0.0.1:{server.url.port}"
    closed = f"127.0.0.1:{free_port()}"
    url = f"mysql://nobody:wrong@{place},{closed}/{store.options['database']}"
    with pytest.raises(ConfigurationError, match="1045"):
        create_persistence(url, connect_args=store.options["connect_args"])


def test_hosts_that_are_read_only_are_unavailable(server: MysqlServer, store: Backend) -> None:
    place = f"127.0.0.1:{server.url.port}"
    server.execute("SET GLOBAL read_only = ON")
    try:
        with pytest.raises(BackendUnavailableError, match=f"{place} is read-only"):
            _opened(server, store, f"{place},{place}")
    finally:
        server.execute("SET GLOBAL read_only = OFF")
    with _opened(server, store, f"{place},{place}") as persistence:
        saved_session(persistence)


def test_a_migration_finds_the_host_that_answers(server: MysqlServer, store: Backend) -> None:
    database = "agentx_hosts"
    server.recreate(database)
    places = f"127.0.0.1:{free_port()},127.0.0.1:{server.url.port}"
    text = _url(server, places, database)
    create_persistence(text, migrate=True, connect_args=store.options["connect_args"]).close()
    assert server.execute("SHOW TABLES", database=database)
    server.execute(f"DROP DATABASE {database}")


@pytest.mark.parametrize("spelling", ["{0}@{1},{2}/{3}", "{0}@/{3}?host={1}&host={2}"])
def test_a_standby_that_is_promoted_takes_over(
    postgresql_standby_nodes: PostgresqlPair, postgresql_standby_backend: Backend, spelling: str
) -> None:
    nodes = postgresql_standby_nodes
    places = [f"127.0.0.1:{server.url.port}" for server in nodes.servers]
    url = "postgresql://" + spelling.format("postgres", *places, DATABASE)
    with create_persistence(url) as persistence:
        saved_session(persistence)
        writer = Writer(persistence)
        writer.start()
        writer.wait_for_more()
        lost = nodes.lose()
        writer.wait_for_more()
        acknowledged = writer.end()
        assert texts(persistence) == acknowledged
        assert writer.errors == []
    nodes.regain(lost)
