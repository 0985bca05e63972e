"""The common part of the MySQL and PostgreSQL drivers: reading their arguments, and opening."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from sqlalchemy import URL, Engine, pool

from agentx_persistence._sql import hosts, schema
from agentx_persistence._sql.appending import Appending
from agentx_persistence._sql.connections import Connections, PooledConnections
from agentx_persistence._sql.engine import Database
from agentx_persistence._sql.flavour import Flavour
from agentx_persistence._sql.joined import EngineConnections
from agentx_persistence._sql.rewriting import Rewriting
from agentx_persistence._sql.storage import SqlStorage
from agentx_persistence.errors import ConfigurationError, InvalidRecordError
from agentx_persistence.storage import PersistenceDriver, Storage


class ServerDriver(PersistenceDriver):
    backend: ClassVar[str]
    flavour: ClassVar[type[Flavour]]
    appending: ClassVar[type[Appending]] = Appending
    rewriting: ClassVar[type[Rewriting]] = Rewriting
    schema: str | None = None

    def __init__(
        self,
        url: URL,
        engine: Engine | None,
        migrate: bool,
        options: Mapping[str, Any],
        retry_seconds: float,
        opening_timeout: float,
    ) -> None:
        """:param options: arguments of `create_engine`, if the caller gives no engine"""
        check_migrate(migrate)
        self.url, self.options = url, options
        self._engine, self._migrate = engine, migrate
        self._retry_seconds, self._opening_timeout = retry_seconds, opening_timeout

    def __repr__(self) -> str:
        return f"{self.backend}_driver({_place(self.url)!r})"

    @abstractmethod
    def create_engine(self) -> Engine:
        """Return an engine, which is closed with the storage."""

    def create_storage(self) -> Storage:
        flavour = self.flavour(_place(self.url), self.schema)
        connections: Connections
        if self._engine is None:
            with hosts.checked_options(self.backend):
                engine = self.create_engine()
            connections = PooledConnections(engine, flavour)
        else:
            engine = self._engine
            connections = EngineConnections(engine, flavour)
        database = Database(engine, flavour, connections, retry_seconds=self._retry_seconds)
        deadline = time.monotonic() + self._opening_timeout
        try:
            with hosts.checked_options(self.backend), database.opening(deadline):
                database.write(flavour.check)
                revision = schema.current(database)
                known = revision in (None, *schema.REVISIONS)
                if revision != schema.HEAD and self._migrate and known:
                    left = deadline - time.monotonic()
                    database.migrate(partial(schema.upgrade, schema=self.schema, seconds=left))
                    revision = schema.current(database)
            url = self.url
            if self.schema is not None:
                url = url.update_query_dict({"schema": self.schema})
            if problem := schema.problem(revision, url):
                raise problem
        except BaseException:
            database.close()
            raise
        return SqlStorage(database, self.appending, self.rewriting)


def server_url(
    dialects: Sequence[str],
    engine: Engine | None,
    url: str | URL | None,
    host: str,
    port: int,
    user: str | None,
    password: str | None,
    database: str | None,
) -> URL:
    """Return the database's address as a URL, from the arguments of a driver.

    :param dialects: what the URL may begin with; the first one is the default
    """
    parts = {"user": user, "password": password, "database": database}
    given = [name for name, part in parts.items() if part is not None]
    if engine is not None:
        if not isinstance(engine, Engine):
            raise InvalidRecordError(
                "argument", "engine", f"must be a sqlalchemy.Engine, not {type(engine).__name__}"
            )
        if url is not None or given:
            raise InvalidRecordError(
                "argument",
                "engine",
                "cannot be given together with url, user, password or database",
            )
        url = engine.url
    elif url is None:
        url = URL.create(dialects[0], user, password, host, port, database)
    elif given:
        raise InvalidRecordError("argument", given[0], "must be in the URL if you give a URL")
    address = schema.parse_url(url, dialects[0].partition("+")[0])
    if address.get_backend_name() not in dialects and address.drivername not in dialects:
        raise InvalidRecordError(
            "argument", "url", f"must begin with {dialects[0]}, not {address.drivername}"
        )
    if engine is not None:
        _check_engine(engine)
    return address


def _check_engine(engine: Engine) -> None:
    if engine.dialect.is_async:
        raise InvalidRecordError("argument", "engine", "must be a synchronous engine")
    if engine.get_execution_options().get("schema_translate_map"):
        raise ConfigurationError(
            engine.dialect.name, "an engine with a schema_translate_map cannot be used"
        )
    if isinstance(engine.pool, (pool.StaticPool, pool.SingletonThreadPool)):
        raise ConfigurationError(
            engine.dialect.name,
            f"calls on an engine with a {type(engine.pool).__name__} would end the transaction"
            " that you have open on its connection; use another pool, or persistence.within",
        )


def check_migrate(migrate: object) -> None:
    """Refuse other values, such as the text ``"no"``, which would count as true."""
    if migrate not in (True, False):
        reason = f"must be True or False, not {migrate!r}"
        raise InvalidRecordError("argument", "migrate", reason)


def check_numbers(numbers: Mapping[str, object]) -> None:
    """:raises InvalidRecordError: if an argument is not a number, or less than 0"""
    for name, number in numbers.items():
        if not isinstance(number, (int, float)) or not number >= 0:
            reason = f"must be a number of at least 0, not {number!r}"
            raise InvalidRecordError("argument", name, reason)


def _place(url: URL) -> str:
    """Return hosts, ports and database of the URL, without user and password."""
    if places := hosts.several(url):
        return f"{','.join(f'{host}:{port}' for host, port in places)}/{url.database or ''}"
    host = url.host or url.query.get("host") or url.query.get("unix_socket") or "localhost"
    port = f":{url.port}" if url.port else ""
    return f"{host}{port}/{url.database or ''}"
