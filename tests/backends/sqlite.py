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
    with closing(sqlite3.connect(backend.arguments[0])) as connection, connection:
        text = "CAST(? AS TEXT)"  # which SQLite does not check
        if position is not None:
            connection.execute(
                f"UPDATE messages SET body = {text} WHERE session_id = ? AND position = ?",  # noqa: S608
                (raw, id, position),
            )
        else:
            key = f"{kind.removesuffix('s')}_id"
            connection.execute(f"UPDATE {kind} SET body = {text} WHERE {key} = ?", (raw, id))  # noqa: S608
    return True


def stored(
    backend: Backend, persistence: Persistence, kind: str, id: str, position: int | None
) -> object:
    with closing(sqlite3.connect(backend.arguments[0])) as connection:
        look, values = look_up(kind, id, position)
        look = look.replace("%s", "?").replace("body", "CAST(body AS BLOB)", 1)
        return connection.execute(look, values).fetchone()
