"""python -m benchmarks: this package beside the raw client library, call by call in one run.

Times are microseconds per call; trust the ratio, not the times. `growth` compares an append, or a
page, in the fullest store with the same in the emptiest one.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from agentx_persistence import Persistence, create_persistence
from agentx_persistence.sqlite import sqlite_driver
from benchmarks import operations
from benchmarks.measure import Comparison
from benchmarks.raw.sqlite import RawSqlite
from benchmarks.raw.store import RawStore

Pair = tuple[Persistence, RawStore]


def _sqlite(synchronous: str) -> Callable[[Path], Pair]:
    def open_both(folder: Path) -> Pair:
        ours = sqlite_driver(folder / "ours.db", synchronous=synchronous)  # type: ignore[arg-type]
        return create_persistence(ours), RawSqlite(str(folder / "raw.db"), synchronous)

    return open_both


BACKENDS: dict[str, Callable[[Path], Pair]] = {
    "sqlite-full": _sqlite("FULL"),
    "sqlite-normal": _sqlite("NORMAL"),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("backend", nargs="*", default=list(BACKENDS), help=", ".join(BACKENDS))
    parser.add_argument("--rounds", type=int, default=1000, help="calls of each (1000)")
    parser.add_argument("--largest", type=int, default=100_000, help="largest store (100000)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    asked = parser.parse_args()
    results = {name: _run(name, asked.rounds, asked.largest) for name in asked.backend}
    if asked.json:
        print(json.dumps({k: [asdict(c) for c in v] for k, v in results.items()}, indent=1))
        return
    for name, comparisons in results.items():
        _print(name, comparisons)


def _run(name: str, rounds: int, largest: int) -> list[Comparison]:
    comparisons = []
    with tempfile.TemporaryDirectory() as folder:
        persistence, raw = BACKENDS[name](Path(folder))
        try:
            for comparison in operations.run(persistence, raw, rounds, largest):
                comparisons.append(comparison)
                progress = f"{name}: {len(comparisons)} done, {comparison.operation}"
                print(f"\r\033[K{progress}", end="", file=sys.stderr, flush=True)
        finally:
            persistence.close()
            raw.close()
    print("\r\033[K", end="", file=sys.stderr)
    return comparisons


def _print(name: str, comparisons: list[Comparison]) -> None:
    print(f"\n{name:<32} {'ours (quartiles)':>26} {'raw':>10} {'ratio':>7}")
    for found in comparisons:
        ours = f"{found.ours.median:.0f} ({found.ours.low:.0f}-{found.ours.high:.0f})"
        print(f"{found.operation:<32} {ours:>26} {found.raw.median:>10.0f} {found.ratio:>7.2f}")
    for operation in ("append", "page"):
        sized = [
            c for c in comparisons if c.operation.startswith((f"{operation} at", f"{operation} of"))
        ]
        if len(sized) > 1:
            growth = sized[-1].ours.median / sized[0].ours.median
            print(f"growth of {operation}: {growth:.2f}")


if __name__ == "__main__":
    main()
