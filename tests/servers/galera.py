"""A MariaDB Galera cluster for the tests: all nodes can be written to."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from tests.servers.mariadb import made
from tests.servers.mysql import MysqlServer, serve, urls_of
from tests.servers.nodes import Nodes, wait_until
from tests.servers.process import ServerProcess, free_port, not_installed

_LIBRARY = Path("/usr/lib/galera/libgalera_smm.so")
_NODES = 3


class GaleraCluster(Nodes):
    def __init__(self, servers: Sequence[MysqlServer]) -> None:
        self.servers = servers
        self.processes = [server.process for server in servers if server.process]

    @property
    def urls(self) -> tuple[str, ...]:
        return urls_of(self.servers)

    def primary(self) -> int:
        return 0

    def regain(self, lost: int) -> None:
        self.processes[lost].start()
        self.wait()

    def switch_over(self) -> None:
        """Restart a node in order."""
        self.processes[0].stop()
        self.regain(0)

    @property
    def majority(self) -> Sequence[ServerProcess]:
        return self.processes[1:]

    def wait(self) -> None:
        """Wait until all nodes work together."""
        for server in self.servers:
            wait_until(lambda server=server: _size(server) == len(self.servers), "a whole cluster")


def start_cluster(folder: Path) -> GaleraCluster:
    """Start a new, empty cluster; its nodes' data goes into this folder."""
    if not _LIBRARY.exists() or not shutil.which("rsync"):
        not_installed("no Galera: it is in Debian's packages galera-4 and rsync")
    ports = [free_port() for _ in range(_NODES)]
    address = ",".join(f"127.0.0.1:{port}" for port in ports)
    servers: list[MysqlServer] = []
    try:
        for number, port in enumerate(ports):
            home = folder / f"node{number}"
            home.mkdir()
            program = made(home)
            options = {
                "gmcast.listen_addr": f"tcp://127.0.0.1:{port}",
                "ist.recv_addr": f"127.0.0.1:{free_port()}",
                "gcache.size": "64M",
                # A node that vanished is left out after some seconds.
                "evs.suspect_timeout": "PT2S",
                "evs.inactive_timeout": "PT5S",
                "evs.inactive_check_period": "PT0.5S",
                "evs.keepalive_period": "PT0.5S",
            }
            settings = [
                *("--binlog-format=ROW", "--innodb-autoinc-lock-mode=2", "--wsrep-on=ON"),
                f"--wsrep-provider={_LIBRARY}",
                f"--wsrep-cluster-name={folder.name}",
                f"--wsrep-cluster-address=gcomm://{address}",
                f"--wsrep-node-name=node{number}",
                f"--wsrep-node-address=127.0.0.1:{port}",
                "--wsrep-sst-method=rsync",
                f"--wsrep-sst-receive-address=127.0.0.1:{free_port()}",
                f"--wsrep-provider-options={';'.join(f'{k}={v}' for k, v in options.items())}",
            ]
            # The others get data and users from the first one.
            first = ["--wsrep-new-cluster", f"--init-file={home / 'users.sql'}"]
            first = first if number == 0 else ["--skip-name-resolve"]
            servers.append(serve(program, home, True, settings, first))
        cluster = GaleraCluster(servers)
        cluster.wait()
    except BaseException:
        for server in servers:
            server.stop()
        raise
    return cluster


def _size(server: MysqlServer) -> int:
    status = dict(server.execute("SHOW STATUS LIKE 'wsrep_%%'"))
    return int(status["wsrep_cluster_size"]) if status["wsrep_ready"] == "ON" else 0
