"""A planned switchover behind one address, as a proxy or a DNS name gives it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from agentx_persistence import PersistenceDriver, create_persistence
from agentx_persistence.mysql import mysql_driver
from agentx_persistence.postgresql import postgresql_driver
from agentx_persistence.redis import redis_driver
from tests.contract.records import saved_session, texts
from tests.drivers.test_redis_crashes import Writer
from tests.servers.nodes import wait_until
from tests.servers.postgresql_standby import PostgresqlPair
from tests.servers.process import server_folder
from tests.servers.proxy import Proxy
from tests.servers.redis import RedisServer, redis_binary, start_server
from tests.servers.replication import ReplicatedMysql

_DATABASE = "agentx_switched"
_USER, _PASSWORD = "application", "application"

# A server's address, how a driver reaches it by another port, and how it is replaced.
_Engine = tuple[int, Callable[[int], PersistenceDriver], Callable[[], int]]


@contextmanager
def _mysql(name: str, folder: Path) -> Iterator[_Engine]:
    pair = ReplicatedMysql(name, folder)
    try:
        server = pair.primary
        server.recreate(_DATABASE)
        create_persistence(server.driver(_DATABASE, migrate=True)).close()
        # An administrator may write to a server that is read-only.
        server.create_application(_USER, _PASSWORD, _DATABASE)
        options = {**server.options(_DATABASE), "user": _USER, "password": _PASSWORD}
        yield (
            server.url.port or 0,
            lambda port: mysql_driver(**{**options, "port": port}),
            lambda: pair.switch_over().url.port or 0,
        )
    finally:
        pair.stop()


@contextmanager
def _postgresql(name: str, folder: Path) -> Iterator[_Engine]:
    pair = PostgresqlPair(folder)

    def switch_over() -> int:
        pair.processes[0].stop()
        pair.take_over(0)
        return pair.servers[1].url.port or 0

    try:
        server = pair.servers[0]
        server.recreate(_DATABASE)
        create_persistence(server.driver(_DATABASE, migrate=True)).close()
        options = server.options(_DATABASE)
        yield (
            server.url.port or 0,
            lambda port: postgresql_driver(**{**options, "port": port}),
            switch_over,
        )
    finally:
        pair.stop()


@contextmanager
def _redis(name: str, folder: Path) -> Iterator[_Engine]:
    homes = [folder / each for each in ("one", "two")]
    for home in homes:
        home.mkdir()
    old = start_server(homes[0], redis_binary(), repl_diskless_sync_delay=0)
    try:
        new = start_server(homes[1], redis_binary(), replicaof=("127.0.0.1", _port(old)))
        try:
            yield (
                _port(old),
                lambda port: redis_driver(f"redis://127.0.0.1:{port}"),
                lambda: _fail_over(old, new),
            )
        finally:
            new.stop()
    finally:
        old.stop()


def _fail_over(old: RedisServer, new: RedisServer) -> int:
    with old.client() as client, new.client() as other:
        replica = lambda: client.info("replication")["slave0"]["state"]  # noqa: E731
        wait_until(lambda: replica() == "online", "a replica that is online")
        client.execute_command("FAILOVER", "TO", "127.0.0.1", _port(new))
        while other.role()[0] != b"master":
            pass
    return _port(new)


def _port(server: RedisServer) -> int:
    return urlsplit(server.url).port or 0


_ENGINES: dict[str, Any] = {
    "mysql": _mysql,
    "mariadb": _mysql,
    "postgresql": _postgresql,
    "redis": _redis,
}


@pytest.mark.parametrize("name", _ENGINES)
def test_a_planned_switchover_costs_an_application_only_time(name: str) -> None:
    with server_folder(name) as folder, _ENGINES[name](name, folder) as (port, driver, switch_over):
        proxy = Proxy("127.0.0.1", port)
        with proxy.open(), create_persistence(driver(proxy.port)) as persistence:
            saved_session(persistence)
            writer = Writer(persistence)
            writer.start()
            writer.wait_for_more()
            proxy.lead_to("127.0.0.1", switch_over())
            writer.wait_for_more()
            acknowledged = writer.end()
            assert writer.errors == []
            assert texts(persistence) == acknowledged
