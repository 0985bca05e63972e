"""python -m benchmarks: this package beside the raw client library and beside other packages.

    python -m benchmarks sqlite-full redis   print how long each call takes on both sides
    python -m benchmarks peers               the same beside other packages
    python -m benchmarks --keep              keep what is measured in docs/measurements

Times are microseconds per call; trust the ratio, not the times. Beside raw code it is ours divided
by raw. Beside others it is theirs divided by ours: above 1, this package is the faster one.
docs/performance.md says what is measured.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import startup
from benchmarks.backends import BACKENDS
from benchmarks.operations import operations
from benchmarks.peers import catalogue

_ALL = (*BACKENDS, "startup", "peers")
_LIBRARIES = ("pydantic", "SQLAlchemy", "psycopg", "PyMySQL", "redis", "pymongo")
_MEASUREMENTS = Path(__file__).parents[1] / "docs" / "measurements"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", nargs="*", default=_ALL, help=", ".join(_ALL))
    parser.add_argument("--rounds", type=int, default=1000, help="calls of each (1000)")
    parser.add_argument("--largest", type=int, default=100_000, help="largest store (100000)")
    parser.add_argument("--sessions", type=int, default=1_000, help="sessions to list (1000)")
    parser.add_argument("--peer", action="append", choices=catalogue.PEERS, help="only this one")
    parser.add_argument("--on", action="append", choices=catalogue.PLACES, help="peers, only there")
    parser.add_argument("--seconds", type=float, default=10, help="most for a row of peers (10)")
    parser.add_argument("--json", action="store_true", help="print each row as JSON")
    parser.add_argument("--keep", action="store_true", help="keep results, print nothing")
    parser.add_argument("--runs", type=int, default=3, help="to keep the results of (3)")
    asked = parser.parse_args()
    for what in asked.what:
        if asked.keep:
            _keep(what, asked)
            continue
        for number, row in enumerate(_rows(what, asked)):
            if asked.json:
                print(json.dumps(row), flush=True)
                continue
            if not number:
                _print(row)
            _print(row.values())


def _print(cells: Iterable[object]) -> None:
    shown = (f"{cell:<12,.2f}" if isinstance(cell, float) else f"{cell!s:<12}" for cell in cells)
    print(*shown, sep="  ", flush=True)


def _keep(what: str, asked: argparse.Namespace) -> None:
    sizes = [f"--{name}={getattr(asked, name)}" for name in ("rounds", "largest", "sessions")]
    # Each run is a process of its own: what one did to its memory must not help or hinder the next.
    command = [sys.executable, "-m", "benchmarks", what, "--json", *sizes]
    runs = range(1 if what in ("peers", "mongodb") else asked.runs)
    kept = {
        "date": date.today().isoformat(),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in _LIBRARIES},
        "runs": [[*map(json.loads, subprocess.check_output(command).splitlines())] for _ in runs],
    }
    (_MEASUREMENTS / f"{what}.json").write_text(json.dumps(kept, indent=1) + "\n")


def _rows(what: str, asked: argparse.Namespace) -> Iterator[dict[str, Any]]:
    if what == "startup":
        yield from startup.run(20)
    elif what == "peers":
        limits = min(asked.rounds, 200), asked.largest, asked.seconds
        for backend in asked.on or catalogue.PLACES:
            for name in asked.peer or catalogue.PEERS:
                if backend in catalogue.PEERS[name][1]:
                    yield from catalogue.compare(name, backend, *limits)
    else:
        sizes = asked.rounds, asked.largest, asked.sessions
        if what == "mongodb":  # where there is nothing to take the median of
            sizes = 10, 1_000, 30
        with tempfile.TemporaryDirectory() as folder, BACKENDS[what](Path(folder)) as contest:
            for operation in operations(contest, *sizes):
                yield {"version": contest.version, **contest.measure(operation)}


if __name__ == "__main__":
    main()
