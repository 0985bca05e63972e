"""Which peers there are, and what each needs."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.backends import started
from tests.integrations.environments import CHECKOUT, EnvironmentFailedError, installed

_SQLITE = ("sqlite", "sqlite-tmpfs")
_SQL = (*_SQLITE, "postgresql", "mariadb")
PLACES = (*_SQL, "redis")
_PACKAGES = {
    "agno": "agno sqlalchemy[asyncio]",
    "google_adk": "google-adk sqlalchemy[asyncio] aiosqlite asyncpg aiomysql",
    "langchain": "langchain-community langchain-postgres",
    "langgraph": "langgraph langgraph-checkpoint-sqlite langgraph-checkpoint-postgres",
    "openai_agents": "openai-agents[sqlalchemy] aiosqlite asyncpg aiomysql",
}
# By the name in tables: the framework, and where it is measured.
PEERS = {
    "agno": ("agno", PLACES),
    "openai-agents SQLiteSession": ("openai_agents", _SQLITE),
    "openai-agents SQLAlchemySession": ("openai_agents", _SQL),
    "PersistentSession beside SQLiteSession": ("openai_agents", _SQLITE),
    "PersistentSession beside SQLAlchemySession": ("openai_agents", _SQL),
    "langchain-community": ("langchain", PLACES),
    "langchain-postgres": ("langchain", ("postgresql",)),
    "google-adk": ("google_adk", _SQL),
    "PersistentSessionService beside google-adk's": ("google_adk", _SQL),
    "langgraph": ("langgraph", (*_SQLITE, "postgresql")),
    "PersistentSaver beside langgraph's": ("langgraph", (*_SQLITE, "postgresql")),
}


def compare(
    name: str, backend: str, rounds: int, largest: int, seconds: float
) -> Iterator[dict[str, Any]]:
    """Measure the peer of this name; that it does not run is a result, too."""
    framework, _ = PEERS[name]
    row = {"peer": name, "backend": backend}
    failed = {**row, "operation": "open", "stored": 0}
    try:
        folder = installed(framework, _PACKAGES[framework].split())
    except EnvironmentFailedError as error:
        yield {**failed, "note": f"does not run: {error}"}
        return
    with _databases(backend) as urls, tempfile.TemporaryFile("w+") as log:
        what = {"framework": framework, "name": name, "urls": urls, "rounds": rounds}
        # Where there is no disk to wait for, what others do on this machine need not count.
        what |= {"largest": largest, "seconds": seconds, "processor": backend == "sqlite-tmpfs"}
        python = folder / "bin" / "python"
        command = [python, "-m", "benchmarks.peers.comparison", json.dumps(what)]
        output: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": log, "text": True}
        with subprocess.Popen(command, cwd=CHECKOUT, **output) as process:
            for line in process.stdout or ():
                yield {**row, **json.loads(line)}
        if process.returncode:
            log.seek(0)
            yield {**failed, "note": f"does not run: {' '.join(log.read().split())[-300:]}"}


@contextmanager
def _databases(backend: str) -> Iterator[list[str]]:
    """Lend two empty databases, one for each side."""
    sides = ("ours", "theirs")
    # Where a disk is busy, writing to it takes so long that the libraries make no difference.
    parent = "/dev/shm" if backend == "sqlite-tmpfs" else None
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        if backend in _SQLITE:
            yield [f"sqlite:///{folder}/{side}.db" for side in sides]
            return
        with started(backend, Path(folder)) as server:
            if backend == "redis":
                yield [f"{server.url}/{number}" for number in range(2)]
                return
            for side in sides:
                server.recreate(side)
            yield [server.url.set(database=side).render_as_string(False) for side in sides]
