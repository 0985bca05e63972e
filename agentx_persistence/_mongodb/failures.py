"""What the errors of pymongo and the server mean for a call."""

from __future__ import annotations

from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    ConnectionFailure,
    DuplicateKeyError,
    OperationFailure,
    ProtocolError,
    PyMongoError,
    WTimeoutError,
)
from pymongo.errors import ConfigurationError as WrongOption

from agentx_persistence.errors import BackendError, BackendUnavailableError, ConfigurationError

_DUPLICATE_KEY = 11000
_WRITE_CONFLICT = 112
_PASSING_LABELS = ("RetryableWriteError", "TransientTransactionError")

_RIGHTS = "give the user the role readWrite on the database"
_REMEDIES = {
    13: _RIGHTS,
    18: "check the user name, the password and authSource in the connection string",
    31: _RIGHTS,
    33: _RIGHTS,
    8000: "check the user name and the password in the connection string",
}


def is_duplicate(error: PyMongoError) -> bool:
    """Return whether a unique index refused a document."""
    if isinstance(error, BulkWriteError):
        return any(each["code"] == _DUPLICATE_KEY for each in error.details["writeErrors"])
    return isinstance(error, DuplicateKeyError)


def is_passing(error: PyMongoError) -> bool:
    """Return whether repeating the call may help."""
    if isinstance(error, BulkWriteError):
        return bool(error.details["writeConcernErrors"]) and not error.details["writeErrors"]
    if remedy_of(error) is not None:
        return False
    return (
        isinstance(error, (AutoReconnect, ConnectionFailure, ProtocolError, WTimeoutError))
        or any(error.has_error_label(label) for label in _PASSING_LABELS)
        or (isinstance(error, OperationFailure) and error.code == _WRITE_CONFLICT)
    )


def remedy_of(error: PyMongoError) -> str | None:
    """Return what has to be changed, if repeating the call cannot help."""
    if isinstance(error, WrongOption):
        return "change the connection string or the options"
    if isinstance(error, OperationFailure) and error.code is not None:
        return _REMEDIES.get(error.code)
    return None


def translated(error: PyMongoError, database_name: str) -> BackendError:
    remedy = remedy_of(error)
    if remedy is not None:
        return ConfigurationError("mongodb", f"{database_name}: {remedy}: {error}")
    kind = BackendUnavailableError if is_passing(error) else BackendError
    return kind("mongodb", f"{database_name}: {error}")
