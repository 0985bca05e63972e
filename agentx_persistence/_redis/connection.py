"""Sending commands and scripts to Redis: repeats calls, and translates redis-py's errors."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from redis.client import NEVER_DECODE
from redis.exceptions import NoScriptError, RedisClusterException, RedisError, ResponseError

from agentx_persistence._redis.cluster import Cluster, Exchange
from agentx_persistence._redis.pool import Argument, Command, Pool, exchange_with
from agentx_persistence._redis.refusals import (
    LOST,
    UNDONE,
    Subject,
    failure,
    hide_options,
    is_wrong_type,
    may_pass,
)
from agentx_persistence._redis.scripts import Script
from agentx_persistence.errors import BackendUnavailableError, PersistenceClosedError
from agentx_persistence.storage._retrying import Retries

T = TypeVar("T")
# What a script is called with: the record that it is about, its keys and its arguments.
Call = tuple[Subject, Sequence[bytes], Sequence[Argument]]

# Replies as bytes, even from a client that decodes.
_UNDECODED: dict[str, Any] = {NEVER_DECODE: []}


@dataclass(frozen=True, repr=False)
class Target:
    """What to connect to, and how.

    `place` names the server in error messages. `owned` is False for a client of the caller.
    """

    place: str
    owned: bool
    connect: Callable[[], Any]
    cluster: bool
    retry_seconds: float
    max_connections: int | None = None
    pool_timeout: float = 30.0


class Connection:
    """Sends commands and scripts. Replies are bytes, numbers, ``None``, and lists of these."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.cluster = target.cluster
        self._closed = False
        # Any, since few of redis-py's methods have types.
        self._client: Any = None
        self._pool: Pool | Cluster | None = None
        self._process = 0

    def _begin(self) -> None:
        """Make a client without connections, at first and after a fork."""
        target = self.target
        client = target.connect()
        limit, wait = target.max_connections, target.pool_timeout
        if target.cluster:
            self._pool = Cluster(client, limit, wait if target.owned else None)
        elif target.owned:
            self._pool = Pool(client.connection_pool, limit, wait)
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

        :param unsure: called with the reply if an earlier attempt may have done the work; returns
            whether the reply leaves open if it did
        """
        calls: list[Call] = [(subject, keys, arguments)]
        (reply,), lost = self._attempt(lambda: self._run(script, calls), subject, keys[0])
        if lost and unsure and unsure(reply):
            raise self.answer_lost(subject)
        return reply

    def answer_lost(self, subject: Subject) -> BackendUnavailableError:
        """Return the error for a call that may or may not have done its work."""
        return BackendUnavailableError(
            "redis",
            f"{self.target.place}: the connection was lost, and others have changed "
            f"{subject[0]} {subject[1]!r} since; read it to see whether this call was applied",
        )

    def scripts(
        self,
        script: Script,
        calls: Sequence[Call],
        meanwhile: Callable[[], None] | None = None,
    ) -> list[Any]:
        """Run the script for each of these keys and arguments, in one round trip.

        :param meanwhile: called in each attempt while the server works; not at all in a cluster, or
            with a client of the application, from whose pool it could want the connection that is
            in use
        """
        work = partial(self._run, script, calls, meanwhile)
        return self._attempt(work, calls[0][0])[0] if calls else []

    def command(self, command: Command, subject: Subject | None = None) -> Any:
        """Run the command, whose first argument is its key; return its reply."""
        return self.pipeline([command], subject and [subject])[0]

    def pipeline(
        self, commands: Sequence[Command], subjects: Sequence[Subject] | None = None
    ) -> list[Any]:
        """Run the commands in one round trip; return their replies.

        :param subjects: the records to which the keys belong; a key of the wrong type then raises
            `CorruptRecordError` for its record
        """

        def work() -> list[Any]:
            replies = self._exchange(commands)
            for reply in replies:
                if isinstance(reply, Exception) and not is_wrong_type(reply):
                    raise reply
            return replies

        replies = self._attempt(work)[0] if commands else []
        for number, reply in enumerate(replies):
            if isinstance(reply, Exception):
                subject = subjects[number] if subjects else None
                raise failure(self.target.place, reply, subject, commands[number][1]) from reply
        return replies

    def _run(
        self,
        script: Script,
        calls: Sequence[Call],
        meanwhile: Callable[[], None] | None = None,
    ) -> list[Any]:
        rest = [(len(keys), *keys, *arguments) for _, keys, arguments in calls]
        replies = self._exchange([("EVALSHA", script.sha, *each) for each in rest], meanwhile)
        for number, reply in enumerate(replies):
            if isinstance(reply, NoScriptError):  # new to this server, or the server was restarted
                (replies[number],) = self._exchange([("EVAL", script.lua, *rest[number])])
            error = replies[number]
            if isinstance(error, Exception):
                if is_wrong_type(error):
                    subject, keys, _ = calls[number]
                    raise failure(self.target.place, error, subject, keys[0]) from error
                raise error
        return replies

    def _exchange(
        self, commands: Sequence[Command], meanwhile: Callable[[], None] | None = None
    ) -> list[Any]:
        """Send the commands at once; return the reply to each, or its ResponseError."""
        if isinstance(self._pool, Pool):
            return self._pool.exchange(commands, meanwhile)
        if self._pool is not None:
            return self._pool.exchange(commands)
        client = self._client
        if client.connection is None:
            return exchange_with(client.connection_pool, commands)
        # A client of a single connection has no pool to use.
        try:
            if len(commands) == 1:
                try:
                    return [client.execute_command(*commands[0], **_UNDECODED)]
                except ResponseError as error:
                    return [error]
            pipe = client.pipeline(transaction=False)
            for command in commands:
                pipe.execute_command(*command, **_UNDECODED)
            return list(pipe.execute(raise_on_error=False))
        except Exception:
            raise
        except BaseException:
            self._drop_idle()  # the handshake of a connection may be unfinished
            raise

    def inspect(self, commands: Sequence[Command], seconds: float | None = None) -> list[list[Any]]:
        """Run the commands on each primary; return their replies, errors included.

        :param seconds: no attempt begins later than this many seconds after the call
        """

        def work() -> list[list[Any]]:
            return [exchange(commands) for exchange in self._primaries()]

        return self._attempt(work, seconds=seconds)[0]

    def scan(self, begin: bytes) -> set[bytes]:
        """Return the keys that begin with this. All keys of all primaries are looked at."""

        def work() -> set[bytes]:
            found: set[bytes] = set()
            for exchange in self._primaries():
                cursor: bytes | None = b"0"
                while cursor is not None:
                    (reply,) = exchange([("SCAN", cursor, "COUNT", 1000)])
                    if isinstance(reply, Exception):
                        raise reply
                    found.update(key for key in reply[1] if key.startswith(begin))
                    cursor = reply[0] if int(reply[0]) else None
            return found

        return self._attempt(work)[0]

    def _primaries(self) -> list[Exchange]:
        return self._pool.primaries() if isinstance(self._pool, Cluster) else [self._exchange]

    def ping(self) -> None:
        for replies in self.inspect([("PING",)]):
            for reply in replies:
                if isinstance(reply, Exception):
                    raise failure(self.target.place, reply, None, b"") from reply

    def close(self) -> None:
        self._closed = True
        if self.target.owned and self._pool is not None:
            self._pool.close()  # calls that are under way close their connections in `_attempt`
            self._leave_sentinels()

    def _leave_sentinels(self) -> None:
        # In a child process the client is the parent's, as in `_refresh`.
        if isinstance(self._pool, Pool) and self._process == os.getpid():
            manager = getattr(self._client.connection_pool, "sentinel_manager", None)
            for sentinel in manager.sentinels if manager else ():
                sentinel.connection_pool.disconnect(inuse_connections=False)

    def _drop_idle(self) -> None:
        if self._pool is not None:
            self._pool.disconnect()
        else:
            self._client.connection_pool.disconnect(inuse_connections=False)

    def _refresh(self, seconds: float) -> None:
        # In a child process the client is the parent's, whose locks another thread may have held.
        if isinstance(self._pool, Cluster) and self._process == os.getpid():
            self._pool.refresh(seconds)

    def _attempt(
        self,
        work: Callable[[], T],
        subject: Subject | None = None,
        key: Argument = b"",
        seconds: float | None = None,
    ) -> tuple[T, bool]:
        """Run `work`, and repeat it for some seconds after errors that may pass. Return its result,
        and whether an earlier attempt may have had an effect."""
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
                hide_options(error)
                if self._closed:
                    self.close()
                    raise PersistenceClosedError from error
                if not may_pass(error):
                    raise failure(self.target.place, error, subject, key) from error
                if not isinstance(error, LOST):
                    self._drop_idle()  # the server may not be the primary any more
                lost = lost or (isinstance(error, LOST) and not isinstance(error, UNDONE))
                deadline = deadline or time.monotonic() + self.target.retry_seconds
                left = deadline - time.monotonic()
                if isinstance(error, LOST) and (left > 0 or retries is None):
                    self._refresh(left)
                retries = retries or Retries("redis", deadline)
                if not retries.pause(f"{self.target.place}: {error}"):
                    raise failure(self.target.place, error, subject, key) from error
            else:
                if self._closed:
                    self.close()
                return result, lost
