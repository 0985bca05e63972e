from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agentx_persistence import Persistence, create_persistence
from agentx_persistence.sqlite import sqlite_driver
from tests.backends.backend import Backend
from tests.backends.damage import look_up


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database to copy, which takes less time than to migrate a new one."""
    path = tmp_path_factory.mktemp("sqlite") / "migrated.db"
    create_persistence(sqlite_driver(path)).close()
    return path


@pytest.fixture
def sqlite_backend(migrated_file: Path, tmp_path: Path) -> Backend:
    path = tmp_path / "agentx.db"
    shutil.copy(migrated_file, path)
    return Backend("sqlite", "agentx_persistence.sqlite", (str(path),))


def corrupt(
    backend: Backend,
    persistence: Persistence,
    kind: str,
    id: str,
    position: int | None,
    raw: bytes,
) -> bool:
    look, values = look_up(kind, id, position)
    change = look.replace("SELECT body FROM", "UPDATE").replace("%s", "?")
    # SQLite does not check what it casts to a text.
    change = change.replace(" WHERE", " SET body = CAST(? AS TEXT) WHERE", 1)
    with closing(sqlite3.connect(backend.arguments[0])) as connection, connection:
        connection.execute(change, (raw, *values))
    return True


def stored(
    backend: Backend, persistence: Persistence, kind: str, id: str, position: int | None
) -> object:
    with closing(sqlite3.connect(backend.arguments[0])) as connection:
        look, values = look_up(kind, id, position)
        look = look.replace("%s", "?").replace("body", "CAST(body AS BLOB)", 1)
        return connection.execute(look, values).fetchone()
