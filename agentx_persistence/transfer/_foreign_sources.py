"""Opening what other programs have written: folders, files and databases."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from pydantic_core import from_json, to_json

from agentx_persistence.errors import (
    BackendUnavailableError,
    ConfigurationError,
    MissingDependencyError,
)

# Gives what comes after a prefix in each key that begins with it, and the value.
Read: TypeAlias = Callable[[str], Iterator[tuple[str, str]]]
_BASE = "agentx:"


@contextmanager
def key_values(source: str) -> Iterator[Read]:
    """Open one of the six layouts of unstorage, or lines of ``{"key": …, "value": …}``.

    :raises ConfigurationError: if there is nothing at this place
    """
    scheme = source.partition(":")[0].lower() if "://" in source else ""
    if scheme == "file":
        source, scheme = source.removeprefix("file://"), ""
    path = Path(source)
    if scheme.startswith(("redis", "valkey", "unix")):
        yield from _redis(source)
    elif scheme.startswith("mongodb"):
        yield from _mongodb(source)
    elif scheme or is_sqlite(path):
        yield from _sql(source)
    elif path.is_dir():
        yield lambda prefix: _folder(path, prefix)
    elif path.is_file():
        yield lambda prefix: _lines(path, prefix)
    else:
        raise ConfigurationError("import", f"there is nothing at {source}")


def is_sqlite(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(15) == b"SQLite format 3"


def _folder(path: Path, prefix: str) -> Iterator[tuple[str, str]]:
    top = path / prefix.rstrip(":").replace(":", os.sep)
    for folder, folders, names in os.walk(top):
        folders.sort()
        for name in sorted(names):
            file = Path(folder) / name
            key = str(file.relative_to(top)).replace(os.sep, ":")
            if not key.endswith("$"):  # unstorage's own notes on a key
                yield key, _text(file.read_bytes())


def _lines(path: Path, prefix: str) -> Iterator[tuple[str, str]]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                values = from_json(line)
                key, value = values["key"].removeprefix(_BASE), values["value"]
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                reason = f'{path}, line {number} is not {{"key": …, "value": …}}'
                raise ConfigurationError("import", reason) from error
            if key.startswith(prefix):
                yield key.removeprefix(prefix), _text(value)


def _text(value: object) -> str:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            return f"({error})"  # which is no JSON either: it is skipped, and named
    return value if isinstance(value, str) else to_json(value).decode()


@contextmanager
def _readable_url(backend: str) -> Iterator[None]:
    try:
        yield
    except ValueError:  # whose text can have a part of a password
        reason = "the URL cannot be read; percent-encode special characters of a user or password"
        raise ConfigurationError(backend, reason) from None


def _redis(url: str) -> Iterator[Read]:
    try:
        from redis import Redis
        from redis.exceptions import RedisError
    except ModuleNotFoundError as error:
        raise MissingDependencyError("redis", "redis") from error
    url = url.replace("valkey", "redis", 1) if url.startswith("valkey") else url

    def read(prefix: str) -> Iterator[tuple[str, str]]:
        start = f"{_BASE}{prefix}"
        # The prefixes contain no character that is special in a pattern.
        for key in sorted(client.scan_iter(f"{start}*", count=1_000)):
            value = client.get(key)
            if value is not None:
                yield key.decode().removeprefix(start), _text(value)

    with _readable_url("redis"):
        client = Redis.from_url(url, socket_timeout=30, socket_connect_timeout=5)
    try:
        with client:
            yield read
    except RedisError as error:
        raise BackendUnavailableError("redis", f"{type(error).__name__}: {error}") from error


def _mongodb(url: str) -> Iterator[Read]:
    try:
        from pymongo import MongoClient
        from pymongo.collection import Collection
        from pymongo.errors import PyMongoError
    except ModuleNotFoundError as error:
        raise MissingDependencyError("mongodb", "pymongo") from error

    def read(prefix: str) -> Iterator[tuple[str, str]]:
        stop = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        for found in collection.find({"key": {"$gte": prefix, "$lt": stop}}):
            yield found["key"].removeprefix(prefix), _text(found["value"])

    client: MongoClient[Any]
    try:
        with _readable_url("mongodb"):
            client = MongoClient(url, serverSelectionTimeoutMS=3_000)
        with client:
            collection: Collection[Any] = client.get_default_database("agentx")["unstorage"]
            yield read
    except PyMongoError as error:
        # What pymongo says can quote the URL.
        raise BackendUnavailableError("mongodb", type(error).__name__) from error


def _sql(source: str) -> Iterator[Read]:
    with rows(source) as select:
        table = "kv_storage" if "kv_storage" in select.tables else "unstorage"
        if table not in select.tables:
            reason = "there is neither a table kv_storage nor a table unstorage"
            raise ConfigurationError("import", reason)

        def read(prefix: str) -> Iterator[tuple[str, str]]:
            for row in select(table, starting=("key", prefix), order="key"):
                value = row["value"] if row.get("value") is not None else row.get("blob")
                if value is not None:
                    yield row["key"].removeprefix(prefix), _text(value)

        yield read


class Rows:
    """Reads rows of the tables of another program."""

    def __init__(self, engine: Any) -> None:
        from sqlalchemy import MetaData, inspect

        self._engine, self._metadata = engine, MetaData()
        self.tables = set(inspect(engine).get_table_names())

    def __call__(
        self,
        table: str,
        *,
        order: str,
        columns: Sequence[str] | None = None,
        starting: tuple[str, str] | None = None,
        equal: tuple[str, str] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Yield the rows in this order: all, or those in which a column starts with a text, or
        equals it."""
        from sqlalchemy import Table, select

        found = Table(table, self._metadata, autoload_with=self._engine)
        wanted = [found.c[name] for name in columns or found.c.keys()]
        query = select(*wanted).order_by(found.c[order])
        if starting is not None:
            query = query.where(found.c[starting[0]].startswith(starting[1], autoescape=True))
        if equal is not None:
            query = query.where(found.c[equal[0]] == equal[1])
        with self._engine.connect().execution_options(yield_per=100) as connection:
            for row in connection.execute(query).mappings():
                yield dict(row)


@contextmanager
def rows(source: str) -> Iterator[Rows]:
    """Open a database by its URL, or a SQLite file by its path.

    :raises ConfigurationError: if it cannot be read
    """
    try:
        from sqlalchemy import URL, exc

        from agentx_persistence._sql import schema
    except ModuleNotFoundError as error:
        raise MissingDependencyError("sqlite", "sqlalchemy") from error
    if "://" not in source:
        if not is_sqlite(Path(source)):
            raise ConfigurationError("import", f"there is no SQLite database at {source}")
        url = URL.create("sqlite", database=source)
    else:
        url = schema.parse_url(source)
    path = url.database or ""
    if url.get_backend_name() == "sqlite" and not Path(path).exists():
        raise ConfigurationError("import", f"there is nothing at {path}")
    try:
        try:
            engine = schema.migrating_engine(url)
        except ModuleNotFoundError as error:
            reason = f"the library {error.name}, which this URL needs, is not installed"
            raise ConfigurationError("import", reason) from error
        try:
            yield Rows(engine)
        finally:
            engine.dispose()
    except exc.SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or type(error).__name__)
        raise ConfigurationError("import", reason) from error
