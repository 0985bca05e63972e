"""MongoDB on several nodes: a replica set of three, and a sharded cluster. Needs `mongod`."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pymongo import MongoClient

from tests.servers.nodes import Nodes, wait_until
from tests.servers.process import ServerProcess, free_port, hand_over, not_installed


class ReplicaSet(Nodes):
    def __init__(self, folder: Path, name: str = "agentx", members: int = 3, *more: str) -> None:
        """:param more: further arguments of each member"""
        self.name = name
        self.ports = [free_port() for _ in range(members)]
        self.processes: list[ServerProcess] = []
        try:
            for number, port in enumerate(self.ports):
                home = folder / f"{name}{number}"
                command = [_program("mongod"), "--dbpath", str(home), "--replSet", name, *more]
                self.processes.append(_started(home, port, command))
            hosts = [
                {"_id": number, "host": f"127.0.0.1:{port}", "priority": 2 if number == 0 else 1}
                for number, port in enumerate(self.ports)
            ]
            settings = {"electionTimeoutMillis": 2000}
            config = {"_id": name, "members": hosts, "settings": settings}
            if "--configsvr" in more:
                config["configsvr"] = True
            with _client(self.ports[0]) as client:
                client.admin.command("replSetInitiate", config)
            self.wait()
        except BaseException:
            self.stop()
            raise

    @property
    def members(self) -> str:
        return ",".join(f"127.0.0.1:{port}" for port in self.ports)

    @property
    def urls(self) -> tuple[str, ...]:
        return (f"mongodb://{self.members}/?replicaSet={self.name}",)

    def primary(self) -> int:
        for number, port in enumerate(self.ports):
            if self.processes[number].runs:
                with _client(port) as client:
                    if client.admin.command("hello")["isWritablePrimary"]:
                        return number
        raise LookupError("no primary")

    def take_over(self, lost: int) -> None:
        wait_until(lambda: self.primary() != lost, "an election")

    def regain(self, lost: int) -> None:
        self.processes[lost].start()
        self.wait()

    def switch_over(self) -> None:
        old = self.primary()
        with _client(self.ports[old]) as client:
            client.admin.command("replSetStepDown", 60, secondaryCatchUpPeriodSecs=10)
        self.take_over(old)

    @property
    def majority(self) -> Sequence[ServerProcess]:
        kept = (self.primary() + 1) % len(self.processes)
        return [process for number, process in enumerate(self.processes) if number != kept]

    def wait(self) -> None:
        """Wait until all members are a primary or its secondaries."""
        wait_until(self._is_whole, "a whole replica set")

    def _is_whole(self) -> bool:
        with _client(self.ports[self.primary()]) as client:
            members = client.admin.command("replSetGetStatus")["members"]
        return all(member["stateStr"] in ("PRIMARY", "SECONDARY") for member in members)


class ShardedCluster:
    """Two shards, whose `messages` are spread by the session's id, behind one mongos."""

    def __init__(self, folder: Path) -> None:
        self._parts: list[ReplicaSet] = []
        self._router: ServerProcess | None = None
        port = free_port()
        self.url = f"mongodb://127.0.0.1:{port}/"
        try:
            self._parts.append(ReplicaSet(folder, "config", 1, "--configsvr"))
            config = f"config/{self._parts[0].members}"
            for name in ("one", "two"):
                self._parts.append(ReplicaSet(folder, name, 1, "--shardsvr"))
            command = [_program("mongos"), "--configdb", config]
            self._router = _started(folder / "mongos", port, command)
            with _client(port) as client:
                for part in self._parts[1:]:
                    client.admin.command("addShard", f"{part.name}/{part.members}")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        if self._router:
            self._router.stop()
        for part in reversed(self._parts):
            part.stop()


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        not_installed(f"no {name} on the PATH")
    return found


def _client(port: int) -> MongoClient[dict[str, Any]]:
    return MongoClient(f"mongodb://127.0.0.1:{port}/?directConnection=true", timeoutMS=5000)


def _started(home: Path, port: int, command: list[str]) -> ServerProcess:
    home.mkdir()
    hand_over(home)

    def is_ready() -> None:
        with _client(port) as client:
            client.admin.command("ping")

    command += ["--bind_ip", "127.0.0.1", "--port", str(port)]
    process = ServerProcess(command, home, is_ready)
    process.start()
    return process
