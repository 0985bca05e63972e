"""The checks before each call of the storage, and the translation of errors after it."""

from __future__ import annotations

import errno
import functools
import os
import sqlite3
from collections.abc import Callable
from threading import get_ident
from typing import TYPE_CHECKING, Any, TypeVar, cast

from agentx_persistence.errors import (
    BackendError,
    BackendUnavailableError,
    ConfigurationError,
    PersistenceClosedError,
)

if TYPE_CHECKING:
    from agentx_persistence._fs.documents import FileDocuments

F = TypeVar("F", bound=Callable[..., Any])

# Errors of the operating system: those that may pass, such as a folder that is not mounted, and
# those that the user has to correct, such as a folder without write permission.
_UNREACHABLE = {errno.ENOENT, errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.ETIMEDOUT}
_FORBIDDEN = {
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENAMETOOLONG,
}


def port_call(method: F) -> F:
    """Refuse a call inside another one of the same thread; translate errors of the system and of
    SQLite."""

    @functools.wraps(method)
    def call(self: FileDocuments, *args: Any, **named: Any) -> Any:
        if self.closed:
            raise PersistenceClosedError
        me = get_ident()
        if me in self.inside:
            raise BackendError(
                "fs",
                "a signal's handler or a finalizer cannot call this storage inside another call of "
                "the same thread; set a flag there, and call it afterwards",
            )
        try:
            self.inside.add(me)
            return method(self, *args, **named)
        except OSError as error:
            kind = (
                BackendUnavailableError
                if error.errno in _UNREACHABLE
                else ConfigurationError
                if error.errno in _FORBIDDEN
                else BackendError
            )
            reason = str(error)
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                reason += "; the user of this process must be able to write there"
            elif error.errno == errno.ENOENT:
                reason += "; check that the store's folder is mounted and complete"
            raise kind("fs", reason) from error
        except sqlite3.Error as error:
            raise _index_failed(self.base, error) from error
        finally:
            self.inside.discard(me)

    return cast(F, call)


def _index_failed(base: str, error: sqlite3.Error) -> BackendError:
    reason = f"{base}/index.sqlite3: {error}"
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return BackendUnavailableError("fs", reason)
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return BackendError("fs", reason)
    if not os.access(base, os.W_OK):
        needs = "readers also take locks there; copy the store to a folder that can be written"
        return ConfigurationError("fs", f"{base} cannot be written, and {needs}")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return ConfigurationError("fs", f"{reason}; it must be a file that can be written")
    return BackendError("fs", f"{reason}; if it is damaged, delete it, and it is rebuilt")
