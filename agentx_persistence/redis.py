"""The Redis backend: Redis or Valkey, as one server, several with Sentinel, or a cluster."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import unquote, urlsplit

from agentx_persistence.errors import (
    ConfigurationError,
    InvalidRecordError,
    MissingDependencyError,
    PersistenceError,
)

try:
    from redis import Redis, RedisCluster
    from redis.backoff import NoBackoff
    from redis.connection import parse_url
    from redis.retry import Retry
    from redis.sentinel import Sentinel
except ModuleNotFoundError as error:
    raise MissingDependencyError("redis", "redis") from error

from agentx_persistence._redis.connection import Connection, Target
from agentx_persistence._redis.opening import DataLossWarning, examine
from agentx_persistence._redis.pool import NodePool
from agentx_persistence._redis.storage import RedisStorage
from agentx_persistence.storage import PersistenceDriver, Storage

__all__ = ["DataLossWarning", "driver_from_url", "redis_driver"]

_SENTINEL = "redis+sentinel://"
_FORMS = (
    "must be redis://…, rediss://… (TLS), unix://… or "
    "redis+sentinel://host:26379,host:26379/service/db; in a password write @ as %40, / as %2F and"
    " # as %23"
)


def redis_driver(
    url: str = "redis://localhost:6379",
    *,
    base: str = "agentx",
    cluster: bool = False,
    client: Redis | RedisCluster | None = None,
    retry_seconds: float = 5.0,
    pool_timeout: float = 30.0,
    **options: Any,
) -> PersistenceDriver:
    """Return the driver of a Redis or Valkey server, from version 6.2 on.

    :param url: ``redis://``, ``rediss://`` (TLS) or ``unix://``, as `redis.Redis.from_url` reads
        it; or ``redis+sentinel://host:26379,host:26379/service/db``
    :param base: what all keys begin with; stores with different bases are independent
    :param cluster: whether the server is a node of a Redis Cluster
    :param client: the caller's own client, instead of `url` and `options`. It is never closed. If
        signal handlers of the application raise exceptions, prefer a URL: redis-py's pool then
        loses connections, and the packing of hiredis can crash the process
    :param retry_seconds: for how many seconds a call is repeated after a lost connection or an
        error of the server that may pass
    :param pool_timeout: how many seconds a call waits for one of ``max_connections``
    :param options: arguments of `redis.Redis.from_url` or `redis.RedisCluster.from_url`, such as
        ``socket_timeout``, ``max_connections`` or ``ssl_ca_certs``
    """
    if not isinstance(base, str) or not base.isprintable() or "{}" in base:
        raise InvalidRecordError("argument", "base", "must be printable text without {}")
    for name, seconds in (("retry_seconds", retry_seconds), ("pool_timeout", pool_timeout)):
        if not isinstance(seconds, (int, float)) or not seconds >= 0:
            raise InvalidRecordError("argument", name, f"must be seconds, not {seconds!r}")
    if client is not None and (cluster or options):
        raise InvalidRecordError("argument", "client", "cannot be given together with options")
    if client is not None and not isinstance(client, (Redis, RedisCluster)):
        raise InvalidRecordError(
            "argument", "client", "must be a redis.Redis or redis.RedisCluster, not an asyncio one"
        )
    defaults: dict[str, Any] = {
        "socket_connect_timeout": 3.0,
        "socket_timeout": 4.0,
        "retry": Retry(NoBackoff(), 0),  # this package's `Connection` repeats calls itself
        # With 3, redis-py asks the server for notifications on each new connection, and logs a
        # refusal. An interrupt there leaves a lock of `logging` locked (Python 3.11 and 3.12).
        "protocol": 2,
    }
    if cluster:
        defaults["connection_pool_class"] = NodePool
    if client is not None:
        is_cluster = isinstance(client, RedisCluster)
        target = Target("the given client", False, lambda: client, is_cluster, retry_seconds)
    else:
        connect: Callable[[], Any]
        if isinstance(url, str) and url.startswith(_SENTINEL):
            if cluster:
                reason = f"cannot be given with {_SENTINEL}; a cluster has no sentinels"
                raise InvalidRecordError("argument", "cluster", reason)
            place, connect, limit = _behind_sentinel(url, defaults | options)
        else:
            place, limit = _without_secrets(url), _connection_limit(url, options)
            make = _cluster if cluster else Redis.from_url
            connect = partial(make, url, **defaults | options)
        target = Target(place, True, connect, cluster, retry_seconds, limit, pool_timeout)
    return _RedisDriver(target, base)


def _cluster(url: str, **options: Any) -> RedisCluster:
    nodes: list[Any] = options.pop("startup_nodes", [])  # redis-py adds that of the URL
    try:
        return RedisCluster(url=url, startup_nodes=nodes, **options)
    except BaseException:
        # The client is lost, and its connections would stay open until the garbage collector finds
        # them.
        for node in nodes:
            if node.redis_connection is not None:
                node.redis_connection.connection_pool.disconnect()
        raise


def driver_from_url(url: str, **options: Any) -> PersistenceDriver:
    """Return the driver for a URL of `redis_driver`. Its scheme may also be ``valkey``, ``valkeys``
    (TLS), ``redis+cluster`` or ``rediss+cluster``."""
    scheme, _, rest = url.partition(":")
    scheme = scheme.lower()
    if scheme.endswith("+cluster"):
        scheme = scheme.removesuffix("+cluster")
        options["cluster"] = True
    scheme = {"valkey": "redis", "valkeys": "rediss"}.get(scheme, scheme)
    return redis_driver(f"{scheme}:{rest}", **options)


def _behind_sentinel(
    url: str, options: dict[str, Any]
) -> tuple[str, Callable[[], Any], int | None]:
    place, *dropped = re.split("[?#]", url.removeprefix(_SENTINEL))
    address, _, path = place.partition("/")
    user, _, hosts = address.rpartition("@")
    name, _, password = user.partition(":")
    service, _, db = path.partition("/")
    addresses = [host.rpartition(":") for host in hosts.split(",")]
    if not service or not (db or "0").isdecimal() or not all(p.isdecimal() for *_, p in addresses):
        raise InvalidRecordError("argument", "url", _FORMS)
    if dropped:
        reason = f"{_SENTINEL} takes no ?query and no #fragment; give options as arguments"
        raise InvalidRecordError("argument", "url", f"{reason}, such as ssl=True")
    sentinels = [(host.strip("[]"), int(port)) for host, _, port in addresses]
    options = {"db": int(db or 0), **options}
    if user:
        options.update(username=unquote(name) or None, password=unquote(password) or None)
    limit = _checked_limit(options.pop("max_connections", None))
    asking = options.pop("sentinel_kwargs", {})
    names = ("socket_timeout", "socket_connect_timeout", "retry", "protocol")
    same = {name: options[name] for name in names}

    def connect() -> Any:
        return Sentinel(sentinels, sentinel_kwargs=same | asking).master_for(  # type: ignore[no-untyped-call]
            service, **options
        )

    return f"{_SENTINEL}{hosts}/{service}/{db or 0}", connect, limit


def _connection_limit(url: str, options: dict[str, Any]) -> int | None:
    return _checked_limit({**parse_url(url), **options}.get("max_connections"))  # type: ignore[no-untyped-call]


def _checked_limit(limit: Any) -> int | None:
    if limit is not None and not (isinstance(limit, int) and limit > 0):
        reason = f"must be a whole number of at least 1, not {limit!r}"
        raise InvalidRecordError("argument", "max_connections", reason)
    return limit


def _without_secrets(url: str) -> str:
    try:
        parts, address = parse_url(url), urlsplit(url)  # type: ignore[no-untyped-call]
        port = address.port
    except (ValueError, TypeError, AttributeError):
        parts = None
    if parts is None:  # raised outside of `except`, as redis-py's error can contain the password
        raise InvalidRecordError("argument", "url", _FORMS)
    # redis-py would use database 0 if the path is not a number.
    if "path" not in parts and not (address.path.strip("/") or "0").isdecimal():
        raise InvalidRecordError(
            "argument", "url", "its path must be a database's number, as in /0"
        )
    if "path" not in parts and port == 0:  # redis-py would use the default port
        raise InvalidRecordError("argument", "url", "its port must be from 1 to 65535")
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
            limit, dangers = examine(connection, self.base)
        except BaseException as error:
            connection.close()
            # What redis-py raises for an option that it does not know, or of a wrong type or value.
            wrong = isinstance(error, (AttributeError, OverflowError, TypeError, ValueError))
            if not wrong or isinstance(error, PersistenceError):
                raise
            raise ConfigurationError("redis", f"an option is wrong: {error}") from error
        for danger in sorted(dangers):
            # The warning points to the caller of `create_persistence`, who can change the settings.
            warnings.warn(f"{self.target.place}: {danger}", DataLossWarning, stacklevel=3)
        return RedisStorage(connection, self.base, limit)
