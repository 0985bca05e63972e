"""The Redis backend: one server, several behind Sentinel, or a cluster; Valkey, too."""

from __future__ import annotations

import random
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from threading import Semaphore
from typing import Any, TypeVar

from agentx_persistence._redis.client import Argument, Command, Subject
from agentx_persistence._redis.durability import DataLossWarning, dangers
from agentx_persistence._redis.exchange import exchange
from agentx_persistence._redis.indexing import AtomicIndexing, JournalledIndexing
from agentx_persistence._redis.keys import Keys
from agentx_persistence._redis.scripts import FETCH, Script
from agentx_persistence._redis.store import RedisStore
from agentx_persistence.documents import DocumentStorage
from agentx_persistence.errors import (
    BackendError,
    BackendUnavailableError,
    CorruptRecordError,
    InvalidRecordError,
    MissingDependencyError,
    PersistenceClosedError,
    PersistenceError,
)
from agentx_persistence.forking import ForkAware, ForkGate, renew_after_fork
from agentx_persistence.persistence import PersistenceDriver, Storage

try:
    from redis import Redis, RedisCluster
    from redis.backoff import NoBackoff
    from redis.client import NEVER_DECODE
    from redis.connection import parse_url
    from redis.exceptions import (
        AskError,
        AuthenticationError,
        ClusterError,
        ConnectionError,
        NoScriptError,
        RedisClusterException,
        RedisError,
        ResponseError,
        TimeoutError,
    )
    from redis.retry import Retry
except ModuleNotFoundError as error:
    raise MissingDependencyError("redis", "redis") from error

T = TypeVar("T")

# An AskError is also what tells that a slot has moved.
_LOST = (ConnectionError, TimeoutError, ClusterError, RedisClusterException, AskError)
# Seconds before each further attempt; the last one counts for all that follow.
_PAUSES = (0.0, 0.05, 0.1, 0.2, 0.4)
# Replies as bytes, even from a client that was told to decode.
_UNDECODED: dict[str, Any] = {NEVER_DECODE: []}


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
        "retry": Retry(NoBackoff(), 0),  # _Connection repeats, for a server and a cluster alike
        **({"reinitialize_steps": 1} if cluster else {}),  # ask anew at the first sign of a move
    }
    kind = RedisCluster if cluster else Redis
    return _RedisDriver(
        "the given client" if client is not None else _without_secrets(url),
        base,
        client is None,
        (lambda: client)
        if client is not None
        else partial(kind.from_url, url, **defaults | options),
        retry_seconds,
        None if client is not None else _connection_limit(url, options),
    )


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
    place: str
    base: str
    owned: bool
    connect: Callable[[], Any]
    retry_seconds: float
    max_connections: int | None

    def __repr__(self) -> str:
        return f"redis_driver({self.place!r}, base={self.base!r})"

    def create_storage(self) -> Storage:
        connection = _Connection(self)
        try:
            cluster, found = connection.examine()
            for danger in sorted(found):
                # The caller of create_persistence is who can do something about it.
                warnings.warn(f"{self.place}: {danger}", DataLossWarning, stacklevel=3)
        except BaseException:
            connection.close()
            raise
        keys = Keys(self.base)
        indexing = JournalledIndexing if cluster else AtomicIndexing
        return DocumentStorage(RedisStore(connection, keys, indexing(connection, keys)))


