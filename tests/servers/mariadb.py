"""MariaDB for the tests, as installed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.servers.mysql import MysqlServer, run, serve
from tests.servers.process import hand_over, not_installed


def start_server(folder: Path, *, durable: bool = False) -> MysqlServer:
    """Start a new, empty server in this folder."""
    return serve(made(folder), folder, durable)


def made(folder: Path) -> list[str]:
    """Make the data of a new server in this folder; return the command that runs it."""
    programs = f"{os.environ.get('PATH', '')}:/usr/sbin"
    install = shutil.which("mariadb-install-db", path=programs)
    mariadbd = shutil.which("mariadbd", path=programs)
    if install is None or mariadbd is None:
        not_installed("no MariaDB: it is in Debian's package mariadb-server-core")
    hand_over(folder)
    arguments = ["--no-defaults", f"--datadir={folder / 'data'}", "--skip-test-db"]
    run([install, *arguments, "--auth-root-authentication-method=normal"], folder)
    return [mariadbd, "--no-defaults"]
