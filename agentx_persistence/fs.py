"""The filesystem backend: readable files, for the processes of one machine."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import unquote, urlsplit

from agentx_persistence.errors import ConfigurationError
from agentx_persistence.storage import PersistenceDriver, Storage


def fs_driver(base: str | os.PathLike[str], *, timeout: float = 30.0) -> PersistenceDriver:
    """Return the driver of a store in this folder, which is created if it does not exist.

    Processes and threads of one machine can share it. Only the user who runs the process can read
    the files and folders it creates.

    :param timeout: the longest time, in seconds, that a call waits for a lock
    """
    path = os.fspath(base) if isinstance(base, os.PathLike) else base
    if not isinstance(path, str) or not path or "\0" in path:
        reason = f"base must be the path of a folder, such as 'data/agentx', not {base!r}"
        raise ConfigurationError("fs", reason)
    if path.startswith("file:"):
        raise ConfigurationError("fs", "base must be a path; give a URL to create_persistence")
    if path.split(os.sep)[0].startswith("~"):
        reason = "base: ~ is not replaced; give os.path.expanduser(path), or ./~ for such a folder"
        raise ConfigurationError("fs", reason)
    if not isinstance(timeout, (int, float)) or not timeout > 0:
        raise ConfigurationError("fs", f"timeout must be a number of seconds, not {timeout!r}")
    return _FsDriver(os.path.abspath(path), timeout)


def driver_from_url(url: str, **options: Any) -> PersistenceDriver:
    """Return the driver of ``file:///folder``, or ``file:folder`` for a relative one."""
    try:
        parts = urlsplit(url)
    except ValueError:  # such as for a host in brackets
        parts = urlsplit("")
    if parts.netloc not in ("", "localhost") or parts.query or parts.fragment or not parts.path:
        reason = "write file:///folder; in its name write ? as %3F and # as %23"
        raise ConfigurationError("fs", reason)
    path = unquote(parts.path)
    if os.name == "nt" and path[2:3] == ":":  # file:///C:/folder
        path = path[1:]
    return fs_driver(path, **options)


class _FsDriver(PersistenceDriver):
    def __init__(self, base: str, timeout: float) -> None:
        self._base, self._timeout = base, timeout

    def __repr__(self) -> str:
        return f"fs_driver({self._base!r})"

    def create_storage(self) -> Storage:
        # Imported here because it needs sqlite3, which some builds of Python do not have.
        from agentx_persistence._fs.storage import FileStorage

        storage = FileStorage(self._base, self._timeout)
        storage.open()
        return storage
