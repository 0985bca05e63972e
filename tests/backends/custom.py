"""The example of a backend that is not ours, held to the same contract."""

from __future__ import annotations

import importlib.util
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agentx_persistence import Persistence
from agentx_persistence.storage._map_keys import entry_key, key_of
from agentx_persistence.storage.kinds import SEPARATOR
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
    before, separator, _ = _look_up(backend, kind, id, position)
    change = "UPDATE map SET text = ? WHERE key = ?"
    with closing(sqlite3.connect(backend.arguments[0])) as connection, connection:
        values = (before + separator + text, _key(kind, id, position))
        return connection.execute(change, values).rowcount == 1


def stored(
    backend: Backend, persistence: Persistence, kind: str, id: str, position: int | None
) -> object:
    return _look_up(backend, kind, id, position)[2]


def _key(kind: str, id: str, position: int | None) -> str:
    return key_of(kind, id) if position is None else entry_key(id, position)


def _look_up(backend: Backend, kind: str, id: str, position: int | None) -> tuple[str, str, str]:
    """Return what comes before the text in its row, the separator, and the text."""
    look = "SELECT text FROM map WHERE key = ?"
    with closing(sqlite3.connect(backend.arguments[0])) as connection:
        row: str = connection.execute(look, (_key(kind, id, position),)).fetchone()[0]
        return row.partition("\n" if position is None else SEPARATOR)
