from __future__ import annotations

from pathlib import Path

import pytest

from agentx_persistence import Persistence
from agentx_persistence.fs import fs_driver
from agentx_persistence.storage import KINDS
from tests.backends.backend import Backend


@pytest.fixture
def fs_backend(tmp_path: Path) -> Backend:
    return Backend("fs", "agentx_persistence.fs", (str(tmp_path / "store"),))


def place(base: object, kind: str, id: str, position: int | None = None) -> tuple[Path, int]:
    """Return the file of a record, or of a message, and where the message's line starts."""
    storage = fs_driver(str(base)).create_storage()
    (kind_,) = (each for each in KINDS if each.name == kind)
    path, _, byte = storage.where(kind_, id, position).partition(", byte ")
    storage.close()
    return Path(path), int(byte or 0)


def corrupt(
    backend: Backend,
    persistence: Persistence,
    kind: str,
    id: str,
    position: int | None,
    raw: bytes,
) -> bool:
    file, start = place(backend.arguments[0], kind, id, position)
    data = file.read_bytes()
    if position is None:
        head, mark, _ = data.partition(b',\n"record":')
        file.write_bytes(head + mark + raw + b"}\n")
        return True
    if b"\n" in raw:
        return False  # that would be two lines: tests/drivers/test_fs_damage.py
    stop = data.index(b"\n", start)
    text = data.index(b'"message":', start) + len(b'"message":')
    damaged = data[:text] + raw + data[data.rindex(b',"position":', start, stop) :]
    file.write_bytes(damaged)
    return True


def stored(
    backend: Backend, persistence: Persistence, kind: str, id: str, position: int | None
) -> object:
    file, start = place(backend.arguments[0], kind, id, position)
    data = file.read_bytes()
    if position is not None:
        return data[start : data.index(b"\n", start)]
    return data.partition(b',\n"record":')[2]
