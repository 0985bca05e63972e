"""What the Redis backend asks of a server: calls are repeated, and redis-py's errors end here."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from redis import Redis, RedisCluster
from redis.client import NEVER_DECODE
from redis.exceptions import (
    AskError,
    AuthenticationError,
    ClusterError,
    ConnectionError,
    NoPermissionError,
    NoScriptError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TimeoutError,
)

from agentx_persistence._redis.pool import LARGE, Argument, Command, NotSentError, Pool, exchange
from agentx_persistence._redis.scripts import Script
from agentx_persistence.errors import (
    BackendError,
    BackendUnavailableError,
    ConfigurationError,
    CorruptRecordError,
    PersistenceClosedError,
    PersistenceError,
)
from agentx_persistence.storage._retrying import Retries

T = TypeVar("T")

# The noun and the id of the record that an error is about.
Subject = tuple[str, str]

# An AskError is also what tells that a slot has moved.
_LOST = (ConnectionError, TimeoutError, ClusterError, RedisClusterException, AskError)
# Refusals that pass. redis-py removes some of these words, and has a class for each of those; Redis
# wraps the refusal of a command in a script, so that the word is not the first one.
_PASSING = re.compile(r"\b(READONLY|NOREPLICAS|BUSY|LOADING|TRYAGAIN|CLUSTERDOWN|MASTERDOWN) ")
_NO_CLUSTER = "Cluster mode is not enabled"
# Replies as bytes, even from a client that decodes.
_UNDECODED: dict[str, Any] = {NEVER_DECODE: []}


@dataclass(frozen=True, repr=False)
class Target:
    """What to connect to, and how; `place` is what an error calls it."""

    place: str
    owned: bool
    connect: Callable[[], Any]
    cluster: bool
    retry_seconds: float
    max_connections: int | None = None
    pool_timeout: float = 30.0


class Connection:
    """Replies are what Redis sends: bytes, numbers, ``None``, and lists of these."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.cluster = target.cluster
        self._closed = False
        # Any, since few of redis-py's methods have types.
        self._client: Any = None
        self._pool: Pool | None = None
        self._process = 0

    def _begin(self) -> None:
        """Begin with no connections, as a new process has to."""
        target = self.target
        client = target.connect()
        if target.owned and not target.cluster:
            pool = client.connection_pool
            make, options = pool.connection_class, pool.connection_kwargs
            self._pool = Pool(lambda: make(**options), target.max_connections, target.pool_timeout)
        self._client, self._process = client, os.getpid()

    def script(
        self,
        script: Script,
        subject: Subject,
        keys: Sequence[bytes],
        arguments: Sequence[Argument],
        unsure: Callable[[Any], bool] | None = None,
    ) -> Any:
        """Run the script; return its reply.

        :param unsure: whether this reply, to an attempt whose predecessor may have done the work,
            does not tell if it did
        """
        reply, lost = self._attempt(lambda: self._run(script, [(keys, arguments)])[0], subject)
        if lost and unsure and unsure(reply):
            raise BackendUnavailableError(
                "redis",
                f"{self.target.place}: the connection was lost, and others have changed "
                f"{subject[0]} {subject[1]!r} since; read it to see whether this call did its work",
            )
        return reply

    def scripts(
        self, script: Script, calls: Sequence[tuple[Subject, Sequence[bytes], Sequence[Argument]]]
    ) -> list[Any]:
        """Run the script for each of these keys and arguments, in one round trip."""
        given = [(keys, arguments) for _, keys, arguments in calls]
        return self._attempt(lambda: self._run(script, given), calls[0][0])[0] if calls else []

    def command(self, command: Command, subject: Subject | None = None) -> Any:
        """Run the command, whose first argument is its key; return its reply."""
        return self.pipeline([command], subject and [subject])[0]

    def pipeline(
        self, commands: Sequence[Command], subjects: Sequence[Subject] | None = None
    ) -> list[Any]:
        """Run the commands in one round trip; return their replies.

        :param subjects: what the key of each belongs to, if it is damaged when it has a wrong type
        """

        def work() -> list[Any]:
            replies = self._exchange(commands)
            for reply in replies:
                if isinstance(reply, Exception) and not _is_wrong_type(reply):
                    raise reply
            return replies

        replies = self._attempt(work)[0] if commands else []
        for number, reply in enumerate(replies):
            if isinstance(reply, Exception):
                subject = subjects[number] if subjects else None
                raise self._failure(reply, subject, commands[number][1]) from reply
        return replies

    def _run(
        self, script: Script, calls: Sequence[tuple[Sequence[bytes], Sequence[Argument]]]
    ) -> list[Any]:
        rest = [(len(keys), *keys, *arguments) for keys, arguments in calls]
        replies = self._exchange([("EVALSHA", script.sha, *each) for each in rest])
        for number, reply in enumerate(replies):
            if isinstance(reply, NoScriptError):  # new to this server, or it was restarted
                (replies[number],) = self._exchange([("EVAL", script.lua, *rest[number])])
            if isinstance(replies[number], Exception):
                raise replies[number]
        return replies

    def _exchange(self, commands: Sequence[Command]) -> list[Any]:
        """Send the commands at once; return the reply to each, or its ResponseError."""
        if self._pool is not None:
            return self._pool.exchange(commands)
        client = self._client
        if isinstance(client, Redis) and client.connection is None:
            return exchange_with(client.connection_pool, commands)
        try:
            if len(commands) == 1:
                (command,) = commands
                if self.cluster and command[0] == "EVALSHA" and _size(command) > LARGE:
                    # With a time-out of its own, that redis-py's method does not have.
                    node = client.get_node_from_key(command[3])
                    pool = client.get_redis_connection(node).connection_pool
                    replies = exchange_with(pool, commands)
                    if not isinstance(replies[0], AskError):  # which tells that a slot has moved
                        return replies
                try:
                    return [client.execute_command(*command, **_UNDECODED)]
                except ResponseError as error:
                    return [error]
            # Neither a cluster has a single pool, nor a client that is one connection and a lock.
            pipe = client.pipeline(transaction=False)
            for command in commands:
                pipe.execute_command(*command, **_UNDECODED)
            return list(pipe.execute(raise_on_error=False))
        except Exception:
            raise
        except BaseException:
            # Connections of the client may be half greeted, or have an answer to come.
            if self.target.owned:
                self._process = 0
            for server in servers(client):
                server.connection_pool.disconnect(inuse_connections=False)
            raise

    def inspect(self, commands: Sequence[Command], seconds: float | None = None) -> list[list[Any]]:
        """Run the commands on each primary; return their replies, errors included.

        :param seconds: after so many the last attempt begins
        """

        def work() -> list[list[Any]]:
            if not isinstance(self._client, RedisCluster):
                return [self._exchange(commands)]
            primaries = servers(self._client, primaries=True)
            return [exchange_with(each.connection_pool, commands) for each in primaries]

        return self._attempt(work, seconds=seconds)[0]

    def ping(self) -> None:
        for replies in self.inspect([("PING",)]):
            for reply in replies:
                if isinstance(reply, Exception):
                    raise self._failure(reply, None, b"") from reply

    def close(self) -> None:
        self._closed = True
        if not self.target.owned or self._client is None:
            return
        if self._pool is not None:
            self._pool.closed = True
            self._pool.disconnect()
        else:
            for server in servers(self._client):
                # Those that other threads use come back and are closed when they are done.
                server.connection_pool.disconnect(inuse_connections=False)

    def _attempt(
        self,
        work: Callable[[], T],
        subject: Subject | None = None,
        key: Argument = b"",
        seconds: float | None = None,
    ) -> tuple[T, bool]:
        """Run `work`, repeatedly for some seconds if that may help; return what it returns, and
        whether an earlier attempt may have done it."""
        deadline = None if seconds is None else time.monotonic() + seconds
        retries, lost = None, False
        while True:
            if self._closed:
                raise PersistenceClosedError
            try:
                if self._process != os.getpid():
                    self._begin()
                result = work()
            except (RedisError, RedisClusterException, UnicodeDecodeError) as error:
                if self._closed:
                    raise PersistenceClosedError from error
                if not _may_pass(error):
                    raise self._failure(error, subject, key) from error
                if not isinstance(error, _LOST) and self._pool is not None:
                    self._pool.disconnect()  # from a server that is not the primary any more
                lost = lost or (isinstance(error, _LOST) and not isinstance(error, NotSentError))
                deadline = deadline or time.monotonic() + self.target.retry_seconds
                retries = retries or Retries("redis", deadline)
                if not retries.pause(f"{self.target.place}: {error}"):
                    raise self._failure(error, subject, key) from error
            else:
                if self._closed:
                    self.close()
                return result, lost

    def _failure(
        self, error: Exception, subject: Subject | None, key: Argument
    ) -> PersistenceError:
        name = key.decode() if isinstance(key, bytes) else str(key)
        if subject and (_is_wrong_type(error) or isinstance(error, UnicodeDecodeError)):
            noun, id = subject
            where = f"key {name!r}: " if name else ""
            return CorruptRecordError(noun, id, f"redis, {where}{error}")
        failure: type[BackendError] = BackendError
        if isinstance(error, (AuthenticationError, NoPermissionError)) or _NO_CLUSTER in str(error):
            failure = ConfigurationError
        elif _may_pass(error):
            failure = BackendUnavailableError
        return failure("redis", f"{self.target.place}{name and f', key {name!r}'}: {error}")


