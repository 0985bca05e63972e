"""Checks of the server when a storage is opened, so that problems appear before the first save."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from typing import Any

from agentx_persistence._redis.connection import Connection
from agentx_persistence._redis.keys import Keys
from agentx_persistence._redis.scripts import Script
from agentx_persistence.errors import BackendError, ConfigurationError
from agentx_persistence.storage import CONTAINERS

COMMANDS = (
    *("copy", "eval", "evalsha", "exists", "hdel", "hget", "hgetall", "hmget", "hset", "hsetnx"),
    *("info", "lindex", "llen", "lrange", "lset", "ltrim", "persist", "pexpire", "ping", "rename"),
    *("rpop", "rpush", "unlink", "zadd", "zcard", "zcount", "zlexcount", "zmscore", "zrange"),
    *("zrangebyscore", "zrem", "zremrangebyscore", "zscore"),
)

# The largest value that a server accepts, in bytes, unless it is configured otherwise.
_LIMIT = 512 * 1024 * 1024
# For how many seconds the first look at the server is repeated after errors that may pass. The
# check of rights after it is repeated as long as any call.
_PATIENCE = 2.0
_REFUSED = re.compile(r"NOPERM|permission|ACL failure|can't run this command", re.IGNORECASE)


class DataLossWarning(UserWarning):
    """The server's configuration can lose data that it has acknowledged."""


# Runs each command once on unused keys. KEYS: four keys. Returns the first refusal, or nothing.
_CHECK = Script("""
local function run(...)
  local reply = redis.pcall(...)
  return type(reply) == 'table' and reply.err
end
local hash, list, zset, other = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local refusal = run('HSET', hash, 'a', '1') or run('HSETNX', hash, 'a', '1')
  or run('HGET', hash, 'a') or run('HMGET', hash, 'a') or run('HGETALL', hash)
  or run('HDEL', hash, 'a') or run('RPUSH', list, '1', '2') or run('LSET', list, 0, '1')
  or run('LINDEX', list, 0) or run('LLEN', list) or run('LRANGE', list, 0, -1)
  or run('LTRIM', list, 0, 1) or run('RPOP', list) or run('PEXPIRE', list, 60000)
  or run('PERSIST', list) or run('RENAME', list, other) or run('COPY', other, list)
  or run('ZADD', zset, '1', 'a')
  or run('ZCARD', zset) or run('ZCOUNT', zset, '1', '2') or run('ZLEXCOUNT', zset, '-', '+')
  or run('ZMSCORE', zset, 'a') or run('ZSCORE', zset, 'a') or run('ZRANGE', zset, 0, 1)
  or run('ZRANGEBYSCORE', zset, '1', '2') or run('ZREMRANGEBYSCORE', zset, '5', '6')
  or run('ZREM', zset, 'a') or run('EXISTS', zset) or run('UNLINK', hash, list, zset, other)
return refusal
""")


def examine(connection: Connection, base: str) -> tuple[int, set[str]]:
    """Check the server's kind and this user's rights.

    Return the largest value, in bytes, that the server accepts, and descriptions of the settings
    that can lose acknowledged data.
    """
    place = connection.target.place
    document = Keys(base).document(CONTAINERS, f"check {secrets.token_hex(8)}")
    keys = [document + end for end in (b"", b":list", b":set", b":other")]
    settings = ("proto-max-bulk-len", "appendfsync", "save")
    limit, dangers = _LIMIT, set[str]()
    look = [("INFO",), *(("CONFIG", "GET", name) for name in settings), ("PING",)]
    try:
        replies = connection.inspect(look, min(_PATIENCE, connection.target.retry_seconds))
    except BackendError as error:
        if type(error) is not BackendError:
            raise
        # For example, the database number does not exist.
        raise ConfigurationError("redis", error.reason) from error
    for info, *answers, pong in replies:
        if isinstance(pong, Exception):
            raise ConfigurationError("redis", f"{place}: {pong}") from pong
        facts = _facts(info)
        if facts.get("cluster_enabled") == "1" and not connection.cluster:
            raise ConfigurationError(
                "redis", f"{place} is a node of a Redis Cluster; give cluster=True"
            )
        pairs = [answer for answer in answers if isinstance(answer, (list, dict))]
        config = dict(zip(settings, (_second(pair) for pair in pairs), strict=False))
        config = config if len(pairs) == len(settings) else {}
        if config.get("proto-max-bulk-len", "").isdigit():
            limit = min(limit, int(config["proto-max-bulk-len"]))
        dangers.update(_dangers(facts, config))
    _check_rights(connection, keys, base)
    return limit, dangers


def _check_rights(connection: Connection, keys: list[bytes], base: str) -> None:
    place = connection.target.place
    try:
        refusal = connection.script(_CHECK, ("container", "check"), keys, ())
    except BackendError as error:
        if not _REFUSED.search(str(error.__cause__)):
            raise
        refusal = str(error.__cause__).encode()
    if refusal and _REFUSED.search(refusal.decode()):
        raise ConfigurationError(
            "redis",
            f"{place} refuses a command to this user: {refusal.decode()}; allow the keys "
            f"{base + ':*'!r} and the commands {', '.join(COMMANDS)}",
        )


def _facts(info: Any) -> dict[str, str]:
    """Return the facts in the reply to INFO; none if it is an error, as many hosted servers forbid
    INFO."""
    if not isinstance(info, bytes):
        return {}
    lines = [line.partition(":") for line in info.decode(errors="replace").splitlines()]
    return {name: value for name, _, value in lines}


def _second(pair: Any) -> str:
    values = [*pair.values()] if isinstance(pair, dict) else pair[1:]
    value = values[0] if values else b""
    return value.decode() if isinstance(value, bytes) else str(value)


def _dangers(facts: dict[str, str], config: dict[str, str]) -> Iterator[str]:
    # The server counts replicas only if min-replicas-to-write is set.
    if "min_slaves_good_slaves" in facts and facts["redis_version"].startswith("6."):
        yield (
            "this server, older than Redis 7.0, does not apply min-replicas-to-write to scripts,"
            " and this package writes with scripts"
        )
    policy = facts.get("maxmemory_policy", "noeviction")
    # The policies "volatile-…" evict only keys that expire: here, only unfinished copies.
    if policy.startswith("allkeys"):
        yield f"maxmemory-policy is {policy}, not noeviction: data may be evicted"
    if facts.get("aof_enabled", "1") != "1":
        if config and not config["save"]:
            yield "neither appendonly nor save is on: a restart loses all data"
    elif config.get("appendfsync") == "no":
        yield "appendfsync is no: a crash of the machine loses data that is not yet on its disk"
