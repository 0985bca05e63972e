"""What the errors of redis-py mean."""

from __future__ import annotations

import re

from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    ClusterError,
    ConnectionError,
    NoPermissionError,
    ReadOnlyError,
    RedisClusterException,
    ResponseError,
    TimeoutError,
    TryAgainError,
)

from agentx_persistence._redis.pool import NotSentError
from agentx_persistence.errors import (
    BackendError,
    BackendUnavailableError,
    ConfigurationError,
    CorruptRecordError,
    PersistenceError,
)

# The noun and the id of the record that an error is about.
Subject = tuple[str, str]

# The server could not be reached, or another node of the cluster has the key. It is unknown whether
# the work was done, unless the error is one of `UNDONE`.
LOST = (ConnectionError, TimeoutError, ClusterError, RedisClusterException, AskError)
UNDONE = (NotSentError, AskError, BusyLoadingError, ClusterDownError)
# Errors that may pass, by a word in their text. It need not be the first word, because Redis wraps
# the error of a command inside a script. redis-py removes some of these words from the text, and
# has exception classes instead.
_PASSING = re.compile(r"\b(READONLY|NOREPLICAS|BUSY|LOADING|TRYAGAIN|CLUSTERDOWN|MASTERDOWN) ")
_NO_CLUSTER = "Cluster mode is not enabled"
# What redis-py says of a sentinel that does not answer: all its options, up to version 7 with the
# password, and then the class of the error.
_SENTINEL = re.compile(r"> - (?:\w+:)?(\w+)")


def hide_options(error: BaseException | None) -> None:
    """Shorten the text of an error that has the options of sentinels, and of its causes."""
    while error is not None:
        text = str(error)
        if text.startswith("No master found for ") and " : " in text:
            reasons = ", ".join(dict.fromkeys(_SENTINEL.findall(text)))
            error.args = (f"{text.partition(' : ')[0]}; not all sentinels answer ({reasons})",)
        error = error.__cause__


def may_pass(error: Exception) -> bool:
    if isinstance(error, AuthenticationError) or _NO_CLUSTER in str(error):
        return False
    passing = isinstance(error, (*LOST, ReadOnlyError, TryAgainError))
    return passing or (isinstance(error, ResponseError) and bool(_PASSING.search(str(error))))


def is_wrong_type(error: Exception) -> bool:
    return isinstance(error, ResponseError) and "WRONGTYPE" in str(error)


def failure(
    place: str, error: Exception, subject: Subject | None, key: bytes | str | int
) -> PersistenceError:
    """Return this package's error for an error of redis-py.

    :param place: the name of the server in error messages
    :param subject: the record that the key belongs to; it is damaged if the key has a wrong type
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
