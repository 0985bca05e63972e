"""MySQL itself for the tests: installed, or in the folder that scripts/install-mysql makes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pymysql
from sqlalchemy import URL, Engine, event, make_url

from agentx_persistence import PersistenceDriver
from agentx_persistence.mysql import mysql_driver
from tests.servers.nodes import in_any_order
from tests.servers.process import UNPRIVILEGED, ServerProcess, free_port, hand_over, not_installed

FOLDER = Path(os.environ.get("AGENTX_TEST_MYSQL_FOLDER", "/var/cache/agentx-persistence/mysql"))

_USER, _PASSWORD = "tester", "p@ss:w/o%r'd"
_DURABLE = ("--innodb-flush-log-at-trx-commit=1",)
_FAST = ("--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0")


class MysqlServer:
    """A server of MySQL or MariaDB, and how its administrator reaches it."""

    # Not the whole of what the filters leave of the index.
    READS_A_RANGE = re.compile(r"'type': 'range'")

    new_driver = staticmethod(mysql_driver)

    def __init__(self, url: URL, process: ServerProcess | None = None) -> None:
        self.url, self.process = url, process

    def connect(
        self, database: str | None = None, **options: Any
    ) -> pymysql.Connection[pymysql.cursors.Cursor]:
        """Return a connection of the administrator, in autocommit."""
        arguments = {**self.options(database), "autocommit": True, **options}
        return pymysql.connect(**arguments.pop("connect_args"), **arguments)

    def execute(
        self, statement: str, *parameters: object, database: str | None = None
    ) -> Sequence[Any]:
        with self.connect(database) as connection, connection.cursor() as cursor:
            cursor.execute(statement, parameters or None)
            return cursor.fetchall()

    def quoted(self, name: str) -> str:
        return f"`{name}`"

    def recreate(self, database: str, properties: str = "") -> None:
        """Make an empty database of this name."""
        self.execute(f"DROP DATABASE IF EXISTS `{database}`")
        self.execute(f"CREATE DATABASE `{database}` {properties}")

    def empty(self, database: str) -> None:
        with self.connect(database) as connection, connection.cursor() as cursor:
            cursor.execute("SET lock_wait_timeout = 5, innodb_lock_wait_timeout = 5")
            for table in ("messages", "sessions", "images", "containers", "items"):
                cursor.execute(f"DELETE FROM agentx_{table}")  # noqa: S608

    def end_connections(self, database: str) -> int:
        """End all connections to the database; return how many there were."""
        found = self.execute(
            "SELECT id FROM information_schema.processlist WHERE db = %s", database
        )
        for (id,) in found:
            with suppress(pymysql.OperationalError):  # it ended meanwhile
                self.execute(f"KILL {id}")
        return len(found)

    def analyze(self, database: str, table: str) -> None:
        self.execute(f"ANALYZE TABLE {table}", database=database)

    def index_entries_read(self, database: str) -> int:
        """Return how many entries of indexes were read so far, in all databases."""
        names = ("first", "key", "last", "next", "prev")
        found = self.execute("SHOW GLOBAL STATUS LIKE 'Handler_read_%'")
        return sum(int(number) for name, number in found if name.split("_")[-1] in names)

    def explain(self, database: str, statement: str, values: Any) -> str:
        """Return the plan of a statement."""
        with self.connect(database) as connection, connection.cursor() as cursor:
            if "MariaDB" in connection.server_version:
                cursor.execute(f"EXPLAIN {statement}", values)
            else:
                cursor.execute(f"EXPLAIN FORMAT=TRADITIONAL {statement}", values)
            names = [column[0] for column in cursor.description]
            (row,) = cursor.fetchall()
            return str(dict(zip(names, row, strict=True)))

    def be_no_victim(self, cursor: Any) -> None:
        """Change more rows than the other one: the smaller transaction is undone."""
        for number in range(50):
            cursor.execute(
                "INSERT INTO agentx_containers"
                " (container_id, created_at, updated_at, revision, body)"
                " VALUES (%s, 1, 1, 'r', '{}')",
                (str(number),),
            )

    def wait_until_one_waits(self, database: str) -> None:
        deadline = time.monotonic() + 10
        while not self.execute(
            "SELECT 1 FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"
        ):
            assert time.monotonic() < deadline
            time.sleep(0.2)  # asked more often than each 0.1 s, it answers from a cache

    def create_application(self, user: str, password: str, database: str) -> None:
        """Make a user that may change rows, but no tables."""
        self.execute(f"DROP USER IF EXISTS {user}")
        self.execute(f"CREATE USER {user} IDENTIFIED BY '{password}'")
        self.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON `{database}`.* TO {user}")

    def driver(self, database: str, **options: Any) -> PersistenceDriver:
        return self.new_driver(**{**self.options(database), **options})

    def check_for_leaks(self, database: str) -> None:
        """Fail if connections are left which a test did not close."""
        deadline = time.monotonic() + 5
        while left := self.execute(
            "SELECT id, command, info FROM information_schema.processlist WHERE db = %s", database
        ):
            assert time.monotonic() < deadline, f"connections are left open: {left}"
            time.sleep(0.02)

    def stop(self) -> None:
        if self.process:
            self.process.stop()

    def options(self, database: str | None) -> dict[str, Any]:
        """Return the arguments with which `mysql_driver` reaches this database."""
        return {
            "host": self.url.host,
            "port": self.url.port,
            "user": self.url.username,
            "password": self.url.password,
            "database": database,
            # PyMySQL reads the system's certificates for each connection, which takes longer than
            # most tests.
            "connect_args": {"ssl_disabled": True},
        }


def urls_of(servers: Sequence[MysqlServer]) -> tuple[str, ...]:
    """Return URLs of all these servers, which begin with each of them in turn."""
    places = [f"{server.url.host}:{server.url.port}" for server in servers]
    login = servers[0].url.username, servers[0].url.password
    url = URL.create("mysql", *login, "hosts")
    return in_any_order(url.render_as_string(False), places)


def given_server(url: str) -> MysqlServer:
    return MysqlServer(make_url(url))


def start_server(folder: Path, *, durable: bool = False) -> MysqlServer:
    """Start a new, empty server in this folder."""
    settings = ["--mysqlx=OFF", "--secure-file-priv=", "--skip-log-bin"]
    return serve(initialised(folder), folder, durable, settings)


def initialised(folder: Path) -> list[str]:
    """Make the data of a new server in this folder; return the command that runs it."""
    program = mysqld()
    hand_over(folder)
    run([*program, "--initialize-insecure", f"--datadir={folder / 'data'}"], folder)
    return program


def mysqld() -> list[str]:
    """Return the command that runs MySQL's server; `mysqld` may also be MariaDB's."""
    if (FOLDER / "usr/sbin/mysqld").exists():
        # With the loader and the libraries of the same Debian, no chroot is needed, nor root.
        (loader,) = FOLDER.glob("usr/lib*/ld-linux-*.so.*")
        libraries = ":".join(str(path) for path in FOLDER.glob("usr/lib/*-linux-gnu*"))
        program = [str(loader), "--library-path", libraries, str(FOLDER / "usr/sbin/mysqld")]
        return [*program, "--no-defaults", f"--basedir={FOLDER / 'usr'}"]
    installed = shutil.which("mysqld", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if installed is None or b"MariaDB" in subprocess.check_output([installed, "--version"]):
        not_installed("no MySQL: neither installed nor by scripts/install-mysql")
    return [installed, "--no-defaults"]


def serve(
    command: Sequence[str],
    folder: Path,
    durable: bool,
    settings: Sequence[str] = (),
    first: Sequence[str] = (),
) -> MysqlServer:
    """Start the server whose data is in this folder.

    :param settings: beside and instead of those that all servers have
    :param first: further arguments of the first start
    """
    users = folder / "users.sql"
    users.write_text(
        "SET sql_log_bin = 0;\n"  # each node of a group has its own
        f"CREATE USER IF NOT EXISTS {_USER}@'%' IDENTIFIED BY \"{_PASSWORD}\";\n"
        f"GRANT ALL ON *.* TO {_USER}@'%' WITH GRANT OPTION;\n"
    )
    port = free_port()
    server = MysqlServer(URL.create("mysql", _USER, _PASSWORD, "127.0.0.1", port))
    server.process = ServerProcess(
        [
            *command,
            f"--datadir={folder / 'data'}",
            f"--tmpdir={folder}",  # a server that starts removes temporary files of others
            *(f"--port={port}", f"--socket={folder / 'socket'}", "--bind-address=127.0.0.1"),
            *("--max-allowed-packet=256M", "--max-connections=300"),
            *("--performance-schema=OFF", "--innodb-buffer-pool-size=64M"),
            *(_DURABLE if durable else _FAST),
            *settings,
        ],
        folder,
        lambda: server.connect().close(),
    )
    server.process.start(*(first or [f"--init-file={users}"]))
    return server


def run(command: Sequence[str], folder: Path) -> None:
    user = UNPRIVILEGED if os.geteuid() == 0 else None
    made = subprocess.run(command, cwd=folder, capture_output=True, user=user)
    if made.returncode:
        said = (made.stdout + made.stderr).decode(errors="replace")
        raise RuntimeError(f"{command[0]} failed: {said[-3000:]}")


def set_snapshot_isolation(engine: Engine, value: str) -> None:
    """Set what MariaDB has switched on since 11.6, for the connections that the engine makes."""

    @event.listens_for(engine, "connect")
    def _set(connection: Any, record: object) -> None:
        connection.query(f"SET innodb_snapshot_isolation = {value}")
