"""What is measured: each backend on a server of its own, beside raw code on the same connection.

A second connection that idles makes a server slower, so that two sides with one each would not be
measured alike. A file is not shared: each side has its own, in the same folder.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

from agentx_persistence import Persistence, PersistenceDriver, create_persistence, memory_driver
from agentx_persistence.fs import fs_driver
from agentx_persistence.mongodb import mongodb_driver
from agentx_persistence.redis import redis_driver
from agentx_persistence.sqlite import sqlite_driver
from benchmarks.measure import Operation, compare
from benchmarks.raw.local import RawFs, RawMemory
from benchmarks.raw.redis import RawRedis
from benchmarks.raw.sql import RawMysql, RawPostgresql, RawSqlite
from tests.servers.mongodb import Commands


@dataclass(frozen=True)
class Contest:
    persistence: Persistence
    raw: Any  # see benchmarks/raw/__init__.py
    driver: PersistenceDriver
    open_raw: Callable[[], object]  # connects, asks something, closes
    version: str
    measure: Callable[[Operation], dict[str, Any]] = compare

    def open_ours(self) -> None:
        create_persistence(self.driver).close()

    def save(self, kind: str, record: Any, row: Sequence[Any]) -> None:
        """Save it on both sides."""
        getattr(self.persistence, kind).save(record)
        self.raw.save(kind, *row)


@contextmanager
def started(name: str, folder: Path) -> Iterator[Any]:
    """Run a server of the tests in this folder; it is durable, as in production."""
    module = import_module(f"tests.servers.{name}")
    how: dict[str, Any] = {} if name == "mongodb" else {"durable": True}
    if name == "redis":  # which is durable by default
        how = {"binary": module.redis_binary()}
    server = module.start_server(folder, **how)
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def _sqlite(synchronous: Any, folder: Path) -> Iterator[Contest]:
    driver = sqlite_driver(folder / "ours.db", synchronous=synchronous)
    open_raw = partial(RawSqlite, str(folder / "raw.db"), synchronous)
    version = f"SQLite {sqlite3.sqlite_version}, synchronous={synchronous}"
    with create_persistence(driver) as persistence, closing(open_raw()) as raw:
        yield Contest(persistence, raw, driver, lambda: open_raw(make=False).close(), version)


@contextmanager
def _sql(name: str, raw: Callable[[Any], Any], title: str, folder: Path) -> Iterator[Contest]:
    with started(name, folder) as server:
        server.recreate("bench")

        def ask(question: str = "SELECT 1") -> Any:
            with server.connect("bench") as connection, connection.cursor() as cursor:
                cursor.execute(question)
                return cursor.fetchone()[0]

        (number,) = re.findall(r"^\D*([\d.]+)", ask("SELECT version()"))
        driver = server.driver("bench", migrate=True)
        with create_persistence(driver) as persistence:
            pool: Any = persistence._storage._database.engine.pool
            # The connection that the repositories use as long as one thread calls them.
            entry = pool.take()
            pool.give(entry)
            sides = persistence, raw(entry.dbapi_connection)
            yield Contest(*sides, driver, ask, f"{title} {number}")


@contextmanager
def _redis(folder: Path) -> Iterator[Contest]:
    with started("redis", folder) as server, server.client() as client:

        def open_raw() -> None:
            with server.client() as other:
                other.ping()

        driver = redis_driver(client=client)
        version = f"Redis {client.info('server')['redis_version']}"
        with create_persistence(driver) as persistence:
            yield Contest(persistence, RawRedis(client), driver, open_raw, version)


@contextmanager
def _mongodb(folder: Path) -> Iterator[Contest]:
    """Count commands: the server of the tests is too slow for times to mean anything."""
    commands = Commands()

    def count(operation: Operation) -> dict[str, Any]:
        for _ in range(3):  # what the first calls find out, others need not
            operation.calls()[0]()
        ours, _ = operation.calls()
        commands.sent.clear()
        ours()
        return {"operation": operation.name, "commands": len(commands.sent)}

    with started("mongodb", folder) as server:
        client = server.connect(event_listeners=[commands], w="majority")
        driver = mongodb_driver(client=client)
        with client, create_persistence(driver) as persistence:
            # The raw side does nothing here.
            yield Contest(persistence, MagicMock(), driver, MagicMock(), "MongoDB", count)


@contextmanager
def _alone(name: str, folder: Path) -> Iterator[Contest]:
    driver, raw, open_raw = memory_driver(), RawMemory(), RawMemory
    if name == "fs":
        driver, raw, open_raw = fs_driver(folder / "a"), RawFs(folder / "b"), (folder / "b").exists
    with create_persistence(driver) as persistence:
        yield Contest(persistence, raw, driver, open_raw, name)


BACKENDS: dict[str, Callable[[Path], AbstractContextManager[Contest]]] = {
    "sqlite-full": partial(_sqlite, "FULL"),
    "sqlite-normal": partial(_sqlite, "NORMAL"),
    "postgresql": partial(_sql, "postgresql", RawPostgresql, "PostgreSQL"),
    "mariadb": partial(_sql, "mariadb", RawMysql, "MariaDB"),
    "mysql": partial(_sql, "mysql", RawMysql, "MySQL"),
    "redis": _redis,
    "mongodb": _mongodb,
    "fs": partial(_alone, "fs"),
    "memory": partial(_alone, "memory"),
}
