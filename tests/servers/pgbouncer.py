"""PgBouncer in transaction mode for the tests, as installed, in front of a PostgreSQL server."""

from __future__ import annotations

import shutil
from pathlib import Path

import psycopg

from tests.servers.postgresql import PostgresqlServer
from tests.servers.process import ServerProcess, free_port, hand_over, not_installed


def start_server(folder: Path, behind: PostgresqlServer) -> PostgresqlServer:
    """Start a pooler; return `behind` as it is reached through it."""
    pgbouncer = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")
    if pgbouncer is None:
        not_installed("no PgBouncer: it is in Debian's package pgbouncer")
    hand_over(folder)
    port = free_port()
    users = folder / "users.txt"
    users.write_text(f'"{behind.url.username}" "{behind.url.password or ""}"\n')
    settings = {
        "listen_addr": "127.0.0.1",
        "listen_port": port,
        "unix_socket_dir": "",
        "auth_type": "any" if behind.url.password is None else "plain",
        "auth_file": users,
        "pool_mode": "transaction",
        # So few that the same client gets one server connection after another.
        "default_pool_size": 4,
        "max_client_conn": 200,
        "ignore_startup_parameters": "extra_float_digits",
    }
    to = f"host={behind.url.host} port={behind.url.port} user={behind.url.username}"
    lines = ["[databases]", f"* = {to}", "[pgbouncer]"]
    lines += [f"{name} = {value}" for name, value in settings.items()]
    (folder / "pgbouncer.ini").write_text("\n".join(lines) + "\n")

    through = PostgresqlServer(behind.url.set(port=port))

    def is_ready() -> None:
        with psycopg.connect(
            host="127.0.0.1", port=port, user=behind.url.username, dbname="postgres"
        ):
            pass

    through.process = ServerProcess([pgbouncer, str(folder / "pgbouncer.ini")], folder, is_ready)
    through.process.start()
    return through
