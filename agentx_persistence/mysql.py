"""The MySQL backend: MySQL 8.4 and newer, MariaDB 10.6 and newer."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from agentx_persistence.errors import (
    ConfigurationError,
    InvalidRecordError,
    MissingDependencyError,
    RecordTooLargeError,
)
from agentx_persistence.storage import PersistenceDriver

try:
    import pymysql
except ModuleNotFoundError as error:
    raise MissingDependencyError("mysql", "pymysql") from error

try:
    from sqlalchemy import (
        URL,
        Column,
        ColumnElement,
        Connection,
        Engine,
        Select,
        Table,
        and_,
        create_engine,
        event,
        func,
        or_,
    )
    from sqlalchemy.dialects.mysql import insert
    from sqlalchemy.engine.interfaces import DBAPICursor as Cursor
    from sqlalchemy.sql import ClauseElement
    from sqlalchemy.sql.dml import Insert
except ModuleNotFoundError as error:
    raise MissingDependencyError("mysql", "sqlalchemy") from error

from agentx_persistence._sql import hosts
from agentx_persistence._sql.flavour import Flavour, replacement
from agentx_persistence._sql.pool import ServerPool
from agentx_persistence._sql.server import ServerDriver, check_numbers, server_url

# What a client escapes as two bytes
# (https://dev.mysql.com/doc/c-api/en/mysql-real-escape-string.html).
_ESCAPED = re.compile("[\0\n\r\x1a\"'\\\\]")
# Too many connections (two codes), a lock wait that timed out, a deadlock (at COMMIT: 1180), a row
# that changed after the snapshot of a MariaDB transaction, a transaction that another node of a
# group refused.
_TRANSIENT = {1040, 1203, 1205, 1213, 1180, 1020, 3101}
# A connection that PyMySQL has closed, a server that is shutting down, an unknown command (from a
# Galera node without a quorum), a killed session (two codes), a server that has become read-only
# (two codes).
_LOST = {0, 1053, 1047, 1927, 3169, 1290, 1836}
_RIGHTS = "check user and password, and what is granted to the user"
_MISCONFIGURED: dict[object, str] = {
    **dict.fromkeys((1044, 1045, 1142, 1143, 1227, 1370, 1698), _RIGHTS),
    1049: "create the database first",
    1251: "the client library does not know how this user authenticates",
    2059: "the client library does not know how this user authenticates",
}
# An upper bound for the length of a statement without its values.
_STATEMENT = 4096


def mysql_driver(
    url: str | URL | None = None,
    *,
    host: str = "localhost",
    port: int = 3306,
    user: str | None = None,
    password: str | None = None,
    database: str | None = None,
    migrate: bool = False,
    pool_size: int = 5,
    max_overflow: int = 10,
    pool_timeout: float = 30.0,
    pool_recycle: int = 1800,
    connect_timeout: int = 3,
    lock_timeout: int = 10,
    answer_timeout: float | None = 60.0,
    retry_seconds: float = 12.0,
    opening_timeout: float = 60.0,
    connect_args: Mapping[str, Any] | None = None,
    engine: Engine | None = None,
) -> PersistenceDriver:
    """Return the driver of a MySQL or MariaDB database, whatever its default collation is.

    :param url: ``mysql://user:password@host:port/database?ssl_ca=ca.pem``, with special characters
        percent-encoded. It uses PyMySQL; ``mysql+mysqldb://…`` and the like use another client
        library. Without `url`, the address consists of `host`, `port`, `user`, `password` and
        `database`, in which special characters are written as they are
    :param migrate: whether to bring the schema up to date on opening; the user must be allowed to
        create tables
    :param pool_size: how many connections are kept. While all are in use, up to `max_overflow` more
        are opened; after that a call waits up to `pool_timeout` seconds for one
    :param pool_recycle: seconds after which a connection is replaced
    :param connect_timeout: for how many seconds connecting to one host is tried
    :param lock_timeout: how many seconds a statement waits for a row that another transaction has
        locked (``innodb_lock_wait_timeout``)
    :param answer_timeout: how many seconds the server may be silent during a statement, after which
        the connection is closed. Set it above `lock_timeout`. ``None`` means no limit
    :param retry_seconds: how long after its start a call is repeated after a deadlock or a lost
        connection, or while the server is down; then it raises `BackendUnavailableError`
    :param opening_timeout: how many seconds opening waits for a server that has no free connection,
        and for other processes that upgrade the schema
    :param connect_args: further arguments of ``pymysql.connect``, such as ``ssl`` or
        ``unix_socket``
    :param engine: the caller's own engine, instead of an address. It is never closed. The arguments
        about connections and their pool do not apply to it
    """
    check_numbers(
        {
            "port": port,
            "pool_size": pool_size,
            "pool_timeout": pool_timeout,
            "connect_timeout": connect_timeout,
            "lock_timeout": lock_timeout,
            "retry_seconds": retry_seconds,
        }
    )
    address = server_url(("mysql", "mariadb"), engine, url, host, port, user, password, database)
    arguments: dict[str, Any] = {
        "charset": "utf8mb4",
        "init_command": f"SET SESSION innodb_lock_wait_timeout = {lock_timeout}",
    }
    # Other client libraries name these time-outs differently.
    if address.get_driver_name() in ("pymysql", "mysqldb"):
        timeouts: dict[str, Any] = {"connect_timeout": connect_timeout}
        if answer_timeout is not None:
            # mysqlclient takes whole seconds
            seconds = max(1, math.ceil(answer_timeout))
            timeouts |= {"read_timeout": seconds, "write_timeout": seconds}
        arguments |= {name: each for name, each in timeouts.items() if name not in address.query}
    options = {
        "pool_size": pool_size,
        "max_overflow": max_overflow,
        "pool_timeout": pool_timeout,
        "pool_recycle": pool_recycle,
        "connect_args": {**arguments, **(connect_args or {})},
    }
    return _MysqlDriver(address, engine, migrate, options, retry_seconds, opening_timeout)


def driver_from_url(url: str, **options: Any) -> PersistenceDriver:
    """Return the driver that `mysql_driver` makes of this URL and these options."""
    return mysql_driver(url, **options)


class _MysqlFlavour(Flavour):
    backend = "mysql"
    packet_limit = 0

    def check(self, cursor: Any) -> None:
        cursor.execute(
            "SELECT @@max_allowed_packet, @@character_set_client, @@character_set_results"
        )
        self.packet_limit, *found = cursor.fetchone()
        if found != ["utf8mb4", "utf8mb4"]:
            raise ConfigurationError(
                self.backend,
                f"the connection's character set is {found[0]}; set charset=utf8mb4 in the URL or"
                " in the engine's connect_args",
            )

    # A connection's autocommit mode is changed only if the next use needs the other mode. So a
    # single read takes one round trip, without a COMMIT, and a transaction begins with its first
    # statement, without the round trip of a BEGIN.

    def autocommit(self, connection: Any) -> None:
        _set_autocommit(connection, True)

    def begin(self, connection: Any, cursor: Cursor) -> None:
        _set_autocommit(connection, False)

    def begin_joined(self, connection: Connection) -> None:
        driver: Any = connection.connection.driver_connection
        # PyMySQL and mysqlclient have a method; other client libraries have an attribute.
        known = getattr(driver, "get_autocommit", None)
        if known() if known else driver.autocommit:
            self.refuse_autocommit()

    def upsert(self, table: Table, columns: Collection[str]) -> Insert:
        statement = insert(table)
        return statement.on_duplicate_key_update(replacement(table, columns, statement.inserted))

    def comes_after(
        self, columns: list[Column[Any]], values: list[ColumnElement[Any]], *, reverse: bool
    ) -> ColumnElement[bool]:
        # For (a, b) > (x, y) MySQL reads the index from its start
        # (https://dev.mysql.com/doc/refman/8.4/en/row-constructor-optimization.html).
        comes = operator.lt if reverse else operator.gt
        after: ColumnElement[bool] = comes(columns[-1], values[-1])
        for column, value in zip(columns[-2::-1], values[-2::-1], strict=True):
            after = or_(comes(column, value), and_(column == value, after))
        return after

    def from_index(self, listing: Select[Any], table: Table, index: str) -> Select[Any]:
        # Without this hint, MariaDB reads all rows with the filter's value and skips those before
        # the page. With it, MariaDB starts to read at the page.
        for name in ("mysql", "mariadb"):
            listing = listing.with_hint(table, f"FORCE INDEX ({index})", name)
        return listing

    # MySQL has no UPDATE … RETURNING. LAST_INSERT_ID(x) returns x in the answer to the UPDATE
    # (https://dev.mysql.com/doc/refman/8.4/en/information-functions.html).

    def added(self, count: Column[Any], number: ColumnElement[Any]) -> ColumnElement[Any]:
        return func.last_insert_id(count + number)

    def returning_count(self, reserve: Any, count: Column[Any]) -> ClauseElement:
        statement: ClauseElement = reserve
        return statement

    def count_after(self, cursor: Any) -> int | None:
        return cursor.lastrowid if cursor.rowcount else None

    def prepare_many(self, cursor: Any) -> None:
        # PyMySQL and mysqlclient combine rows into statements of up to this length.
        limit = self.packet_limit
        cursor.max_stmt_length = min(getattr(cursor, "max_stmt_length", limit), limit)

    def check_size(self, kind: str, id: str, values: Iterable[Any]) -> None:
        texts = [value for value in values if isinstance(value, str)]
        # An upper bound: 4 bytes a character, each of them escaped. Nearly all records are below
        # it, which saves computing their exact size.
        if _STATEMENT + 8 * sum(map(len, texts)) <= self.packet_limit:
            return
        size = _STATEMENT + sum(len(text.encode()) + len(_ESCAPED.findall(text)) for text in texts)
        if size > self.packet_limit:
            raise RecordTooLargeError(kind, id, size, self.packet_limit)

    def is_transient(self, error: BaseException) -> bool:
        # https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html
        return _code(error) in _TRANSIENT

    def is_undone(self, error: BaseException) -> bool:
        # COMMIT raises 1180 after a deadlock between nodes, which undoes the transaction, but also
        # when a node loses contact with the others, after which the outcome is unknown.
        return self.is_transient(error) and (_code(error) != 1180 or "deadlock" in str(error))

    def is_lost(self, error: BaseException) -> bool:
        return _code(error) in _LOST

    def misconfigured(self, error: BaseException) -> str:
        return _MISCONFIGURED.get(_code(error), "")

    def is_missing_table(self, error: BaseException) -> bool:
        return _code(error) == 1146  # ER_NO_SUCH_TABLE


class _MysqlDriver(ServerDriver):
    backend = "mysql"
    flavour = _MysqlFlavour

    def create_engine(self) -> Engine:
        own = self.url.get_driver_name() == "pymysql"
        try:
            engine = create_engine(
                self.url,
                module=pymysql if own else None,
                # In REPEATABLE READ, InnoDB locks gaps between rows, so that writers of different
                # sessions block each other, and a read after a wait shows the data from before it.
                isolation_level="READ COMMITTED",
                poolclass=ServerPool,
                # A rollback costs a round trip even with nothing to undo. This package ends every
                # transaction that it begins, or invalidates the connection.
                pool_reset_on_return=None,
                **self.options,
            )
        except ModuleNotFoundError as error:
            raise InvalidRecordError(
                "argument", "url", f"{self.url.drivername} is not installed"
            ) from error
        hosts.prepare_connecting(engine)
        _read_what_others_wrote(engine)
        return engine


def _read_what_others_wrote(engine: Engine) -> None:
    """Make each statement on a Galera cluster wait until its node has all earlier commits.

    Otherwise a read misses what another node has just acknowledged, and a session that was just
    created there does not exist. Only the first connection is asked whether it is on a cluster, as
    all hosts of a URL belong to the same one.
    """
    found: list[bool] = []

    @event.listens_for(engine, "connect")
    def _wait(connection: Any, record: object) -> None:
        cursor = connection.cursor()
        if not found:
            cursor.execute("SHOW VARIABLES LIKE 'wsrep_on'")
            found.append(any(value == "ON" for _, value in cursor.fetchall()))
        if found[0]:
            # Reads, UPDATE and DELETE, INSERT (https://mariadb.com/kb/en/galera-cluster-system-variables/#wsrep_sync_wait).
            cursor.execute("SET SESSION wsrep_sync_wait = @@wsrep_sync_wait | 7")
        cursor.close()


def _set_autocommit(connection: Any, value: bool) -> None:
    if callable(connection.autocommit):
        connection.autocommit(value)  # PyMySQL and mysqlclient send nothing if the mode is the same
    elif connection.autocommit != value:
        connection.autocommit = value


def _code(error: BaseException) -> object:
    return error.args[0] if error.args else None
