"""What the errors of redis-py mean."""

from __future__ import annotations

import re

from redis.exceptions import (
    AskError,
    AuthenticationError,
    ClusterError,
    ConnectionError,
    NoPermissionError,
    ReadOnlyError,
    RedisClusterException,
    ResponseError,
    TimeoutError,
)

from agentx_persistence.errors import (
    BackendError,
    BackendUnavailableError,
    ConfigurationError,
    CorruptRecordError,
    PersistenceError,
)

# The noun and the id of the record that an error is about.
Subject = tuple[str, str]

# The work may have been done, or not. An AskError is also what tells that a slot has moved.
LOST = (ConnectionError, TimeoutError, ClusterError, RedisClusterException, AskError)
# Refusals that pass. redis-py removes some of these words, and has a class for each of those; Redis
# wraps the refusal of a command in a script, so that the word is not the first one.
_PASSING = re.compile(r"\b(READONLY|NOREPLICAS|BUSY|LOADING|TRYAGAIN|CLUSTERDOWN|MASTERDOWN) ")
_NO_CLUSTER = "Cluster mode is not enabled"


def may_pass(error: Exception) -> bool:
    if isinstance(error, AuthenticationError) or _NO_CLUSTER in str(error):
        return False
    passing = isinstance(error, (*LOST, ReadOnlyError))
    return passing or (isinstance(error, ResponseError) and bool(_PASSING.search(str(error))))


def is_wrong_type(error: Exception) -> bool:
    return isinstance(error, ResponseError) and "WRONGTYPE" in str(error)


def failure(
    place: str, error: Exception, subject: Subject | None, key: bytes | str | int
) -> PersistenceError:
    """Return this package's error for one of redis-py.

    :param place: what an error calls the server
    :param subject: what the key belongs to, which is damaged if it has a wrong type
    """
    name = key.decode() if isinstance(key, bytes) else str(key)
    if subject and (is_wrong_type(error) or isinstance(error, UnicodeDecodeError)):
        noun, id = subject
        where = f"key {name!r}: " if name else ""
        return CorruptRecordError(noun, id, f"redis, {where}{error}")
    kind: type[BackendError] = BackendError
    if isinstance(error, (AuthenticationError, NoPermissionError)) or _NO_CLUSTER in str(error):
        kind = ConfigurationError
    elif may_pass(error):
        kind = BackendUnavailableError
    hint = "; open it without cluster=True" if _NO_CLUSTER in str(error) else ""
    return kind("redis", f"{place}{name and f', key {name!r}'}: {error}{hint}")
