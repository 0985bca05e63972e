"""The databases in which a peer and this package store, started when they are first needed."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any, Self

BACKENDS = ("sqlite", "sqlite-tmpfs", "postgresql", "mariadb", "redis")
# Where a disk is busy, writing to it takes so long that the libraries make no difference.
_TMPFS = Path("/dev/shm")


class Servers:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, Any] = {}
        self._stack = ExitStack()

    def urls(self, backend: str) -> tuple[str, str]:
        """Return two empty databases, one for each side."""
        if backend.startswith("sqlite"):
            parent = _TMPFS if backend == "sqlite-tmpfs" else self._folder
            folder = self._stack.enter_context(tempfile.TemporaryDirectory(dir=parent))
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
        start = import_module(f"tests.servers.{backend}").start_server
        if backend == "redis":
            server = start(folder, import_module("tests.servers.redis").redis_binary())
        else:
            server = start(folder, durable=True)
        self._stack.callback(server.stop)
        self._running[backend] = server
        return server

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()
