"""The PostgreSQL backend: PostgreSQL 13 and newer, directly or through a pooler."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from agentx_persistence.errors import ConfigurationError, MissingDependencyError
from agentx_persistence.storage import PersistenceDriver

try:
    import psycopg
except ModuleNotFoundError as error:
    raise MissingDependencyError("postgresql", "psycopg") from error

try:
    from sqlalchemy import (
        URL,
        ColumnElement,
        Connection,
        Engine,
        Select,
        Table,
        bindparam,
        create_engine,
        delete,
        event,
        select,
    )
    from sqlalchemy.dialects.postgresql import insert
    from sqlalchemy.engine.interfaces import DBAPICursor as Cursor
    from sqlalchemy.sql.dml import Delete, Insert
except ModuleNotFoundError as error:
    raise MissingDependencyError("postgresql", "sqlalchemy") from error

from agentx_persistence._sql import hosts
from agentx_persistence._sql.flavour import Flavour, replacement
from agentx_persistence._sql.pool import ServerPool
from agentx_persistence._sql.postgresql_appending import PostgresqlAppending, in_array, rows_of_each
from agentx_persistence._sql.postgresql_rewriting import PostgresqlRewriting
from agentx_persistence._sql.schema import split_schema
from agentx_persistence._sql.server import ServerDriver, check_numbers, server_url
from agentx_persistence.storage.kinds import SEPARATOR

# serialization_failure, deadlock_detected, lock_not_available, too_many_connections
_TRANSIENT = {"40001", "40P01", "55P03", "53300"}
_CROWDED = (
    "too many clients",
    "too many connections",
    "connection slots are reserved",
    "starting up",
    "not yet accepting",
)
# read_only_sql_transaction (of a server that became a standby), admin_shutdown, crash_shutdown,
# cannot_connect_now, idle_session_timeout
_LOST = {"25006", "57P01", "57P02", "57P03", "57P05"}
_MISCONFIGURED = {
    "authentication failed": "check user and password",
    "no password supplied": "give the password of the role",
    "not permitted to log in": "let the role log in",
    "does not exist": "check the names of the database and of the role, and create them first",
    "permission denied for database": "let the role connect to the database",
    "pg_hba.conf": "let the server's pg_hba.conf admit the role from this host",
    "invalid connection option": "check the options in the URL and in connect_args",
    "invalid sslmode": "check sslmode",
    "certificate": "check the certificates, sslmode and sslrootcert",
}


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
            "retry_seconds": retry_seconds,
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
        "connect_timeout": connect_timeout,
        # So that a host that vanished is noticed within a minute, not after hours.
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


class _PostgresqlFlavour(Flavour):
    backend = "postgresql"
    shows_deleted_in_snapshots = True

    def begin(self, connection: Any, cursor: Cursor) -> None:
        cursor.execute("BEGIN ISOLATION LEVEL READ COMMITTED")

    def begin_joined(self, connection: Connection) -> None:
        if getattr(connection.connection.driver_connection, "autocommit", False):
            self.refuse_autocommit()

    def upsert(self, table: Table, columns: Collection[str]) -> Insert:
        statement = insert(table)
        return statement.on_conflict_do_update(
            index_elements=list(table.primary_key),
            set_=replacement(table, columns, statement.excluded),
        )

    def among(self, column: ColumnElement[Any], name: str, size: int) -> ColumnElement[bool]:
        # One array is a single parameter: psycopg takes long to place a thousand of them.
        return in_array(column, name)

    def listed(self, name: str, values: Sequence[str]) -> dict[str, Any]:
        return {name: list(values)}

    def rows_among(
        self,
        columns: Sequence[ColumnElement[Any]],
        conditions: Sequence[ColumnElement[bool]],
        column: ColumnElement[Any],
        name: str,
        size: int,
    ) -> Select[Any]:
        if size == 1:
            return select(*columns).where(*conditions, column == bindparam(name))
        return rows_of_each(columns, conditions, column, name)

    def deletion_among(
        self,
        table: Table,
        conditions: Sequence[ColumnElement[bool]],
        column: ColumnElement[Any],
        name: str,
        size: int,
    ) -> Delete:
        keys = [*table.primary_key]
        found = self.rows_among(keys, conditions, column, name, size).subquery("found")
        return delete(table).where(*(key == found.c[key.name] for key in keys))

    def sought(self, name: str, ids: Sequence[str]) -> dict[str, Any]:
        return {name: SEPARATOR.join(ids)}

    def check(self, cursor: Any) -> None:
        cursor.execute(
            "SELECT current_setting('server_encoding'), current_setting('client_encoding')"
        )
        for encoding, what in zip(
            cursor.fetchone(), ("database", "connection's client_encoding"), strict=True
        ):
            if encoding != "UTF8":
                raise ConfigurationError(
                    self.backend, f"the {what} must be in UTF8, not in {encoding}"
                )

    def is_transient(self, error: BaseException) -> bool:
        # https://www.postgresql.org/docs/current/errcodes-appendix.html
        return _state(error) in _TRANSIENT or (
            # An error in connecting has no code, only a text.
            _state(error) is None
            and isinstance(error, psycopg.OperationalError)
            and any(part in str(error) for part in _CROWDED)
        )

    def is_lost(self, error: BaseException) -> bool:
        return _state(error) in _LOST or "cached plan must not change" in str(error)

    def misconfigured(self, error: BaseException) -> str:
        state = _state(error)
        if state in ("28000", "28P01", "42501"):
            return "check user and password, and what is granted to the role"
        if state is not None or not isinstance(error, psycopg.Error):
            return ""
        text = str(error)
        return next((hint for part, hint in _MISCONFIGURED.items() if part in text), "")

    def is_missing_table(self, error: BaseException) -> bool:
        return isinstance(error, psycopg.errors.UndefinedTable)


class _PostgresqlDriver(ServerDriver):
    backend = "postgresql"
    flavour = _PostgresqlFlavour
    appending = PostgresqlAppending
    rewriting = PostgresqlRewriting

    lock_timeout: float | None
    answer_timeout: float | None

    def create_engine(self) -> Engine:
        engine = create_engine(
            self.url,
            module=psycopg,
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
            # As a statement, because PgBouncer refuses this setting in the startup packet.
            setting = f"SET lock_timeout = {round(self.lock_timeout * 1000)}"

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


def _state(error: BaseException) -> str | None:
    return getattr(error, "sqlstate", None)
