"""The SQLite backend: one file, for many threads and processes of one machine."""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from agentx_persistence.errors import (
    BackendError,
    BackendUnavailableError,
    InvalidRecordError,
    MissingDependencyError,
)
from agentx_persistence.persistence import PersistenceDriver, Storage

try:
    from sqlalchemy import (
        URL,
        Column,
        ColumnElement,
        Engine,
        LargeBinary,
        Table,
        cast,
        create_engine,
        event,
        pool,
    )
    from sqlalchemy.dialects.sqlite import insert
    from sqlalchemy.engine.interfaces import DBAPICursor as Cursor
    from sqlalchemy.sql.dml import Insert
except ModuleNotFoundError as error:
    raise MissingDependencyError("sqlite", "sqlalchemy") from error

from agentx_persistence._sql import schema
from agentx_persistence._sql.appending import Appending
from agentx_persistence._sql.engine import Database
from agentx_persistence._sql.flavour import Flavour, replacement
from agentx_persistence._sql.storage import SqlStorage

_BUSY_SECONDS = 30.0


def sqlite_driver(
    path: str | os.PathLike[str],
    *,
    synchronous: Literal["FULL", "NORMAL", "EXTRA"] = "FULL",
    migrate: bool = True,
) -> PersistenceDriver:
    """Return the driver of a SQLite file, which is made, with its folder, if it does not exist.

    :param path: the file, or ``":memory:"`` for a database that is gone with the process
    :param synchronous: ``"FULL"`` keeps what was acknowledged through a power failure; with
        ``"NORMAL"``, which is faster, a power failure (not a crash of the process) can take the
        last messages, see https://www.sqlite.org/pragma.html#pragma_synchronous
    :param migrate: whether to bring the file's schema up to date on opening
    """
    if synchronous not in ("FULL", "NORMAL", "EXTRA"):
        raise InvalidRecordError("argument", "synchronous", "must be FULL, NORMAL or EXTRA")
    return _SqliteDriver(os.fspath(path), synchronous, migrate)


class _SqliteDriver(PersistenceDriver):
    def __init__(self, path: str, synchronous: str, migrate: bool) -> None:
        self._path, self._synchronous, self._migrate = path, synchronous, migrate

    def __repr__(self) -> str:
        return f"sqlite_driver({self._path!r})"

    def create_storage(self) -> Storage:
        in_memory = self._path == ":memory:"
        url = URL.create("sqlite", database=self._path)
        if not in_memory:
            try:
                Path(self._path).parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise BackendUnavailableError("sqlite", f"{self._path}: {error}") from error
        engine = create_engine(
            url,
            module=_sqlite_module(),
            connect_args={"timeout": _BUSY_SECONDS, "check_same_thread": False},
            poolclass=pool.QueuePool,
            # Each connection to ":memory:" would be a database of its own.
            **({"pool_size": 1, "max_overflow": 0} if in_memory else {}),
        )
        _configure(engine, self._synchronous, in_memory)
        database = Database(engine, _SqliteFlavour(self._path, in_memory), owned=True)
        try:
            revision = schema.current(database)
            if revision != schema.HEAD and self._migrate and revision in (None, *schema.REVISIONS):
                migrating = engine if in_memory else schema.migrating_engine(url)
                database.migrate(schema.upgrade, migrating)
                revision = schema.current(database)
            if problem := schema.problem(revision, url):
                raise problem
        except BaseException:
            database.close()
            raise
        return SqlStorage(database, Appending(database))


class _SqliteFlavour(Flavour):
    backend = "sqlite"
    # SQLite lets waiting writers sleep and retry, in no order; a lock of this process hands over
    # at once, and none of its threads starves. And it keeps account of file locks per process: a
    # child of a fork would believe that it has the locks which only its parent has
    # (https://www.sqlite.org/howtocorrupt.html#_carrying_an_open_database_across_a_fork_).
    in_process = True
    unit_isolation = None

    def __init__(self, place: str, in_memory: bool) -> None:
        super().__init__(place)
        self.in_memory = in_memory

    def begin(self, connection: Any, cursor: Cursor) -> None:
        # A deferred transaction that turns into a writing one is refused at once when another has
        # written meanwhile, without waiting (https://www.sqlite.org/lang_transaction.html).
        cursor.execute("BEGIN IMMEDIATE")

    def begin_unit(self, connection: Any) -> None:
        """`schema.begin_immediately` does it."""

    def upsert(self, table: Table, columns: Collection[str]) -> Insert:
        statement = insert(table)
        return statement.on_conflict_do_update(
            index_elements=list(table.primary_key),
            set_=replacement(table, columns, statement.excluded),
        )

    def is_transient(self, error: BaseException) -> bool:
        # The primary result code is the low byte; SQLITE_BUSY is 5, SQLITE_LOCKED is 6.
        return getattr(error, "sqlite_errorcode", 0) & 0xFF in (5, 6)

    def is_missing_table(self, error: BaseException) -> bool:
        return "no such table" in str(error)

    def body(self, column: Column[Any]) -> ColumnElement[Any]:
        # As bytes: the module would refuse to decode a damaged text, and with it the whole answer.
        return cast(column, LargeBinary)


def _sqlite_module() -> ModuleType:
    """Return a module with an SQLite new enough for ``RETURNING``."""
    try:
        import sqlite3 as module
    except ModuleNotFoundError:
        module = None  # type: ignore[assignment]
    if module is None or module.sqlite_version_info < (3, 35):
        try:
            import pysqlite3 as module  # type: ignore[import-not-found, no-redef]
        except ModuleNotFoundError as error:
            raise MissingDependencyError("sqlite", "pysqlite3") from error
    return module


def _configure(engine: Engine, synchronous: str, in_memory: bool) -> None:
    schema.begin_immediately(engine)
    journal = "memory" if in_memory else "wal"

    @event.listens_for(engine, "connect")
    def _on_connect(connection: Any, record: object) -> None:
        _switch_journal(connection, journal)
        for pragma, value, shown in (
            ("foreign_keys", "ON", 1),
            ("synchronous", synchronous, ("OFF", "NORMAL", "FULL", "EXTRA").index(synchronous)),
        ):
            connection.execute(f"PRAGMA {pragma} = {value}")
            _verify(connection, pragma, shown)


def _switch_journal(connection: Any, journal: str) -> None:
    # The switch to WAL does not wait for a lock as other statements do: two processes that open a
    # new file at the same moment meet here (https://www.sqlite.org/wal.html).
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute(f"PRAGMA journal_mode = {journal}")
            break
        except Exception as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in (5, 6):
                raise
            if time.monotonic() > deadline:
                raise
        time.sleep(0.01)
    _verify(connection, "journal_mode", journal)


def _verify(connection: Any, pragma: str, expected: object) -> None:
    (found,) = connection.execute(f"PRAGMA {pragma}").fetchone()
    if found != expected:
        raise BackendError("sqlite", f"PRAGMA {pragma} is {found!r}, not {expected!r}")
