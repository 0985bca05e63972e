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


def _where(kind: str, id: str, position: int | None) -> tuple[str, tuple[object, ...]]:
    if position is None:
        return "WHERE kind = ? AND key = ?", (kind, id)
    return (
        """WHERE (kind, key) = (SELECT kind, key FROM entries
        WHERE kind = 'messages' AND value = ? AND age = -?)""",
        (id, position),
    )


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
    where, values = _where(kind, id, position)
    change = f"UPDATE documents SET text = ? {where}"  # noqa: S608
    with closing(sqlite3.connect(backend.arguments[0])) as connection, connection:
        return connection.execute(change, (text, *values)).rowcount == 1


def stored(
    backend: Backend, persistence: Persistence, kind: str, id: str, position: int | None
) -> object:
    where, values = _where(kind, id, position)
    look = f"SELECT CAST(text AS BLOB) FROM documents {where}"  # noqa: S608
    with closing(sqlite3.connect(backend.arguments[0])) as connection:
        return connection.execute(look, values).fetchone()
