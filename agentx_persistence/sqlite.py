"""The SQLite backend: one file, for many threads and processes of one machine."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

from agentx_persistence.errors import (
    BackendError,
    ConfigurationError,
    InvalidRecordError,
    MissingDependencyError,
)
from agentx_persistence.storage import PersistenceDriver, Storage

try:
    from sqlalchemy import (
        URL,
        Column,
        ColumnElement,
        Connection,
        Engine,
        LargeBinary,
        Table,
        cast,
        create_engine,
        event,
        func,
        pool,
    )
    from sqlalchemy.dialects.sqlite import insert
    from sqlalchemy.engine.interfaces import DBAPICursor as Cursor
    from sqlalchemy.sql.dml import Insert
except ModuleNotFoundError as error:
    raise MissingDependencyError("sqlite", "sqlalchemy") from error

from agentx_persistence._sql import schema
from agentx_persistence._sql.engine import Database
from agentx_persistence._sql.flavour import Flavour, replacement
from agentx_persistence._sql.kept import KeptConnections
from agentx_persistence._sql.locking_rewriting import LockingRewriting
from agentx_persistence._sql.sqlite_library import begin_immediately, sqlite_module
from agentx_persistence._sql.storage import SqlStorage

# SQLITE_PERM, SQLITE_READONLY, SQLITE_CANTOPEN, SQLITE_NOTADB
_MISCONFIGURED = {
    3: "check the rights on the file and its folder",
    8: "the file and its folder must be writable",
    14: "check that the path is that of a file, and the rights on it and its folder",
    26: "give the path of a SQLite database, or of a file that does not exist yet",
}


def sqlite_driver(
    path: str | os.PathLike[str],
    *,
    synchronous: Literal["FULL", "NORMAL", "EXTRA"] = "FULL",
    migrate: bool = True,
    timeout: float = 30.0,
) -> PersistenceDriver:
    """Return the driver of a SQLite file. The file and its folder are created if they do not exist.

    :param path: the file, or ``":memory:"`` for a database that is lost when the storage is closed
    :param synchronous: with ``"FULL"``, acknowledged changes survive a power failure. With
        ``"NORMAL"``, which is faster, a power failure (not a crash of the process) can undo the
        latest ones, see https://www.sqlite.org/pragma.html#pragma_synchronous
    :param migrate: whether to bring the file's schema up to date on opening
    :param timeout: how many seconds a writing call waits for other writers; then it raises
        `BackendUnavailableError`. Reading waits for no writer
    """
    if synchronous not in ("FULL", "NORMAL", "EXTRA"):
        raise InvalidRecordError("argument", "synchronous", "must be FULL, NORMAL or EXTRA")
    if not isinstance(timeout, (int, float)) or not timeout >= 0:
        raise InvalidRecordError("argument", "timeout", f"must be seconds, not {timeout!r}")
    if migrate not in (True, False):
        raise InvalidRecordError("argument", "migrate", f"must be True or False, not {migrate!r}")
    return _SqliteDriver(_check_path(path), synchronous, migrate, timeout)


def driver_from_url(url: str, **options: Any) -> PersistenceDriver:
    """Return the driver of ``sqlite:///file.db``, or of ``sqlite://``, a database in memory."""
    return sqlite_driver(schema.parse_url(url).database or ":memory:", **options)


def _check_path(path: str | os.PathLike[str]) -> str:
    text = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(text, str) or "\0" in text or not os.path.basename(text):
        wrong = "must be the path of a file, such as 'data/agentx.db'"
    elif text.startswith("sqlite:"):
        wrong = "must be a path; give a URL to create_persistence"
    elif text.startswith("file:"):
        wrong = "must be a path, not a URI"
    elif text.split(os.sep)[0].startswith("~"):
        wrong = "~ is not replaced; give os.path.expanduser(path), or ./~ for such a folder"
    else:
        return text
    raise InvalidRecordError("argument", "path", wrong)


class _SqliteDriver(PersistenceDriver):
    def __init__(self, path: str, synchronous: str, migrate: bool, timeout: float) -> None:
        self._path, self._synchronous = path, synchronous
        self._migrate, self._timeout = migrate, timeout

    def __repr__(self) -> str:
        return f"sqlite_driver({self._path!r})"

    def create_storage(self) -> Storage:
        in_memory = self._path == ":memory:"
        url = URL.create("sqlite", database=self._path)
        if not in_memory:
            _prepare_place(Path(self._path))
        engine = create_engine(
            url,
            module=sqlite_module(),
            connect_args={"timeout": self._timeout, "check_same_thread": False},
            # Each connection to ":memory:" would be a database of its own.
            poolclass=pool.StaticPool if in_memory else pool.NullPool,
            pool_reset_on_return=None,
        )
        _configure(engine, self._synchronous, in_memory, self._timeout, self._migrate)
        flavour = _SqliteFlavour(self._path)
        connections = KeptConnections(
            engine, flavour, path=None if in_memory else self._path, timeout=self._timeout
        )
        database = Database(engine, flavour, connections)
        try:
            ((encoding,),) = database.fetch("PRAGMA encoding")
            if encoding != "UTF-8":
                raise ConfigurationError(
                    "sqlite",
                    f"{self._path} is in {encoding}; give a file in UTF-8; to convert it, read the"
                    " output of sqlite3's .dump into a new file",
                )
            revision = schema.current(database)
            if revision != schema.HEAD and self._migrate and revision in (None, *schema.REVISIONS):
                migrating = (
                    engine
                    if in_memory
                    else schema.migrating_engine(url, connect_args={"timeout": self._timeout})
                )
                database.migrate(schema.upgrade, migrating)
                revision = schema.current(database)
            if problem := schema.problem(revision, url):
                raise problem
        except BaseException:
            database.close()
            raise
        return SqlStorage(database, rewriting=LockingRewriting)


