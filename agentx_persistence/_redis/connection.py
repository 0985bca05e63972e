"""The client of redis-py: what may be repeated is repeated, and its errors end here."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from threading import Semaphore
from typing import Any, TypeVar

from redis import Redis, RedisCluster
from redis.client import NEVER_DECODE
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

from agentx_persistence._redis.client import Argument, Command, Subject
from agentx_persistence._redis.durability import dangers
from agentx_persistence._redis.exchange import exchange
from agentx_persistence._redis.keys import DOCUMENT_FIELDS
from agentx_persistence._redis.scripts import FETCH, Script
from agentx_persistence.errors import (
    BackendError,
    BackendUnavailableError,
    CorruptRecordError,
    PersistenceClosedError,
    PersistenceError,
)
from agentx_persistence.forking import ForkAware, ForkGate, renew_after_fork

T = TypeVar("T")

# An AskError is also what tells that a slot has moved.
_LOST = (ConnectionError, TimeoutError, ClusterError, RedisClusterException, AskError)
# Seconds before each further attempt; the last one counts for all that follow.
_PAUSES = (0.0, 0.05, 0.1, 0.2, 0.4)
# Replies as bytes, even from a client that was told to decode.
_UNDECODED: dict[str, Any] = {NEVER_DECODE: []}


@dataclass(frozen=True, repr=False)
class Target:
    """What to connect to, as an error names it, and how."""

    place: str
    owned: bool
    connect: Callable[[], Any]
    retry_seconds: float
    max_connections: int | None


class Connection(ForkAware):
    def __init__(self, target: Target) -> None:
        self._target = target
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
        limit = self._target.max_connections
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
            client = self._client = self._target.connect()
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
        self, keys: Sequence[bytes], versions: Sequence[bytes], subjects: Sequence[Subject]
    ) -> list[Any]:
        if keys and not isinstance(self._client, RedisCluster):
            replies = self.script(FETCH, subjects[0], keys, versions)
            return self._without_errors(replies, keys, subjects)
        replies = self.pipeline([("HMGET", key, *DOCUMENT_FIELDS) for key in keys], subjects)
        return [
            [fields[0], fields[2]] if fields[3] == version and None not in fields else fields
            for fields, version in zip(replies, versions, strict=True)
        ]

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
        if self._target.owned and self._client is not None:
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
        patience = self._target.retry_seconds if seconds is None else seconds
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
        return failure("redis", f"{self._target.place}{name and f', key {name!r}'}: {error}")


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
