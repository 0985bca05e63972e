"""What the drivers of database servers share: an address or the caller's engine, and the check."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from sqlalchemy import URL, Engine, exc

from agentx_persistence._sql import schema
from agentx_persistence._sql.appending import Appending
from agentx_persistence._sql.engine import Database
from agentx_persistence._sql.flavour import Flavour
from agentx_persistence._sql.storage import SqlStorage
from agentx_persistence.errors import InvalidRecordError
from agentx_persistence.persistence import PersistenceDriver, Storage


class ServerDriver(PersistenceDriver):
    backend: ClassVar[str]
    flavour: ClassVar[type[Flavour]]
    appending: ClassVar[type[Appending]]

    def __init__(
        self, url: URL, engine: Engine | None, migrate: bool, options: Mapping[str, Any]
    ) -> None:
        """:param options: for `create_engine`, where the caller has no engine"""
        self.url, self.options = url, options
        self._engine, self._migrate = engine, migrate

    def __repr__(self) -> str:
        return f"{self.backend}_driver({_place(self.url)!r})"

    @abstractmethod
    def create_engine(self) -> Engine:
        """Return an engine, which is closed with the storage."""

    def create_storage(self) -> Storage:
        engine = self._engine or self.create_engine()
        database = Database(
            engine,
            self.flavour(_place(self.url)),
            owned=engine is not self._engine,
            recycle=self.options.get("pool_recycle"),
        )
        try:
            revision = schema.current(database)
            if revision != schema.HEAD and self._migrate and revision in (None, *schema.REVISIONS):
                database.migrate(schema.upgrade)
                revision = schema.current(database)
            if problem := schema.problem(revision, self.url):
                raise problem
        except BaseException:
            database.close()
            raise
        return SqlStorage(database, self.appending(database))


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
    """Return the address that the arguments of a driver give.

    :param dialects: what the URL may begin with
    """
    parts = {"user": user, "password": password, "database": database}
    given = [name for name, part in parts.items() if part is not None]
    if engine is not None:
        if url is not None or given:
            raise InvalidRecordError("argument", "engine", "is given instead of an address")
        address = engine.url
    elif url is None:
        address = URL.create(dialects[0], user, password, host, port, database)
    elif given:
        raise InvalidRecordError("argument", given[0], "is part of the URL that is given")
    else:
        address = _parse(url)
    address = schema.parse_url(address)
    if address.get_backend_name() not in dialects and address.drivername not in dialects:
        raise InvalidRecordError(
            "argument", "url", f"must begin with {dialects[0]}, not {address.drivername}"
        )
    return address


def _parse(url: str | URL) -> URL:
    try:
        return schema.parse_url(url)
    except (exc.ArgumentError, ValueError):
        # Not the error itself, which may quote the URL with its password.
        raise InvalidRecordError("argument", "url", "is not the URL of a database") from None


def _place(url: URL) -> str:
    """Return where the database is, without user and password."""
    host = url.host or url.query.get("host") or url.query.get("unix_socket") or "localhost"
    port = f":{url.port}" if url.port else ""
    return f"{host if isinstance(host, str) else ','.join(host)}{port}/{url.database or ''}"
