from __future__ import annotations

from pathlib import Path

import pytest

from agentx_persistence import Persistence
from agentx_persistence.fs import FileStore
from tests.backends.backend import Backend


@pytest.fixture
def fs_backend(tmp_path: Path) -> Backend:
    return Backend("fs", "agentx_persistence.fs", (str(tmp_path / "store"),))


def corrupt(
    backend: Backend,
    persistence: Persistence,
    kind: str,
    id: str,
    position: int | None,
    raw: bytes,
) -> bool:
    store = FileStore(backend.arguments[0])
    path, _, line = store.where(kind, id, position).partition(", line ")
    file = Path(path)
    if position is None:
        head, mark, _ = file.read_bytes().partition(b',\n"record":')
        file.write_bytes(head + mark + raw + b"}\n")
        return True
    if b"\n" in raw:
        return False  # that would be two lines: tests/drivers/test_fs.py
    lines = file.read_bytes().split(b"\n")
    damaged = lines[int(line) - 1]
    start = damaged.index(b'"message":') + len(b'"message":')
    lines[int(line) - 1] = damaged[:start] + raw + damaged[damaged.rindex(b',"position":') :]
    file.write_bytes(b"\n".join(lines))
    return True


def stored(
    backend: Backend, persistence: Persistence, kind: str, id: str, position: int | None
) -> object:
    store = FileStore(backend.arguments[0])
    path, _, line = store.where(kind, id, position).partition(", line ")
    data = Path(path).read_bytes()
    if position is not None:
        return data.split(b"\n")[int(line) - 1]
    return data.partition(b',\n"record":')[2]
