"""The databases in which a peer and this package store, started when they are first needed."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import tests.servers.mariadb
import tests.servers.postgresql
import tests.servers.redis

BACKENDS = ("sqlite", "sqlite-tmpfs", "postgresql", "mariadb", "redis")
# Where a disk is busy, writing to it takes so long that the libraries make no difference.
_TMPFS = Path("/dev/shm")


class Servers:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, Any] = {}
        self._files = ExitStack()

    def urls(self, backend: str) -> tuple[str, str]:
        """Return two empty databases, one for each side."""
        if backend.startswith("sqlite"):
            parent = _TMPFS if backend == "sqlite-tmpfs" else self._folder
            folder = self._files.enter_context(tempfile.TemporaryDirectory(dir=parent))
            return f"sqlite:///{folder}/ours.db", f"sqlite:///{folder}/theirs.db"
        server = self._running.get(backend) or self._start(backend)
        if backend == "redis":
            with server.client() as client:
                client.flushall()
            return f"{server.url}/0", f"{server.url}/1"
        for name in ("ours", "theirs"):
            server.recreate(name)
        urls = [server.url.set(database=name) for name in ("ours", "theirs")]
        ours, theirs = (url.render_as_string(hide_password=False) for url in urls)
        return ours, theirs

    def _start(self, backend: str) -> Any:
        folder = self._folder / backend
        folder.mkdir()
        if backend == "redis":
            binary = tests.servers.redis.redis_binary()
            server: Any = tests.servers.redis.start_server(folder, binary)
        else:
            server = getattr(tests.servers, backend).start_server(folder, durable=True)
        self._running[backend] = server
        return server

    def stop(self) -> None:
        self._files.close()
        for server in self._running.values():
            server.stop()
