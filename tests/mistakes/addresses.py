"""Addresses of servers, and callers' own engines and clients."""

from __future__ import annotations

from functools import partial

from pymongo import AsyncMongoClient, MongoClient
from redis.asyncio import Redis as AsyncRedis
from sqlalchemy import NullPool, create_engine

from agentx_persistence import ConfigurationError, InvalidRecordError, create_persistence
from agentx_persistence.mongodb import mongodb_driver
from agentx_persistence.mysql import mysql_driver
from agentx_persistence.postgresql import postgresql_driver
from agentx_persistence.redis import redis_driver
from tests.mistakes.mistake import Row


def _connection_as_engine() -> object:
    with create_engine("sqlite://", poolclass=NullPool).connect() as connection:
        return mysql_driver(engine=connection)  # type: ignore[arg-type]


ADDRESSES: dict[str, Row] = {
    # Addresses
    "postgresql: a name": (
        lambda: postgresql_driver("agentx"),
        InvalidRecordError,
        "write postgresql://user:password@host/database",
    ),
    "postgresql: a port in the URL that is none": (
        lambda: postgresql_driver("postgresql://u:tiger@h:port/d"),
        InvalidRecordError,
        "write postgresql://user:password@host/database",
    ),
    **{
        f"{scheme}: {mistake}": (
            partial(create_persistence, f"{scheme}://{rest}"),
            InvalidRecordError,
            words,
        )
        for scheme in ("postgresql", "mysql", "mariadb")
        for mistake, rest, words in (
            ("@ in the password", "u:x@tiger@127.0.0.1:1/d", "in the password write @ as %40"),
            ("@ in it, two hosts", "u:x@tiger@127.0.0.1:1,b/d", "in the password write @ as %40"),
            ("a slash too many", "/u:tiger@127.0.0.1:1/d", f"{scheme}://user:password@host/datab"),
            ("no port", "u:tiger@127.0.0.1:0/d", "port: must be from 1 to 65535"),
            ("a port too high", "u:tiger@127.0.0.1:70000/d", "port: must be from 1 to 65535"),
        )
    },
    "postgresql: another database's URL": (
        lambda: postgresql_driver("mysql://h/d"),
        InvalidRecordError,
        "must begin with postgresql",
    ),
    "postgresql: another client library": (
        lambda: create_persistence("postgresql+asyncpg://h/d"),
        InvalidRecordError,
        "must begin with postgresql+psycopg",
    ),
    "postgresql: a password beside the URL": (
        lambda: postgresql_driver("postgresql://h/d", password="tiger"),
        InvalidRecordError,
        "must be in the URL",
    ),
    "mysql: a port in the URL that is none": (
        lambda: mysql_driver("mysql://u:tiger@h:port/d"),
        InvalidRecordError,
        "write mysql://user:password@host/database",
    ),
    "redis: no scheme": (
        lambda: redis_driver("localhost:6379"),
        InvalidRecordError,
        "must be redis://",
    ),
    "redis: a port that is none": (
        lambda: redis_driver("redis://:tiger@h:port/0"),
        InvalidRecordError,
        "must be redis://",
    ),
    "redis: # in the password": (
        lambda: redis_driver("redis://u:ti#tiger@127.0.0.1:1/0"),
        InvalidRecordError,
        "in a password write @ as %40, / as %2F and # as %23",
    ),
    "redis: port 0": (
        lambda: redis_driver("redis://:tiger@127.0.0.1:0"),
        InvalidRecordError,
        "its port must be from 1 to 65535",
    ),
    "redis: a database's name": (
        lambda: redis_driver("redis://h/cache"),
        InvalidRecordError,
        "database's number",
    ),
    "redis: a raised number": (
        lambda: redis_driver("redis://h/²"),
        InvalidRecordError,
        "database's number",
    ),
    "redis: Sentinel without a service": (
        lambda: redis_driver("redis+sentinel://h"),
        InvalidRecordError,
        "redis+sentinel://host:26379,host:26379/service/db",
    ),
    **{
        f"redis: Sentinel with {rest}": (
            partial(redis_driver, f"redis+sentinel://:tiger@h:1/service/0{rest}"),
            InvalidRecordError,
            "url: redis+sentinel:// takes no ?query and no #fragment; give options as arguments",
        )
        for rest in ("?ssl=true", "#x", "?")
    },
    "redis: Sentinel of a cluster": (
        lambda: redis_driver("redis+sentinel://h:1/service", cluster=True),
        InvalidRecordError,
        "cluster: cannot be given with redis+sentinel://",
    ),
    "redis: braces in the base": (
        lambda: redis_driver(base="{}"),
        InvalidRecordError,
        "base: must be printable text without {}",
    ),
    **{
        f"redis: {url!r} as URL": (partial(redis_driver, url), InvalidRecordError, "redis://…")
        for url in (
            *("redis+sentinel://host", "redis+sentinel://host/service", "redis+sentinel://h:1/s/x"),
            *("redis+sentinel://h:1/s/²", "redis+sentinel://h:²/s"),
            *("http://host", "localhost:6379", "", None, b"redis://h"),
        )
    },
    "mongodb: no scheme": (
        lambda: create_persistence(mongodb_driver("http://localhost:27017")),
        ConfigurationError,
        "connection string",
    ),
    **{
        f"mongodb: {character} in the password": (
            partial(create_persistence, f"mongodb://u:x{character}tiger@127.0.0.1:1/d"),
            ConfigurationError,
            "in user and password @ as %40",
        )
        for character in "@/:%"
    },
    "mongodb: a name with a blank": (
        lambda: create_persistence(mongodb_driver(database_name="a b")),
        InvalidRecordError,
        "database_name",
    ),
    "mongodb: a prefix with a dollar": (
        lambda: create_persistence(mongodb_driver(collection_prefix="$x")),
        InvalidRecordError,
        "collection_prefix",
    ),
    # Engines and clients
    "postgresql: an engine of SQLite": (
        lambda: postgresql_driver(engine=create_engine("sqlite://")),
        InvalidRecordError,
        "must begin with postgresql",
    ),
    "postgresql: a URL as engine": (
        lambda: postgresql_driver(engine="postgresql://h/d"),  # type: ignore[arg-type]
        InvalidRecordError,
        "must be a sqlalchemy.Engine, not str",
    ),
    "mysql: a Connection as engine": (
        _connection_as_engine,
        InvalidRecordError,
        "must be a sqlalchemy.Engine, not Connection",
    ),
    "redis: an asyncio client": (
        lambda: redis_driver(client=AsyncRedis()),  # type: ignore[arg-type]
        InvalidRecordError,
        "not an asyncio one",
    ),
    "redis: an object as client": (
        lambda: redis_driver(client=object()),  # type: ignore[arg-type]
        InvalidRecordError,
        "client: must be",
    ),
    "redis: a URL as client": (
        lambda: redis_driver(client="redis://localhost"),  # type: ignore[arg-type]
        InvalidRecordError,
        "client: must be",
    ),
    "mongodb: an asyncio client": (
        lambda: mongodb_driver(client=AsyncMongoClient(connect=False)),  # type: ignore[arg-type]
        InvalidRecordError,
        "not AsyncMongoClient",
    ),
    "mongodb: options of a client that is there": (
        lambda: mongodb_driver(client=MongoClient(connect=False), databse_name="shop"),
        InvalidRecordError,
        "client: cannot be given together with options (databse_name)",
    ),
}
