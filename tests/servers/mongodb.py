"""A MongoDB server for the tests: `mongod` where it is installed, else the `secantusdb` wheel.

SecantusDB speaks MongoDB's protocol. It is far slower, and its planner knows fewer shapes of a
query: what it says of time is worth nothing, what it says of results is.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure
from pymongo.monitoring import CommandListener

from tests.servers.process import (
    UNPRIVILEGED,
    ServerProcess,
    free_port,
    hand_over,
    not_installed,
)

_REPLICA_SET = "agentx"
_ALREADY_INITIALISED = 23


class Commands(CommandListener):
    """The commands that a client sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []

    def started(self, event: Any) -> None:
        self.sent.append((event.command_name, dict(event.command)))

    def succeeded(self, event: Any) -> None: ...

    def failed(self, event: Any) -> None: ...

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.sent]


class MongodbServer:
    """A server, and how its clients reach it."""

    def __init__(self, url: str, process: ServerProcess | None = None) -> None:
        self.url, self.process = url, process

    def connect(self, **options: Any) -> MongoClient[dict[str, Any]]:
        return MongoClient(self.url, serverSelectionTimeoutMS=5_000, **options)

    def drop(self, database: str) -> None:
        with self.connect() as client:
            client.drop_database(database)

    def stop(self) -> None:
        if self.process:
            self.process.stop()


def start_server(
    folder: Path, *, stand_alone: bool = False, passwords: bool = False
) -> MongodbServer:
    """Start a server in this folder, an empty one if that is new.

    :param stand_alone: without transactions
    :param passwords: for users that are there already; only a stand-alone
    """
    data = folder / "data"
    data.mkdir(exist_ok=True)
    hand_over(folder)
    hand_over(data)
    port = free_port()
    server = MongodbServer(f"mongodb://127.0.0.1:{port}/?directConnection=true")

    def is_ready() -> None:
        with server.connect() as client:
            if mongod and not stand_alone:
                _initiate(client, port)
            assert client.admin.command("hello")["isWritablePrimary"]

    mongod = shutil.which("mongod")
    if mongod:
        command = [mongod, "--dbpath", str(data), "--bind_ip", "127.0.0.1", "--port", str(port)]
        command += [] if stand_alone else ["--replSet", _REPLICA_SET]
    else:
        if importlib.util.find_spec("secantus") is None:
            not_installed("no MongoDB: neither mongod nor the wheel of SecantusDB is installed")
        command = [sys.executable, "-m", "secantus", "--storage-path", str(data)]
        command += ["--host", "127.0.0.1", "--port", str(port)]
        command += ["--standalone"] if stand_alone else []
    command += ["--auth"] if passwords else []
    # The interpreter of a virtual environment need not be open to other users.
    user = UNPRIVILEGED if mongod else None
    server.process = ServerProcess(command, folder, is_ready, user=user)
    server.process.start()
    return server


def _initiate(client: MongoClient[dict[str, Any]], port: int) -> None:
    member = {"_id": 0, "host": f"127.0.0.1:{port}"}
    try:
        client.admin.command("replSetInitiate", {"_id": _REPLICA_SET, "members": [member]})
    except OperationFailure as error:
        if error.code != _ALREADY_INITIALISED:
            raise
