"""What is peculiar to MySQL and MariaDB."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import create_engine

from agentx_persistence import (
    BackendUnavailableError,
    ItemRecord,
    Persistence,
    RecordTooLargeError,
    UserMessage,
    create_persistence,
)
from agentx_persistence.mysql import mysql_driver
from tests.contract.records import container, image, message, saved_session, session, texts
from tests.servers.mysql import MysqlServer

MIB = 2**20


@pytest.fixture
def small_packets(mysql_server: MysqlServer) -> Iterator[int]:
    """The server takes statements of up to so many bytes from new connections."""
    ((usual,),) = mysql_server.execute("SELECT @@global.max_allowed_packet")
    mysql_server.execute(f"SET GLOBAL max_allowed_packet = {MIB}")
    yield MIB
    mysql_server.execute(f"SET GLOBAL max_allowed_packet = {usual}")


@pytest.fixture
def limited(
    small_packets: int, mysql_backend: Any, mysql_server: MysqlServer
) -> Iterator[Persistence]:
    with mysql_backend.open() as persistence:
        saved_session(persistence)
        yield persistence


def _connections(server: MysqlServer, backend: Any) -> set[Any]:
    """Return all connections to the database: also those, closed a moment ago, that the server has
    not ended yet. A connection made anew shows as an id that was not there before."""
    return {
        *server.execute(
            "SELECT id FROM information_schema.processlist WHERE db = %s",
            backend.options["database"],
        )
    }


@pytest.mark.parametrize(
    "text",
    ["a" * MIB, "\U0001f642" * (MIB // 4), '"' * (MIB // 4), "\\" * (MIB // 4), "\n" * (MIB // 3)],
    ids=["plain", "emoji", "quotes", "backslashes", "lines"],
)
def test_what_is_over_the_packet_limit_is_refused_before_it_is_sent(
    limited: Persistence, mysql_server: MysqlServer, mysql_backend: Any, text: str
) -> None:
    before = _connections(mysql_server, mysql_backend)
    with pytest.raises(RecordTooLargeError) as raised:
        limited.sessions.add_message("session", message(text, id="large"))
    assert (raised.value.kind, raised.value.id, raised.value.limit) == ("message", "large", MIB)
    assert raised.value.size > MIB
    with pytest.raises(RecordTooLargeError):
        limited.sessions.add_messages("session", [message("small"), message(text)])
    with pytest.raises(RecordTooLargeError):
        limited.images.save(image(description=text))
    assert limited.sessions.add_message("session", message("small")) == 1
    assert _connections(mysql_server, mysql_backend) <= before


def test_what_is_larger_than_a_packet_by_now_is_listed(
    mysql_backend: Any, mysql_server: MysqlServer, request: pytest.FixtureRequest
) -> None:
    with mysql_backend.open() as persistence:
        images = [image(f"i{n}", description="x" * (n % 2) * 2 * MIB) for n in range(4)]
        items = [
            ItemRecord(
                namespace=("box", "notes"), key=f"k{n}", value="\x1e" * (1 + n % 2 * 2 * MIB)
            )
            for n in range(4)
        ]
        for record in images:
            persistence.images.save(record)
        for item in items:
            persistence.items.save(item)
    request.getfixturevalue("small_packets")
    with mysql_backend.open() as persistence:
        found = persistence.images.find_all(order="oldest")
        assert {each.image_id: each for each in found} == {each.image_id: each for each in images}
        page = persistence.images.find_page(size=3, cursor=None)
        rest = persistence.images.find_page(size=3, cursor=page.next_cursor)
        assert [*page.items, *rest.items] == persistence.images.find_all()
        listed = persistence.items.find_all(namespace_prefix=("box",))
        assert sorted(listed, key=lambda each: each.key) == items


@pytest.mark.parametrize("character", ["a", '"', "\\", "\n", "é", "\U0001f642", "\x00"], ids=ascii)
def test_what_is_just_below_the_packet_limit_arrives(
    limited: Persistence, mysql_server: MysqlServer, mysql_backend: Any, character: str
) -> None:
    before = _connections(mysql_server, mysql_backend)
    low, high = 1, MIB
    while high - low > 1:  # the longest that is accepted
        middle = (low + high) // 2
        try:
            limited.sessions.add_message("session", message(character * middle))
            low = middle
        except RecordTooLargeError:
            high = middle
    stored = limited.sessions.get_messages("session")
    assert max(len(str(each.content)) for each in stored if isinstance(each, UserMessage)) == low
    assert _connections(mysql_server, mysql_backend) <= before


def test_a_batch_larger_than_a_packet_is_sent_in_several(limited: Persistence) -> None:
    many = [message(str(number) + "x" * (MIB // 8)) for number in range(40)]
    assert limited.sessions.add_messages("session", many) == list(range(1, 41))
    assert texts(limited) == [each.content for each in many]


@pytest.mark.parametrize(
    "collation",
    ["utf8mb4_0900_ai_ci", "utf8mb4_general_ci", "utf8mb4_turkish_ci", "latin1_swedish_ci"],
)
def test_ids_and_names_are_exact_whatever_the_databases_collation_is(
    mysql_server: MysqlServer, collation: str
) -> None:
    charset = collation.partition("_")[0]
    mysql_server.recreate("agentx_collated", f"CHARACTER SET {charset} COLLATE {collation}")
    alike = ["A", "a", "é", "e", "E", "\U0001f642", "\U0001f643", "ß", "ss", "ı", "i", "I", "İ"]
    with create_persistence(mysql_server.driver("agentx_collated", migrate=True)) as persistence:
        for id in alike:
            persistence.containers.save(container(id, created_at=1))
            persistence.images.save(image(id, name=id, container_id=id, created_at=1))
            persistence.sessions.save(session(id, image_id=id, container_id=id))
            persistence.sessions.add_messages(id, [message(id, id=other) for other in alike])
        assert [each.container_id for each in persistence.containers.find_all()] == sorted(alike)
        for id in alike:
            assert [each.image_id for each in persistence.images.find_all(name=id)] == [id]
            assert [each.image_id for each in persistence.images.find_all(container_id=id)] == [id]
            assert texts(persistence, id) == [id] * len(alike)
        assert persistence.containers.delete("A")
        assert persistence.images.exists("a")
    mysql_server.execute("DROP DATABASE agentx_collated")


@pytest.mark.parametrize("own", ["address", "engine"])
def test_transactions_with_other_quotes_have_other_statements(
    mysql_server: MysqlServer, mysql_backend: Any, own: str
) -> None:
    url = mysql_server.url.set(
        drivername="mysql+pymysql", database=mysql_backend.options["database"]
    )
    quoting: dict[str, Any] = {"init_command": "SET sql_mode = 'ANSI_QUOTES'"}
    ansi = create_engine(url, connect_args=quoting)
    usual = create_engine(url)
    driver = mysql_driver(engine=ansi) if own == "engine" else mysql_backend.driver()
    item = ItemRecord(namespace=("box",), key="k", value=1)
    with create_persistence(driver) as persistence:
        for engine in (ansi, usual, ansi):
            persistence.items.save(item)
            with engine.begin() as connection:
                within = persistence.within(connection)
                assert within.items.find_all(namespace=("box",)) == [item]
                within.items.save(item)
            assert persistence.items.find_all(namespace=("box",)) == [item]
    ansi.dispose()
    usual.dispose()


def test_tls_is_used_where_the_server_has_it(mysql_server: MysqlServer, mysql_backend: Any) -> None:
    options = {**mysql_backend.options, "connect_args": {"ssl": {"verify_mode": "none"}}}
    with create_persistence(mysql_server.new_driver(**options)) as persistence:
        persistence.ping()
        database: Any = persistence._storage
        assert database._database.fetch("SHOW STATUS LIKE 'Ssl_cipher'")[0][1]


def test_a_lock_that_is_held_too_long_ends_in_an_error_and_changes_nothing(
    mysql_server: MysqlServer, mysql_backend: Any
) -> None:
    options = {**mysql_backend.options}
    options["connect_args"] = {
        **options["connect_args"],
        "init_command": "SET innodb_lock_wait_timeout = 1",
    }
    # It is repeated once.
    driver = mysql_server.new_driver(**options, retry_seconds=1.5)
    with create_persistence(driver) as persistence:
        saved_session(persistence)
        with mysql_server.connect(options["database"], autocommit=False) as other:
            other.cursor().execute("SELECT 1 FROM agentx_sessions FOR UPDATE")
            with pytest.raises(BackendUnavailableError):
                persistence.sessions.add_message("session", message())
        assert persistence.sessions.add_message("session", message("later")) == 1
        assert texts(persistence) == ["later"]


@pytest.mark.parametrize("given", ["url", "connect_args"])
@pytest.mark.parametrize(
    ("command", "bound"),
    [("SET @mine = 7", 3), ("SET @mine = 7, innodb_lock_wait_timeout = 4", 4)],
)
def test_a_command_of_the_user_runs_on_each_connection_beside_the_lock_timeout(
    mysql_server: MysqlServer, mysql_backend: Any, given: str, command: str, bound: int
) -> None:
    options: dict[str, Any] = {"connect_args": {"init_command": command}}
    url = mysql_server.url.set(database=mysql_backend.options["database"])
    if given == "url":
        url, options = url.update_query_dict({"init_command": command}), {}
    with create_persistence(mysql_driver(url, lock_timeout=3, **options)) as persistence:
        database: Any = persistence._storage
        asking = "SELECT @mine, @@innodb_lock_wait_timeout"
        assert database._database.fetch(asking)[0] == (7, bound)
