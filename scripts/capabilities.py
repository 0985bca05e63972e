"""Writes the tables of docs/capabilities.md from the tests; with --check, only compares them."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from agentx_persistence._fs.storage import FileStorage  # noqa: E402
from agentx_persistence._memory.storage import MemoryStorage  # noqa: E402
from agentx_persistence._mongodb.storage import MongoStorage  # noqa: E402
from agentx_persistence._redis.storage import RedisStorage  # noqa: E402
from agentx_persistence._sql.storage import SqlStorage  # noqa: E402
from agentx_persistence.storage import Storage  # noqa: E402
from tests.backends import backend  # noqa: E402
from tests.conftest import BACKENDS  # noqa: E402

_PAGE = ROOT / "docs" / "capabilities.md"
_BEGIN, _END = "<!-- tables: written by scripts/capabilities.py -->\n", "<!-- end of tables -->"

_ROWS: dict[str, tuple[str, type[Storage]]] = {
    "memory": ("memory", MemoryStorage),
    "fs": ("filesystem", FileStorage),
    "sqlite": ("SQLite", SqlStorage),
    "postgresql": ("PostgreSQL", SqlStorage),
    "mysql": ("MySQL", SqlStorage),
    "mariadb": ("MariaDB", SqlStorage),
    "redis": ("Redis", RedisStorage),
    "redis_cluster": ("Redis Cluster", RedisStorage),
    "valkey": ("Valkey", RedisStorage),
    "mongodb": ("MongoDB", MongoStorage),
}


def _has(capability: str) -> Callable[[str], bool]:
    return lambda name: capability in BACKENDS[name]


_COLUMNS: dict[str, Callable[[str], bool]] = {
    "passes the suite of the contract": lambda name: name in BACKENDS,
    "threads of one process share a store": lambda name: name in BACKENDS,
    "several processes share a store, and it outlives them": _has(backend.SHARED),
    "you can limit the connections of a process": _has(backend.POOLED),
    "`within`: calls inside your own transaction": lambda name: (
        _ROWS[name][1].within is not Storage.within
    ),
}


def _table() -> Iterator[str]:
    yield "| | " + " | ".join(_COLUMNS) + " |"
    yield "|---" + "|:-:" * len(_COLUMNS) + "|"
    for name, (title, _) in _ROWS.items():
        cells = ("✓" if holds(name) else "–" for holds in _COLUMNS.values())
        yield "| " + " | ".join([title, *cells]) + " |"


def _exceptions() -> Iterator[str]:
    claims = list(_claims())
    for need in dict.fromkeys(need for _, need in claims):
        lacking = [title for name, (title, _) in _ROWS.items() if need not in BACKENDS[name]]
        yield f"Not on {', '.join(lacking)}:"
        yield ""
        yield from (f"* {claim}" for claim, needed in claims if needed == need)
        yield ""


def _claims() -> Iterator[tuple[str, str]]:
    """Yield what each test claims that not every backend can run, and the capability it needs."""
    for file in sorted((ROOT / "tests" / "contract").glob("test_*.py")):
        for node in ast.parse(file.read_text("utf-8")).body:
            for mark in node.decorator_list if isinstance(node, ast.FunctionDef) else ():
                match mark:
                    case ast.Call(ast.Attribute(attr="needs"), [ast.Name(need)]):
                        assert isinstance(node, ast.FunctionDef)
                        claim = node.name.removeprefix("test_").replace("_", " ")
                        yield claim, getattr(backend, need)


def main() -> int | str:
    text = _PAGE.read_text("utf-8")
    before, _, rest = text.partition(_BEGIN)
    tables = [*_table(), "", *_exceptions(), ""]
    new = before + _BEGIN + "\n".join(tables) + _END + rest.partition(_END)[2]
    if "--check" in sys.argv:
        return 0 if new == text else "docs/capabilities.md is old: run scripts/capabilities.py"
    _PAGE.write_text(new, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
