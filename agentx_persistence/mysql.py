"""The MySQL backend: MySQL 8.4 and newer, MariaDB 10.6 and newer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from agentx_persistence.errors import InvalidRecordError, MissingDependencyError
from agentx_persistence.storage import PersistenceDriver

try:
    import pymysql
except ModuleNotFoundError as error:
    raise MissingDependencyError("mysql", "pymysql") from error

try:
    from sqlalchemy import URL, Engine, create_engine, event, exc
except ModuleNotFoundError as error:
    raise MissingDependencyError("mysql", "sqlalchemy") from error

from agentx_persistence._sql import hosts
from agentx_persistence._sql.locking_rewriting import LockingRewriting
from agentx_persistence._sql.mysql_flavour import MysqlFlavour
from agentx_persistence._sql.pool import ServerPool
from agentx_persistence._sql.server import ServerDriver, check_numbers, server_url

_LOCK_TIMEOUT = "innodb_lock_wait_timeout"
# The highest value of this variable, in seconds.
_LONGEST = 2**30
# About the longest time-out of a socket, in seconds.
_LONGEST_WAIT = 2_000_000


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
    lock_timeout: float = 10,
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
        locked (``innodb_lock_wait_timeout``), rounded up to whole seconds. An ``init_command`` in
        `connect_args` or in the URL that sets it takes precedence
    :param answer_timeout: how many seconds the server may be silent during a statement, after which
        the connection is closed. Set it above `lock_timeout`. ``None`` means no limit
    :param retry_seconds: how long after its start a call is repeated after a deadlock or a lost
        connection, or while the server is down; then it raises `BackendUnavailableError`
    :param opening_timeout: how many seconds in all opening waits for a server that has no free
        connection or is starting, and for other processes that upgrade the schema
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
            "answer_timeout": 0 if answer_timeout is None else answer_timeout,
            "retry_seconds": retry_seconds,
            "opening_timeout": opening_timeout,
        }
    )
    address = server_url(("mysql", "mariadb"), engine, url, host, port, user, password, database)
    arguments: dict[str, Any] = {"charset": "utf8mb4"}
    setting = f"SET SESSION {_LOCK_TIMEOUT} = {math.ceil(min(lock_timeout, _LONGEST))}"
    command = {**address.query, **(connect_args or {})}.get("init_command")
    if command is None:
        arguments["init_command"] = setting  # saves a round trip
    # Other client libraries name these time-outs differently.
    if address.get_driver_name() in ("pymysql", "mysqldb"):
        timeouts: dict[str, Any] = {
            # PyMySQL refuses 0.
            "connect_timeout": min(connect_timeout or 1, _LONGEST_WAIT)
        }
        if answer_timeout is not None and answer_timeout <= _LONGEST_WAIT:
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
    driver = _MysqlDriver(address, engine, migrate, options, retry_seconds, opening_timeout)
    if command is not None and _LOCK_TIMEOUT not in str(command).lower():
        driver.setting = setting
    return driver


def driver_from_url(url: str, **options: Any) -> PersistenceDriver:
    """Return the driver that `mysql_driver` makes of this URL and these options."""
    return mysql_driver(url, **options)


class _MysqlDriver(ServerDriver):
    backend = "mysql"
    flavour = MysqlFlavour
    rewriting = LockingRewriting

    # A statement for each new connection.
    setting: str | None = None

    def create_engine(self) -> Engine:
        own = self.url.get_driver_name() == "pymysql"
        try:
            engine = create_engine(
                self.url,
                module=pymysql if own else None,
                paramstyle="format",  # PyMySQL binds a tuple faster than a dict
                # In REPEATABLE READ, InnoDB locks gaps between rows, so that writers of different
                # sessions block each other, and a read after a wait shows the data from before it.
                isolation_level="READ COMMITTED",
                poolclass=ServerPool,
                # A rollback costs a round trip even with nothing to undo. This package ends every
                # transaction that it begins, or invalidates the connection.
                pool_reset_on_return=None,
                **self.options,
            )
        except (ModuleNotFoundError, exc.NoSuchModuleError) as error:
            raise InvalidRecordError(
                "argument", "url", f"{self.url.drivername} is not installed"
            ) from error
        hosts.prepare_connecting(engine)
        _prepare(engine, self.setting)
        return engine


def _prepare(engine: Engine, setting: str | None) -> None:
    """Run `setting` on each connection. Make each statement on a Galera cluster wait until its node
    has all earlier commits.

    Otherwise a read misses what another node has just acknowledged, and a session that was just
    created there does not exist. Only the first connection is asked whether it is on a cluster, as
    all hosts of a URL belong to the same one.
    """
    found: list[bool] = []

    @event.listens_for(engine, "connect")
    def _on_connect(connection: Any, record: object) -> None:
        cursor = connection.cursor()
        if setting is not None:
            cursor.execute(setting)
        if not found:
            cursor.execute("SHOW VARIABLES LIKE 'wsrep_on'")
            found.append(any(value == "ON" for _, value in cursor.fetchall()))
        if found[0]:
            # Reads, UPDATE and DELETE, INSERT (https://mariadb.com/kb/en/galera-cluster-system-variables/#wsrep_sync_wait).
            cursor.execute("SET SESSION wsrep_sync_wait = @@wsrep_sync_wait | 7")
        cursor.close()
