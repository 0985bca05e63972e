"""What is measured: each backend on a server of its own, beside raw code on the same connection.

A second connection that idles makes a server slower, so that two sides with one each would not be
measured alike. A file is not shared: each side has its own, in the same folder.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from agentx_persistence import (
    ImageRecord,
    Persistence,
    PersistenceDriver,
    create_persistence,
    memory_driver,
)
from agentx_persistence._sql.documents import row_of
from agentx_persistence.fs import fs_driver
from agentx_persistence.mysql import mysql_driver
from agentx_persistence.postgresql import postgresql_driver
from agentx_persistence.redis import redis_driver
from agentx_persistence.sqlite import sqlite_driver
from agentx_persistence.storage import IMAGES
from benchmarks.raw.fs import RawFs
from benchmarks.raw.memory import RawMemory
from benchmarks.raw.mysql import RawMysql
from benchmarks.raw.postgresql import RawPostgresql
from benchmarks.raw.redis import RawRedis
from benchmarks.raw.sqlite import RawSqlite
from benchmarks.raw.store import RawStore
from tests.servers import mariadb, mysql, postgresql, redis


@dataclass(frozen=True)
class Contest:
    persistence: Persistence
    raw: RawStore
    driver: PersistenceDriver
    open_raw: Callable[[], object]  # connects, asks something, closes
    version: str
    # Saves many images, to have something to measure on.
    fill: Callable[[Sequence[ImageRecord]], object]


def _sqlite(
    synchronous: Literal["FULL", "NORMAL"],
) -> Callable[[Path], AbstractContextManager[Contest]]:
    @contextmanager
    def contest(folder: Path) -> Iterator[Contest]:
        driver = sqlite_driver(folder / "ours.db", synchronous=synchronous)
        path = str(folder / "raw.db")
        raw = RawSqlite(path, synchronous)
        with create_persistence(driver) as persistence:
            yield Contest(
                persistence,
                raw,
                driver,
                lambda: RawSqlite(path, synchronous, make=False).close(),
                f"SQLite {sqlite3.sqlite_version}, synchronous={synchronous}",
                _filler(persistence),
            )
        raw.close()

    return contest


@contextmanager
def _postgresql(folder: Path) -> Iterator[Contest]:
    server = postgresql.start_server(folder, durable=True)
    try:
        server.recreate("bench")
        options = server.options("bench")
        driver = postgresql_driver(**options, migrate=True)
        with create_persistence(driver) as persistence:
            connection = _connection(persistence)
            version = f"PostgreSQL {connection.info.server_version // 10_000}"

            def open_raw() -> None:
                with server.connect("bench") as other:
                    other.execute("SELECT 1").fetchall()

            raw = RawPostgresql(connection)
            yield Contest(persistence, raw, driver, open_raw, version, _filler(persistence))
    finally:
        server.stop()


def _mysql(
    start: Callable[..., mysql.MysqlServer],
) -> Callable[[Path], AbstractContextManager[Contest]]:
    @contextmanager
    def contest(folder: Path) -> Iterator[Contest]:
        server = start(folder, durable=True)
        try:
            server.recreate("bench")
            driver = mysql_driver(**server.options("bench"), migrate=True)
            with create_persistence(driver) as persistence:
                connection = _connection(persistence)

                def open_raw() -> None:
                    with server.connect("bench") as other:
                        other.cursor().execute("SELECT 1")

                version = connection.get_server_info()
                raw = RawMysql(connection)
                yield Contest(persistence, raw, driver, open_raw, version, _filler(persistence))
        finally:
            server.stop()

    return contest


@contextmanager
def _redis(folder: Path) -> Iterator[Contest]:
    server = redis.start_server(folder, redis.redis_binary())
    try:
        with server.client() as client:
            driver = redis_driver(client=client)
            with create_persistence(driver) as persistence:
                version = f"Redis {client.info('server')['redis_version']}"

                def open_raw() -> None:
                    with server.client() as other:
                        other.ping()

                raw = RawRedis(client)
                yield Contest(persistence, raw, driver, open_raw, version, _saver(persistence))
    finally:
        server.stop()


@contextmanager
def _fs(folder: Path) -> Iterator[Contest]:
    driver = fs_driver(folder / "ours")
    raw = RawFs(folder / "raw")
    with create_persistence(driver) as persistence:
        nothing = (folder / "raw").exists
        yield Contest(persistence, raw, driver, nothing, "the filesystem", _saver(persistence))


@contextmanager
def _memory(folder: Path) -> Iterator[Contest]:
    driver = memory_driver()
    with create_persistence(driver) as persistence:
        yield Contest(persistence, RawMemory(), driver, RawMemory, "memory", _saver(persistence))


def _connection(persistence: Persistence) -> Any:
    """Return the connection that the repositories use as long as one thread calls them."""
    storage: Any = persistence._storage
    pool = storage._database.engine.pool
    entry = pool.take()
    pool.give(entry)
    return entry.dbapi_connection


def _saver(persistence: Persistence) -> Callable[[Sequence[ImageRecord]], object]:
    def save(images: Sequence[ImageRecord]) -> None:
        for image in images:
            persistence.images.save(image)

    return save


def _filler(persistence: Persistence) -> Callable[[Sequence[ImageRecord]], object]:
    storage: Any = persistence._storage

    def fill(images: Sequence[ImageRecord]) -> None:
        rows = [row_of(IMAGES, persistence.images._document(image)) for image in images]
        save = storage._documents._upsert(IMAGES, rows[0])
        bound = [save.bind(row) for row in rows]
        storage._database.write(lambda cursor: cursor.executemany(save.sql, bound))

    return fill


BACKENDS: dict[str, Callable[[Path], AbstractContextManager[Contest]]] = {
    "sqlite-full": _sqlite("FULL"),
    "sqlite-normal": _sqlite("NORMAL"),
    "postgresql": _postgresql,
    "mariadb": _mysql(mariadb.start_server),
    "mysql": _mysql(mysql.start_server),
    "redis": _redis,
    "fs": _fs,
    "memory": _memory,
}
