"""PostgreSQL with a synchronous standby, which is promoted by hand."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from tests.servers.nodes import Nodes, wait_until
from tests.servers.postgresql import (
    PostgresqlServer,
    installed_binaries,
    run,
    serve,
    start_server,
)
from tests.servers.process import ServerProcess, hand_over


class PostgresqlPair(Nodes):
    """A primary, and a standby that has each transaction before its client is answered."""

    def __init__(self, folder: Path) -> None:
        homes = [folder / name for name in ("one", "two")]
        for home in homes:
            home.mkdir()
            hand_over(home)
        self._homes, self._primary = homes, 0
        first = start_server(homes[0], durable=True)
        self.servers = [first]
        try:
            self._copy(1, of=first)
            self.servers.append(serve(homes[1], durable=True))
            self._be_synchronous(first)
        except BaseException:
            for server in self.servers:
                server.stop()
            raise

    @property
    def processes(self) -> Sequence[ServerProcess]:  # type: ignore[override]
        return [server.process for server in self.servers if server.process]

    @property
    def urls(self) -> tuple[str, ...]:
        places = ",".join(f"{server.url.host}:{server.url.port}" for server in self.servers)
        return (f"postgresql://postgres@{places}",)

    def primary(self) -> int:
        return self._primary

    def take_over(self, lost: int) -> None:
        new = 1 - lost
        server = self.servers[new]
        # Nobody is left to wait for.
        server.execute("ALTER SYSTEM RESET synchronous_standby_names")
        server.execute("SELECT pg_reload_conf()")
        server.execute("SELECT pg_promote()")
        self._primary = new

    def regain(self, lost: int) -> None:
        """Make the lost node a standby of the other one, with its data."""
        other = self.servers[1 - lost]
        shutil.rmtree(self._homes[lost] / "data")
        self._copy(lost, of=other)
        self.processes[lost].start()
        self._be_synchronous(other)

    def switch_over(self) -> None:
        old = self._primary
        self.processes[old].stop()  # waits until the standby has everything
        self.take_over(old)
        self.regain(old)

    @property
    def majority(self) -> Sequence[ServerProcess]:
        return [self.processes[1 - self._primary]]

    def _copy(self, number: int, *, of: PostgresqlServer) -> None:
        home = self._homes[number]
        source = f"host={of.url.host} port={of.url.port} user=postgres"
        made = run(
            home,
            *(installed_binaries() / "pg_basebackup", "-D", home / "data", "-R", "-X", "stream"),
            *("-c", "fast", "--no-sync", "-d", source),
        )
        if made.returncode:
            raise RuntimeError(made.stderr.decode(errors="replace"))

    @staticmethod
    def _be_synchronous(primary: PostgresqlServer) -> None:
        primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        primary.execute("SELECT pg_reload_conf()")
        state = "SELECT sync_state FROM pg_stat_replication"
        wait_until(lambda: primary.execute(state) == [("sync",)], "a synchronous standby")
