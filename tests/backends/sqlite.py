from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from agentx_persistence import create_persistence
from agentx_persistence.sqlite import sqlite_driver
from tests.backends.backend import Backend


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