def _prepare_place(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        is_other = path.exists() and not path.is_file()
        is_index = path.name == "index.sqlite3" and path.with_name("index.stamp").exists()
    except OSError as error:
        raise ConfigurationError("sqlite", f"{path}: {error}") from error
    if is_other:  # SQLite would report a device as broken
        reason = "check that the path is that of a file; this is a folder or a device"
        raise ConfigurationError("sqlite", f"{path}: {reason}")
    if is_index:
        reason = f"the index of a filesystem store, which can rebuild it; open file://{path.parent}"
        raise ConfigurationError("sqlite", f"{path} is {reason}")


class _SqliteFlavour(Flavour):
    backend = "sqlite"
    in_process = True
    unit_isolation = None
    takes_one_bound = True
    # Long enough for waiting writers of other processes, which try again every millisecond or so
    # (see `KeptConnections`), to get the lock between two chunks.
    rest = 0.015

    def begin(self, connection: Any, cursor: Cursor) -> None:
        # A transaction that begins as a reading one cannot write, and does not wait, after another
        # one has written (https://www.sqlite.org/lang_transaction.html).
        cursor.execute("BEGIN IMMEDIATE")

    def begin_joined(self, connection: Connection) -> None:
        driver: Any = connection.connection.driver_connection
        if driver.in_transaction:
            return
        # In AUTOCOMMIT, nobody would commit the transaction that is begun here. The module's
        # `isolation_level` does not show that: it is also None if a listener begins transactions.
        # Python 3.12 has `autocommit`.
        if connection._is_autocommit_isolation() or getattr(driver, "autocommit", None) is True:
            self.refuse_autocommit()
        # The first statement would call the listeners to "begin", and one of them may begin a
        # transaction right before it.
        if not connection.in_transaction():
            connection.begin()
        # A savepoint as the first statement would begin a transaction, and its release would commit
        # that.
        if not driver.in_transaction:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    def upsert(self, table: Table, columns: Collection[str]) -> Insert:
        statement = insert(table)
        return statement.on_conflict_do_update(
            index_elements=list(table.primary_key),
            set_=replacement(table, columns, statement.excluded),
        )

    def is_transient(self, error: BaseException) -> bool:
        # The primary result code is the low byte; SQLITE_BUSY is 5, SQLITE_LOCKED is 6.
        return _code(error) in (5, 6)

    def misconfigured(self, error: BaseException) -> str:
        return _MISCONFIGURED.get(_code(error), "")

    def is_missing_table(self, error: BaseException) -> bool:
        return "no such table" in str(error)

    def body(self, column: Column[Any]) -> ColumnElement[Any]:
        # Read as bytes, because sqlite3 raises for a text that is not UTF-8, and so the answer's
        # other rows could not be read either.
        return cast(column, LargeBinary)

    def later(self, one: ColumnElement[Any], other: ColumnElement[Any]) -> ColumnElement[Any]:
        return func.max(one, other)

    def earlier(self, one: ColumnElement[Any], other: ColumnElement[Any]) -> ColumnElement[Any]:
        return func.min(one, other)


def _code(error: BaseException) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _configure(
    engine: Engine, synchronous: str, in_memory: bool, timeout: float, migrate: bool
) -> None:
    begin_immediately(engine)
    journal = "memory" if in_memory else "wal"

    @event.listens_for(engine, "connect")
    def _on_connect(connection: Any, record: object) -> None:
        if not (migrate or _has_tables(connection)):
            return  # opening fails, and leaves the file of another application as it was
        _switch_journal(connection, journal, timeout)
        for pragma, value, shown in (
            ("foreign_keys", "ON", 1),
            # On macOS, a write may otherwise stay in the drive's cache.
            *([("fullfsync", "ON", 1)] if sys.platform == "darwin" else []),
            ("synchronous", synchronous, ("OFF", "NORMAL", "FULL", "EXTRA").index(synchronous)),
        ):
            connection.execute(f"PRAGMA {pragma} = {value}").close()
            _verify(connection, pragma, shown)


def _has_tables(connection: Any) -> bool:
    cursor = connection.execute(f"PRAGMA table_info({schema.VERSION_TABLE})")
    found = cursor.fetchone()
    cursor.close()
    return found is not None


def _switch_journal(connection: Any, journal: str, timeout: float) -> None:
    # The switch to WAL does not wait for a lock as other statements do, so it fails if two
    # processes open a new file at the same moment (https://www.sqlite.org/wal.html).
    deadline = time.monotonic() + timeout
    while True:
        try:
            connection.execute(f"PRAGMA journal_mode = {journal}").close()
            break
        except Exception as error:
            if _code(error) not in (5, 6) or time.monotonic() > deadline:
                raise
        time.sleep(0.01)
    _verify(connection, "journal_mode", journal)


def _verify(connection: Any, pragma: str, expected: object) -> None:
    cursor = connection.execute(f"PRAGMA {pragma}")
    (found,) = cursor.fetchone()
    cursor.close()
    if found != expected:
        raise BackendError("sqlite", f"PRAGMA {pragma} is {found!r}, not {expected!r}")