def exchange_with(pool: Any, commands: Sequence[Command]) -> list[Any]:
    """Do the same over a connection of redis-py's pool."""
    try:
        connection = pool.get_connection()
    except BaseException:
        # The pool has taken back the connection, whose greeting was interrupted.
        pool.disconnect(inuse_connections=False)
        raise
    try:
        return exchange(connection, commands)
    finally:
        pool.release(connection)


def servers(client: Any, *, primaries: bool = False) -> list[Any]:
    """Return a client of each node of a cluster, or the client itself."""
    if not isinstance(client, RedisCluster):
        return [client]
    nodes = client.get_primaries() if primaries else client.get_nodes()  # type: ignore[no-untyped-call]
    with suppress(RedisError):
        return [client.get_redis_connection(node) for node in nodes]
    return []


def _size(command: Command) -> int:
    return sum(len(argument) for argument in command if isinstance(argument, bytes))


def _is_wrong_type(error: Exception) -> bool:
    return isinstance(error, ResponseError) and "WRONGTYPE" in str(error)


def _may_pass(error: Exception) -> bool:
    if isinstance(error, AuthenticationError) or _NO_CLUSTER in str(error):
        return False
    passing = isinstance(error, (*_LOST, ReadOnlyError))
    return passing or (isinstance(error, ResponseError) and bool(_PASSING.search(str(error))))
