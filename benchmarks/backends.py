"""What is measured: each backend on a server of its own, beside raw code on the same connection.

A second connection that idles makes a server slower, so that two sides with one each would not be
measured alike. A file is not shared: each side has its own, in the same folder.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from agentx_persistence import Persistence, PersistenceDriver, create_persistence, memory_driver
from agentx_persistence._sql.documents import row_of
from agentx_persistence.fs import fs_driver
from agentx_persistence.mysql import mysql_driver
from agentx_persistence.postgresql import postgresql_driver
from agentx_persistence.redis import redis_driver
from agentx_persistence.sqlite import sqlite_driver
from benchmarks.raw.databases import RawMysql, RawPostgresql, RawSqlite
from benchmarks.raw.fs import RawFs
from benchmarks.raw.memory import RawMemory
from benchmarks.raw.redis import RawRedis
from tests.servers import mariadb, mysql, postgresql, redis


@dataclass(frozen=True)
class Contest:
    persistence: Persistence
    raw: Any  # see benchmarks/raw/__init__.py
    driver: PersistenceDriver
    open_raw: Callable[[], object]  # connects, asks something, closes
    version: str

    def fill(self, repository: Any, records: Sequence[Any]) -> None:
        """Save many records, to have something to measure on."""
        storage: Any = self.persistence._storage
        if not hasattr(storage, "_database"):
            for record in records:
                repository.save(record)
            return
        kind = repository.kind
        rows = [row_of(kind, repository._document(record)) for record in records]
        save = storage._documents._upsert(kind, rows[0])
        bound = [save.bind(row) for row in rows]
        storage._database.write(lambda cursor: cursor.executemany(save.sql, bound))


@contextmanager
def _sqlite(synchronous: Any, folder: Path) -> Iterator[Contest]:
    driver = sqlite_driver(folder / "ours.db", synchronous=synchronous)
    path = str(folder / "raw.db")
    raw = RawSqlite(path, synchronous)
    open_raw = lambda: RawSqlite(path, synchronous, make=False).close()  # noqa: E731
    version = f"SQLite {sqlite3.sqlite_version}, synchronous={synchronous}"
    with create_persistence(driver) as persistence:
        yield Contest(persistence, raw, driver, open_raw, version)
    raw.close()


@contextmanager
def _server(
    start: Callable[..., Any],
    make_driver: Callable[..., PersistenceDriver],
    make_raw: Callable[[Any], Any],
    version: Callable[[Any], str],
    folder: Path,
) -> Iterator[Contest]:
    server = start(folder, durable=True)
    try:
        server.recreate("bench")
        driver = make_driver(**server.options("bench"), migrate=True)
        with create_persistence(driver) as persistence:
            storage: Any = persistence._storage
            # The connection that the repositories use as long as one thread calls them.
            entry = storage._database.engine.pool.take()
            storage._database.engine.pool.give(entry)

            def open_raw() -> None:
                with server.connect("bench") as other:
                    other.cursor().execute("SELECT 1")

            connection = entry.dbapi_connection
            yield Contest(persistence, make_raw(connection), driver, open_raw, version(connection))
    finally:
        server.stop()


@contextmanager
def _redis(folder: Path) -> Iterator[Contest]:
    server = redis.start_server(folder, redis.redis_binary())
    try:
        with server.client() as client:
            driver = redis_driver(client=client)
            version = f"Redis {client.info('server')['redis_version']}"

            def open_raw() -> None:
                with server.client() as other:
                    other.ping()

            with create_persistence(driver) as persistence:
                yield Contest(persistence, RawRedis(client), driver, open_raw, version)
    finally:
        server.stop()


@contextmanager
def _alone(
    name: str,
    make_driver: Callable[..., PersistenceDriver],
    make_raw: Callable[..., Any],
    folder: Path,
) -> Iterator[Contest]:
    """Compare without a server: in memory, or in a folder for each side."""
    ours, raw = ([], []) if name == "memory" else ([folder / "ours"], [folder / "raw"])
    driver, made = make_driver(*ours), make_raw(*raw)
    with create_persistence(driver) as persistence:
        yield Contest(persistence, made, driver, raw[0].exists if raw else make_raw, name)


def _mysql(connection: Any) -> str:
    version: str = connection.get_server_info().removeprefix("5.5.5-")
    return f"MariaDB {version.partition('-')[0]}" if "MariaDB" in version else f"MySQL {version}"


def _postgresql(connection: Any) -> str:
    return f"PostgreSQL {connection.info.server_version // 10_000}"


BACKENDS: dict[str, Callable[[Path], AbstractContextManager[Contest]]] = {
    "sqlite-full": partial(_sqlite, "FULL"),
    "sqlite-normal": partial(_sqlite, "NORMAL"),
    "postgresql": partial(
        _server, postgresql.start_server, postgresql_driver, RawPostgresql, _postgresql
    ),
    "mariadb": partial(_server, mariadb.start_server, mysql_driver, RawMysql, _mysql),
    "mysql": partial(_server, mysql.start_server, mysql_driver, RawMysql, _mysql),
    "redis": _redis,
    "fs": partial(_alone, "fs", fs_driver, RawFs),
    "memory": partial(_alone, "memory", memory_driver, RawMemory),
}
