"""The PostgreSQL backend: PostgreSQL 13 and newer, directly or through a pooler."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from agentx_persistence.errors import MissingDependencyError
from agentx_persistence.storage import PersistenceDriver

try:
    import psycopg
except ModuleNotFoundError as error:
    raise MissingDependencyError("postgresql", "psycopg") from error

try:
    from sqlalchemy import URL, Engine, create_engine, event
except ModuleNotFoundError as error:
    raise MissingDependencyError("postgresql", "sqlalchemy") from error

from agentx_persistence._sql import hosts
from agentx_persistence._sql.pool import ServerPool
from agentx_persistence._sql.postgresql_appending import PostgresqlAppending
from agentx_persistence._sql.postgresql_flavour import PostgresqlFlavour
from agentx_persistence._sql.postgresql_rewriting import PostgresqlRewriting
from agentx_persistence._sql.schema import split_schema
from agentx_persistence._sql.server import ServerDriver, check_numbers, server_url

# The highest value of `lock_timeout`, in milliseconds.
_LONGEST = 2**31 - 1


def postgresql_driver(
    url: str | URL | None = None,
    *,
    host: str = "localhost",
    port: int = 5432,
    user: str | None = None,
    password: str | None = None,
    database: str | None = None,
    migrate: bool = False,
    pool_size: int = 5,
    max_overflow: int = 10,
    pool_timeout: float = 30.0,
    pool_recycle: int = 1800,
    connect_timeout: int = 3,
    lock_timeout: float | None = 10.0,
    answer_timeout: float | None = 60.0,
    retry_seconds: float = 12.0,
    opening_timeout: float = 60.0,
    prepare_threshold: int | None = 5,
    schema: str | None = None,
    connect_args: Mapping[str, Any] | None = None,
    engine: Engine | None = None,
) -> PersistenceDriver:
    """Return the driver of a PostgreSQL database, whose encoding must be UTF-8.

    :param url: ``postgresql://user:password@host:port/database?sslmode=verify-full``, with special
        characters percent-encoded. Without `url`, the address consists of `host`, `port`, `user`,
        `password` and `database`, in which special characters are written as they are
    :param migrate: whether to bring the schema up to date on opening; the role must be allowed to
        create tables
    :param pool_size: how many connections are kept. While all are in use, up to `max_overflow` more
        are opened; after that a call waits up to `pool_timeout` seconds for one
    :param pool_recycle: seconds after which a connection is replaced
    :param connect_timeout: for how many seconds connecting to one host is tried
    :param lock_timeout: how many seconds a statement waits for a row that another transaction has
        locked. ``None`` keeps the server's own ``lock_timeout``; use it with a pooler whose
        connections are shared with other applications
    :param answer_timeout: how many seconds the server may be silent during a statement, after which
        the connection is closed. Set it above `lock_timeout`. ``None`` means no limit
    :param retry_seconds: how long after its start a call is repeated after a deadlock or a lost
        connection, or while the server is down; then it raises `BackendUnavailableError`
    :param opening_timeout: how many seconds in all opening waits for a server that has no free
        connection or is starting, and for other processes that upgrade the schema
    :param prepare_threshold: after how many executions on a connection a statement is prepared;
        ``None`` for never, which PgBouncer needs before its version 1.21 or with its
        ``max_prepared_statements = 0``
    :param schema: the schema of the tables, if not the first one in the role's ``search_path``; it
        can also be given as ``?schema=…`` in the URL. `migrate` creates it if it does not exist
    :param connect_args: further arguments of ``psycopg.connect``, such as ``sslmode``, see
        https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
    :param engine: the caller's own engine, which must use psycopg, instead of an address. It is
        never closed. The arguments about connections and their pool do not apply to it
    """
    check_numbers(
        {
            "port": port,
            "pool_size": pool_size,
            "pool_timeout": pool_timeout,
            "connect_timeout": connect_timeout,
            "lock_timeout": lock_timeout or 0,
            "answer_timeout": 0 if answer_timeout is None else answer_timeout,
            "retry_seconds": retry_seconds,
            "opening_timeout": opening_timeout,
        }
    )
    address = server_url(("postgresql+psycopg",), engine, url, host, port, user, password, database)
    address, schema_in_url = split_schema(address)
    options: dict[str, Any] = {
        "pool_size": pool_size,
        "max_overflow": max_overflow,
        "pool_timeout": pool_timeout,
        "pool_recycle": pool_recycle,
    }
    defaults: dict[str, Any] = {
        "connect_timeout": connect_timeout or 1,  # to psycopg, 0 is 130 seconds
        # A host that vanished is noticed within a minute, not after hours.
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "tcp_user_timeout": 60_000,
    }
    if hosts.several(address):
        defaults["target_session_attrs"] = "read-write"  # not a standby
    arguments = {
        **{name: value for name, value in defaults.items() if name not in address.query},
        "prepare_threshold": prepare_threshold,
        **(connect_args or {}),
        # The role or the environment may set an encoding that lacks some characters.
        "client_encoding": "utf8",
    }
    options["connect_args"] = arguments
    driver = _PostgresqlDriver(address, engine, migrate, options, retry_seconds, opening_timeout)
    driver.lock_timeout, driver.answer_timeout = lock_timeout, answer_timeout
    driver.schema = schema or schema_in_url
    return driver


def driver_from_url(url: str, **options: Any) -> PersistenceDriver:
    """Return the driver that `postgresql_driver` makes of this URL and these options."""
    return postgresql_driver(url, **options)


class _PostgresqlDriver(ServerDriver):
    backend = "postgresql"
    flavour = PostgresqlFlavour
    appending = PostgresqlAppending
    rewriting = PostgresqlRewriting

    lock_timeout: float | None
    answer_timeout: float | None

    def create_engine(self) -> Engine:
        engine = create_engine(
            self.url,
            module=psycopg,
            paramstyle="format",  # psycopg binds a tuple faster than a dict
            # Unless a transaction is begun, each statement is a transaction of its own, and takes
            # one round trip instead of three.
            isolation_level="AUTOCOMMIT",
            poolclass=ServerPool,
            # This package ends every transaction that it begins, or invalidates the connection.
            pool_reset_on_return=None,
            use_native_hstore=False,  # saves a query on the first connection
            **self.options,
        )

        @event.listens_for(engine, "do_connect")
        def _connect(dialect: Any, record: Any, arguments: Any, options: Any) -> _Connection:
            connection = _Connection.connect(*arguments, **options)
            connection.answer_timeout = self.answer_timeout
            return connection

        if self.lock_timeout is not None:
            # This is a statement, because PgBouncer refuses the setting in the startup packet.
            # 0 would mean no limit.
            milliseconds = max(1, round(min(self.lock_timeout * 1000, _LONGEST)))
            setting = f"SET lock_timeout = {milliseconds}"

            @event.listens_for(engine, "connect")
            def _bound(connection: Any, record: object) -> None:
                connection.execute(setting)

        return engine


class _Connection(psycopg.Connection[Any]):
    """A connection that is closed if the server is silent for `answer_timeout` seconds."""

    answer_timeout: float | None = None

    def wait(self, gen: Any, *arguments: Any, **options: Any) -> Any:
        if self.answer_timeout is not None:
            gen = self._bounded(gen, self.answer_timeout)
        return super().wait(gen, *arguments, **options)

    def _bounded(self, gen: Any, seconds: float) -> Any:
        """Run psycopg's generator of a statement, but raise after `seconds` without an answer.

        The generator yields when it needs the socket to be ready. psycopg waits for that for a
        tenth of a second at a time, and sends a false value if the socket is still not ready.
        """
        try:
            wanted = next(gen)
            while True:
                deadline = time.monotonic() + seconds
                while not (ready := (yield wanted)):
                    if time.monotonic() > deadline:
                        # A late answer must not be taken for the answer to another call.
                        self.pgconn.finish()
                        raise psycopg.OperationalError(
                            f"the server has been silent for {seconds:g} s; raise answer_timeout if"
                            " a statement takes so long"
                        )
                    wanted = gen.send(ready)
                wanted = gen.send(ready)
        except StopIteration as end:
            return end.value
