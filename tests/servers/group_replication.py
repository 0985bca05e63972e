"""MySQL Group Replication for the tests, with one primary or with several."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path

from tests.servers.mysql import MysqlServer, initialised, serve, urls_of
from tests.servers.nodes import Nodes, wait_until
from tests.servers.process import ServerProcess, free_port

_NODES = 3
_MEMBERS = (
    "SELECT member_port, member_role FROM performance_schema.replication_group_members"
    " WHERE member_state = 'ONLINE'"
)
_REPLICATION = "replication"


class ReplicationGroup(Nodes):
    def __init__(self, servers: Sequence[MysqlServer], *, several_primaries: bool) -> None:
        self.servers, self._several = servers, several_primaries
        self.processes = [server.process for server in servers if server.process]

    @property
    def urls(self) -> tuple[str, ...]:
        return urls_of(self.servers)

    def primary(self) -> int:
        for number, server in enumerate(self.servers):
            if self.processes[number].runs:
                roles = {int(port): role for port, role in server.execute(_MEMBERS)}
                if roles.get(server.url.port or 0) == "PRIMARY":
                    return number
        raise LookupError("no primary")

    def take_over(self, lost: int) -> None:
        wait_until(self.primary_is_new(lost), "an election")

    def primary_is_new(self, old: int) -> object:
        return lambda: self.primary() != old

    def regain(self, lost: int) -> None:
        self.processes[lost].start()
        self.servers[lost].execute("START GROUP_REPLICATION")
        self.wait()

    def switch_over(self) -> None:
        old = self.primary()
        if self._several:
            self.processes[old].stop()
            self.regain(old)
            return
        new = self.servers[(old + 1) % len(self.servers)]
        ((uuid,),) = new.execute("SELECT @@server_uuid")
        new.execute("SELECT group_replication_set_as_primary(%s)", uuid)

    @property
    def majority(self) -> Sequence[ServerProcess]:
        kept = (self.primary() + 1) % len(self.processes)
        return [process for number, process in enumerate(self.processes) if number != kept]

    def wait(self) -> None:
        """Wait until all members are online, and agree on that."""
        for server in self.servers:
            wait_until(
                lambda server=server: len(server.execute(_MEMBERS)) == len(self.servers),
                "a whole group",
            )


def start_group(folder: Path, *, several_primaries: bool = False) -> ReplicationGroup:
    """Start a new, empty group; its members' data goes into this folder."""
    ports = [free_port() for _ in range(_NODES)]
    seeds = ",".join(f"127.0.0.1:{port}" for port in ports)
    name = str(uuid.uuid4())
    servers: list[MysqlServer] = []
    try:
        for number, port in enumerate(ports):
            home = folder / f"node{number}"
            home.mkdir()
            group = {
                "group-name": name,
                "start-on-boot": "OFF",
                "local-address": f"127.0.0.1:{port}",
                "group-seeds": seeds,
                "single-primary-mode": "OFF" if several_primaries else "ON",
                "enforce-update-everywhere-checks": "ON" if several_primaries else "OFF",
                # A read on one member sees what another one has acknowledged.
                "consistency": "BEFORE" if several_primaries else "BEFORE_ON_PRIMARY_FAILOVER",
                "recovery-get-public-key": "ON",
            }
            settings = [
                *("--mysqlx=OFF", "--secure-file-priv=", f"--server-id={number + 1}"),
                *("--gtid-mode=ON", "--enforce-gtid-consistency=ON", "--log-bin=log"),
                *("--relay-log=relay", "--report-host=127.0.0.1", "--performance-schema=ON"),
                "--plugin-load-add=group_replication.so",
                *(f"--loose-group-replication-{key}={value}" for key, value in group.items()),
            ]
            server = serve(initialised(home), home, True, settings)
            servers.append(server)
            server.execute("SELECT 1")
            _join(server, first=number == 0)
        group_ = ReplicationGroup(servers, several_primaries=several_primaries)
        group_.wait()
    except BaseException:
        for server in servers:
            server.stop()
        raise
    return group_


def _join(server: MysqlServer, *, first: bool) -> None:
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SET SESSION sql_log_bin = 0")
        cursor.execute(f"CREATE USER {_REPLICATION}@'%' IDENTIFIED BY '{_REPLICATION}'")
        cursor.execute(
            "GRANT REPLICATION SLAVE, CONNECTION_ADMIN, BACKUP_ADMIN, GROUP_REPLICATION_STREAM"
            f" ON *.* TO {_REPLICATION}@'%'"
        )
        cursor.execute("SET SESSION sql_log_bin = 1")
        cursor.execute(
            f"CHANGE REPLICATION SOURCE TO SOURCE_USER = '{_REPLICATION}',"
            f" SOURCE_PASSWORD = '{_REPLICATION}' FOR CHANNEL 'group_replication_recovery'"
        )
        cursor.execute(f"SET GLOBAL group_replication_bootstrap_group = {'ON' if first else 'OFF'}")
        cursor.execute("START GROUP_REPLICATION")
        cursor.execute("SET GLOBAL group_replication_bootstrap_group = OFF")
