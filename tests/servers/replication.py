"""MySQL or MariaDB with a replica that can take its place."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.servers.mariadb import made
from tests.servers.mysql import MysqlServer, initialised, serve

_SECONDS = 30


class ReplicatedMysql:
    """:ivar primary: the server that is written to"""

    def __init__(self, name: str, folder: Path) -> None:
        self._is_mariadb = name == "mariadb"
        self.servers: list[MysqlServer] = []
        try:
            first, second = folder / "1", folder / "2"
            first.mkdir()
            program = (made if self._is_mariadb else initialised)(first)
            subprocess.run(["cp", "-a", first, second], check=True)
            (second / "data/auto.cnf").unlink(missing_ok=True)  # a server's identity
            for home in (first, second):
                self.servers.append(self._start(program, home))
            self.primary, self._replica = self.servers
            self._follow(self.primary.url.port or 0)
        except BaseException:
            self.stop()
            raise

    def _start(self, program: list[str], home: Path) -> MysqlServer:
        settings = ["--log-bin=log", f"--server-id={home.name}", "--binlog-format=ROW"]
        if not self._is_mariadb:
            settings += ["--mysqlx=OFF", "--gtid-mode=ON", "--enforce-gtid-consistency=ON"]
            settings += ["--secure-file-priv="]
        return serve(program, home, False, settings)

    def _follow(self, port: int) -> None:
        options = self.primary.options(None)
        if self._is_mariadb:
            self._replica.execute(
                "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = %s, MASTER_USER = %s,"
                " MASTER_PASSWORD = %s, MASTER_USE_GTID = slave_pos",
                *(port, options["user"], options["password"]),
            )
        else:
            self._replica.execute(
                "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = %s,"
                " SOURCE_USER = %s, SOURCE_PASSWORD = %s, SOURCE_AUTO_POSITION = 1,"
                " GET_SOURCE_PUBLIC_KEY = 1",
                *(port, options["user"], options["password"]),
            )
        self._replica.execute("START REPLICA")

    def switch_over(self) -> MysqlServer:
        """Make the primary read-only, and let the replica take its place when it has everything.

        The connections to the old primary stay open.
        """
        old, new = self.primary, self._replica
        if self._is_mariadb:
            old.execute("SET GLOBAL read_only = ON")
            ((place,),) = old.execute("SELECT @@gtid_binlog_pos")
            wait = "SELECT MASTER_GTID_WAIT(%s, %s)"
        else:
            old.execute("SET GLOBAL super_read_only = ON")
            ((place,),) = old.execute("SELECT @@gtid_executed")
            wait = "SELECT WAIT_FOR_EXECUTED_GTID_SET(%s, %s)"
        assert new.execute(wait, place, _SECONDS) == ((0,),)
        new.execute("STOP REPLICA")
        self.primary, self._replica = new, old
        return new

    def stop(self) -> None:
        for server in self.servers:
            server.stop()
