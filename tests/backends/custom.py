"""The example of a backend that is not ours, held to the same contract."""

from __future__ import annotations

import importlib.util
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agentx_persistence import Persistence
from tests.backends.backend import Backend

_EXAMPLE = Path(__file__).parents[2] / "examples" / "custom.py"
_spec = importlib.util.spec_from_file_location("custom", _EXAMPLE)
assert _spec is not None
assert _spec.loader is not None
_example = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_example)
custom_driver = _example.CustomDriver


@pytest.fixture
def custom_backend(tmp_path: Path) -> Backend:
    return Backend("custom", "tests.backends.custom", (str(tmp_path / "custom.db"),))


def corrupt(
    backend: Backend,
    persistence: Persistence,
    kind: str,
    id: str,
    position: int | None,
    raw: bytes,
) -> bool:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return False  # it would not come out of the database
    with closing(sqlite3.connect(backend.arguments[0])) as connection, connection:
        if position is None:
            change = "UPDATE documents SET text = ? WHERE kind = ? AND key = ?"
            return connection.execute(change, (text, kind, id)).rowcount > 0
        change = "UPDATE entries SET text = ? WHERE log = ? AND place = ?"
        return connection.execute(change, (text, id, position)).rowcount == 1


def stored(
    backend: Backend, persistence: Persistence, kind: str, id: str, position: int | None
) -> object:
    with closing(sqlite3.connect(backend.arguments[0])) as connection:
        if position is None:
            look = "SELECT CAST(text AS BLOB) FROM documents WHERE kind = ? AND key = ?"
            return connection.execute(look, (kind, id)).fetchone()
        look = "SELECT CAST(text AS BLOB) FROM entries WHERE log = ? AND place = ?"
        return connection.execute(look, (id, position)).fetchone()