class _Connection(ForkAware):
    """A client of redis-py: what may be repeated is repeated, and its errors end here."""

    def __init__(self, driver: _RedisDriver) -> None:
        self._driver = driver
        self._closed = False
        # Any, since few of redis-py's methods have types.
        self._client: Any = None
        self._has_pool = False
        self._renew()
        renew_after_fork(self)

    def _renew(self) -> None:
        self._gate = ForkGate()
        # redis-py's pool refuses whom it has no connection for, and repeating that is no queue: the
        # one who repeats it is overtaken, again and again.
        limit = self._driver.max_connections
        self._turn: Semaphore | nullcontext[None] = Semaphore(limit) if limit else nullcontext()

    def before_fork(self) -> None:
        # redis-py sees in a child that connections are the parent's, but some thread that is not
        # there could have held a lock of its client.
        self._gate.shut()

    def after_fork_in_parent(self) -> None:
        self._gate.reopen()

    def after_fork(self) -> None:
        self._renew()

    def examine(self) -> tuple[bool, set[str]]:
        """Connect, without repeating it; return whether it is a cluster, and what can lose data."""

        def work(_: None) -> tuple[bool, set[str]]:
            client = self._client = self._driver.connect()
            # Neither has a cluster, nor a client that is one connection and a lock.
            self._has_pool = isinstance(client, Redis) and client.connection is None
            found: set[str] = set()
            for server in _servers(self._client, primaries=True):
                with suppress(ResponseError):  # many hosted servers forbid to ask
                    found.update(dangers(server))
            return isinstance(self._client, RedisCluster), found

        return self._attempt(work, seconds=0)

    def script(
        self,
        script: Script,
        subject: Subject,
        keys: Sequence[bytes],
        arguments: Sequence[Argument],
    ) -> Any:
        rest = (len(keys), *keys, *arguments)

        def work(client: Any) -> Any:
            try:
                return self._execute(client, ("EVALSHA", script.sha, *rest))
            except NoScriptError:  # new to this server, or it was restarted
                return self._execute(client, ("EVAL", script.lua, *rest))

        return self._attempt(work, subject, keys[0])

    def command(self, command: Command, subject: Subject | None = None) -> Any:
        return self._attempt(lambda client: self._execute(client, command), subject, command[1])

    def pipeline(self, commands: Sequence[Command], subjects: Sequence[Subject]) -> list[Any]:
        def work(client: Any) -> list[Any]:
            if self._has_pool:
                replies = exchange(client.connection_pool, commands, ResponseError)
            else:
                pipe = client.pipeline(transaction=False)
                for command in commands:
                    pipe.execute_command(*command, **_UNDECODED)
                replies = list(pipe.execute(raise_on_error=False))
            for reply in replies:
                if isinstance(reply, Exception) and not _is_wrong_type(reply):
                    raise reply
            return replies

        replies = self._attempt(work)
        return self._without_errors(replies, [command[1] for command in commands], subjects)

    def fetch(
        self, keys: Sequence[bytes], fields: Sequence[str], subjects: Sequence[Subject]
    ) -> list[Any]:
        if not keys or isinstance(self._client, RedisCluster):
            return self.pipeline([("HMGET", key, *fields) for key in keys], subjects)
        return self._without_errors(self.script(FETCH, subjects[0], keys, fields), keys, subjects)

    def _without_errors(
        self, replies: list[Any], keys: Sequence[Argument], subjects: Sequence[Subject]
    ) -> list[Any]:
        for reply, key, subject in zip(replies, keys, subjects, strict=True):
            if isinstance(reply, Exception):
                raise self._failure(reply, subject, key) from reply
        return replies

    def _execute(self, client: Any, command: Command) -> Any:
        if not self._has_pool:
            return client.execute_command(*command, **_UNDECODED)
        (reply,) = exchange(client.connection_pool, [command], ResponseError)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def ping(self) -> None:
        self._attempt(lambda client: [server.ping() for server in _servers(client, primaries=True)])

    def close(self) -> None:
        self._closed = True
        self._release()

    def _release(self) -> None:
        if self._driver.owned and self._client is not None:
            with self._gate:
                for server in _servers(self._client):
                    # What other threads still use comes back here when they are done.
                    server.connection_pool.disconnect(inuse_connections=False)

    def _attempt(
        self,
        work: Callable[[Any], T],
        subject: Subject | None = None,
        key: Argument = b"",
        seconds: float | None = None,
    ) -> T:
        """Run `work`, again and again for some seconds if it may help."""
        patience = self._driver.retry_seconds if seconds is None else seconds
        deadline, attempt = 0.0, 0
        while True:
            try:
                with self._turn, self._gate:
                    if self._closed:
                        raise PersistenceClosedError
                    result = work(self._client)
            except (RedisError, RedisClusterException, UnicodeDecodeError) as error:
                deadline = deadline or time.monotonic() + patience
                passing = _is_lost(error) and not isinstance(error, AuthenticationError)
                if not passing or time.monotonic() >= deadline:
                    raise self._failure(error, subject, key) from error
            else:
                if self._closed:
                    self._release()
                return result
            time.sleep(_PAUSES[min(attempt, len(_PAUSES) - 1)] * random.uniform(0.5, 1.5))
            attempt += 1

    def _failure(
        self, error: Exception, subject: Subject | None, key: Argument
    ) -> PersistenceError:
        name = key.decode() if isinstance(key, bytes) else str(key)
        if subject and (_is_wrong_type(error) or isinstance(error, UnicodeDecodeError)):
            kind, id = subject
            return CorruptRecordError(kind.removesuffix("s"), id, f"redis, key {name!r}: {error}")
        failure = BackendUnavailableError if _is_lost(error) else BackendError
        return failure("redis", f"{self._driver.place}{name and f', key {name!r}'}: {error}")


def _servers(client: Any, *, primaries: bool = False) -> list[Any]:
    """Return a client of each node of a cluster, or the client itself."""
    if not isinstance(client, RedisCluster):
        return [client]
    nodes = client.get_primaries() if primaries else client.get_nodes()  # type: ignore[no-untyped-call]
    return [client.get_redis_connection(node) for node in nodes]


def _is_wrong_type(error: Exception) -> bool:
    return isinstance(error, ResponseError) and "WRONGTYPE" in str(error)


def _is_lost(error: Exception) -> bool:
    # Redis 6 wraps what a command in a script was refused with, so that only the text tells.
    return isinstance(error, _LOST) or "READONLY " in str(error) or "TRYAGAIN " in str(error)
