"""The Redis backend: one server, several behind Sentinel, or a cluster; Valkey, too."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import partial
from typing import Any

from agentx_persistence.errors import InvalidRecordError, MissingDependencyError

try:
    from redis import Redis, RedisCluster
    from redis.backoff import NoBackoff
    from redis.connection import parse_url
    from redis.retry import Retry
except ModuleNotFoundError as error:
    raise MissingDependencyError("redis", "redis") from error

from agentx_persistence._redis.connection import Connection, Target
from agentx_persistence._redis.durability import DataLossWarning
from agentx_persistence._redis.indexing import AtomicIndexing, JournalledIndexing
from agentx_persistence._redis.keys import Keys
from agentx_persistence._redis.store import RedisStore
from agentx_persistence.documents import DocumentStorage
from agentx_persistence.persistence import PersistenceDriver, Storage


def redis_driver(
    url: str = "redis://localhost:6379",
    *,
    base: str = "agentx",
    cluster: bool = False,
    client: Redis | RedisCluster | None = None,
    retry_seconds: float = 5.0,
    **options: Any,
) -> PersistenceDriver:
    """Return the driver of a Redis or Valkey server, from version 6.2 on.

    :param url: ``redis://``, ``rediss://`` (TLS) or ``unix://``, as `redis.Redis.from_url` reads it
    :param base: what all keys begin with; stores with different bases know nothing of each other
    :param cluster: whether the server is a node of a Redis Cluster
    :param client: use this client, which is never closed here, instead of `url` and `options`; for
        Sentinel, give ``Sentinel(…).master_for(…)``
    :param retry_seconds: how long a call goes on trying when the connection was lost
    :param options: passed on to `redis.Redis.from_url`, or to that of `redis.RedisCluster`:
        ``socket_timeout``, ``max_connections``, ``ssl_ca_certs``, …
    """
    if not isinstance(base, str) or not base.isprintable() or "{}" in base:
        raise InvalidRecordError("argument", "base", "must be printable text without {}")
    if client is not None and (cluster or options):
        raise InvalidRecordError("argument", "client", "cannot be given together with options")
    defaults = {
        "socket_connect_timeout": 3.0,
        "socket_timeout": 4.0,
        "retry": Retry(NoBackoff(), 0),  # Connection repeats, for a server and a cluster alike
        **({"reinitialize_steps": 1} if cluster else {}),  # ask anew at the first sign of a move
    }
    kind = RedisCluster if cluster else Redis
    if client is not None:
        target = Target("the given client", False, lambda: client, retry_seconds, None)
    else:
        place, limit = _without_secrets(url), _connection_limit(url, options)
        connect = partial(kind.from_url, url, **defaults | options)
        target = Target(place, True, connect, retry_seconds, limit)
    return _RedisDriver(target, base)


def _connection_limit(url: str, options: dict[str, Any]) -> int | None:
    limit: int | None = {**parse_url(url), **options}.get("max_connections")  # type: ignore[no-untyped-call]
    return limit


def _without_secrets(url: str) -> str:
    try:
        parts = parse_url(url)  # type: ignore[no-untyped-call]
    except ValueError:
        parts = None
    if parts is None:  # without that error, which can quote the password as a port
        raise InvalidRecordError("argument", "url", "must be redis://…, rediss://… or unix://…")
    if "path" in parts:
        return f"unix://{parts['path']}"
    host, port, db = parts.get("host", "localhost"), parts.get("port", 6379), parts.get("db", 0)
    return f"{url.partition(':')[0]}://{host}:{port}/{db}"


@dataclass(frozen=True, repr=False)
class _RedisDriver(PersistenceDriver):
    target: Target
    base: str

    def __repr__(self) -> str:
        return f"redis_driver({self.target.place!r}, base={self.base!r})"

    def create_storage(self) -> Storage:
        connection = Connection(self.target)
        try:
            cluster, found = connection.examine()
            for danger in sorted(found):
                # The caller of create_persistence is who can do something about it.
                warnings.warn(f"{self.target.place}: {danger}", DataLossWarning, stacklevel=3)
        except BaseException:
            connection.close()
            raise
        keys = Keys(self.base)
        indexing = JournalledIndexing if cluster else AtomicIndexing
        return DocumentStorage(RedisStore(connection, keys, indexing(connection, keys)))
