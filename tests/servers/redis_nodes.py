"""Redis and Valkey on several nodes: behind Sentinel, and as a cluster."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.servers.nodes import Nodes, wait_until
from tests.servers.process import ServerProcess
from tests.servers.redis import (
    RedisCluster,
    RedisServer,
    start_cluster,
    start_sentinel,
    start_server,
)

_SERVICE = "main"
_MILLISECONDS = 10_000


class SentinelGroup(Nodes):
    """A master, two replicas and three sentinels."""

    def __init__(self, folder: Path, binary: Path, **settings: object) -> None:
        """:param settings: of the master and the replicas"""
        self.servers: list[RedisServer] = []
        self.sentinels: list[RedisServer] = []
        settings = {"repl_diskless_sync_delay": 0, **settings}
        try:
            for number in range(3):
                home = folder / f"node{number}"
                home.mkdir()
                master = {"replicaof": ("127.0.0.1", _port(self.servers[0]))} if number else {}
                self.servers.append(start_server(home, binary, **settings, **master))
            for number in range(3):
                home = folder / f"sentinel{number}"
                home.mkdir()
                master_ = self.servers[0]
                self.sentinels.append(start_sentinel(home, binary, master_, _SERVICE, quorum=2))
            self.wait()
        except BaseException:
            self.stop()
            raise

    @property
    def processes(self) -> Sequence[ServerProcess]:  # type: ignore[override]
        return [server.process for server in self.servers if server.process]

    @property
    def urls(self) -> tuple[str, ...]:
        places = ",".join(f"127.0.0.1:{_port(sentinel)}" for sentinel in self.sentinels)
        return (f"redis+sentinel://{places}/{_SERVICE}/0",)

    def primary(self) -> int:
        with self.sentinels[0].client() as client:
            found = client.sentinel_get_master_addr_by_name(_SERVICE)
        assert found
        return [_port(server) for server in self.servers].index(str(found[1]))

    def take_over(self, lost: int) -> None:
        wait_until(lambda: self.primary() != lost, "a failover")

    def regain(self, lost: int) -> None:
        self.processes[lost].start()
        self.wait()

    def switch_over(self) -> None:
        """Let a replica be the master. Sentinel would go on without what it has not got yet."""
        old = self.primary()
        with self.servers[old].client() as master, self.sentinels[0].client() as sentinel:
            master.execute_command("CLIENT PAUSE", _MILLISECONDS, "WRITE")
            master.wait(2, _MILLISECONDS)
            sentinel.execute_command("SENTINEL FAILOVER", _SERVICE)
            self.take_over(old)
            # As the sentinels do by themselves, some twenty seconds later.
            master.replicaof("127.0.0.1", _port(self.servers[self.primary()]))
            wait_until(lambda: master.role()[0] == b"slave", "the end of the old master")
            master.execute_command("CLIENT UNPAUSE")
        self.wait()

    @property
    def majority(self) -> Sequence[ServerProcess]:
        """The master, and more sentinels than may be lost."""
        sentinels = [sentinel.process for sentinel in self.sentinels[1:]]
        return [self.processes[self.primary()], *(each for each in sentinels if each)]

    def wait(self) -> None:
        """Wait until both replicas have what the master has, and the sentinels know of them."""
        wait_until(self._is_replicated, "a master with two replicas")
        for sentinel in self.sentinels:
            wait_until(lambda sentinel=sentinel: _is_informed(sentinel), "an informed sentinel")

    def _is_replicated(self) -> bool:
        with self.servers[self.primary()].client() as client:
            client.set("waited for", 1)
            return client.wait(2, 1000) == 2

    def stop(self) -> None:
        for server in (*self.sentinels, *self.servers):
            server.stop()


class ClusterNodes(Nodes):
    """Three masters, each with a replica."""

    def __init__(self, folder: Path, binary: Path) -> None:
        self.cluster: RedisCluster = start_cluster(folder, binary)
        self.processes = [node.process for node in self.cluster.nodes if node.process]

    @property
    def urls(self) -> tuple[str, ...]:
        return tuple(node.url.replace("redis:", "redis+cluster:") for node in self.cluster.nodes)

    def primary(self) -> int:
        """Return the master of the sessions that the writers share."""
        return next(
            number
            for number in range(len(self.processes))
            if self.processes[number].runs and self._owns(number, "{shared%3A0}")
        )

    def _owns(self, number: int, key: str) -> bool:
        with self.cluster.nodes[number].client() as client:
            slot = int(client.execute_command("CLUSTER KEYSLOT", key))
            nodes = client.execute_command("CLUSTER NODES").values()
        (mine,) = (node for node in nodes if "myself" in node["flags"])
        return any(int(span[0]) <= slot <= int(span[-1]) for span in mine["slots"])

    def take_over(self, lost: int) -> None:
        wait_until(lambda: self.primary() != lost, "a failover")

    def regain(self, lost: int) -> None:
        self.processes[lost].start()
        self.wait()

    def switch_over(self) -> None:
        old = self.primary()
        new = next(n for n in range(len(self.processes)) if self._replicates(n, old))
        with self.cluster.nodes[new].client() as client:
            wait_until(lambda: self._is_switched(client, new), "a switchover")
        self.wait()

    def _is_switched(self, client: Any, new: int) -> bool:
        if self.primary() != new:
            client.execute_command("CLUSTER FAILOVER")  # a busy node gives it up after a while
            time.sleep(1)
        return self.primary() == new

    def _replicates(self, number: int, master: int) -> bool:
        with self.cluster.nodes[number].client() as client:
            role = client.role()
        return role[0] == b"slave" and str(role[2]) == _port(self.cluster.nodes[master])

    @property
    def majority(self) -> Sequence[ServerProcess]:
        masters = [n for n in range(len(self.processes)) if self._is_master(n)]
        return [self.processes[number] for number in masters[:2]]

    def _is_master(self, number: int) -> bool:
        with self.cluster.nodes[number].client() as client:
            return bool(client.role()[0] == b"master")

    def wait(self) -> None:
        """Wait until each node says that all is well, and each replica has its master's data."""
        for node in self.cluster.nodes:
            wait_until(lambda node=node: is_well(node), "a whole cluster")


def _is_informed(sentinel: RedisServer) -> bool:
    with sentinel.client() as client:
        state = client.sentinel_master(_SERVICE)
        replicas = client.sentinel_slaves(_SERVICE)
    linked = {"flags": "slave", "master-link-status": "ok", "role-reported": "slave"}
    well = [each for each in replicas if linked.items() <= each.items()]
    return (state["num-other-sentinels"], len(well)) == (2, 2)


def is_well(node: RedisServer) -> bool:
    with node.client(decode_responses=True) as client:
        info = client.execute_command("CLUSTER INFO")
        role = client.role()
        failing = "fail" in str(client.execute_command("CLUSTER NODES"))
    linked = role[0] == "master" or role[3] == "connected"
    return info["cluster_state"] == "ok" and linked and not failing


def _port(server: RedisServer) -> str:
    return server.url.rpartition(":")[2]
