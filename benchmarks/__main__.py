"""python -m benchmarks: this package beside the raw client library, call by call in one run.

Times are microseconds per call; trust the ratio, not the times.

    python -m benchmarks sqlite-full redis   measure these and print tables
    python -m benchmarks peers               beside other packages
    python -m benchmarks publish             measure all, and write docs/performance.md
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.backends import BACKENDS
from benchmarks.measure import Comparison, compare
from benchmarks.operations import operations


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("backend", nargs="*", default=list(BACKENDS), help=", ".join(BACKENDS))
    parser.add_argument("--rounds", type=int, default=1000, help="calls of each (1000)")
    parser.add_argument("--largest", type=int, default=100_000, help="largest store (100000)")
    parser.add_argument("--sessions", type=int, default=1_000, help="sessions to list (1000)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    asked = parser.parse_args(arguments)
    for name in asked.backend:
        with tempfile.TemporaryDirectory() as folder, BACKENDS[name](Path(folder)) as contest:
            shown, results = sys.stderr if asked.json else sys.stdout, list[Comparison]()
            print(f"\n{contest.version:<48} {'ours':>10} {'raw':>10} {'ratio':>7}", file=shown)
            for each in operations(contest, asked.rounds, asked.largest, asked.sessions):
                found = compare(*each)
                results.append(found)
                times = f"{found.ours:>10,.0f} {found.raw:>10,.0f} {found.ours / found.raw:>7.2f}"
                print(f"{found.operation:<48} {times}", file=shown)
        if asked.json:
            print(json.dumps({"version": contest.version, "results": results}, default=vars))


if __name__ == "__main__":
    # The other two bring what measuring alone can do without.
    if sys.argv[1:2] == ["peers"]:
        from benchmarks.peers.__main__ import main as main_of_peers

        main_of_peers(sys.argv[2:])
    elif sys.argv[1:2] == ["publish"]:
        from benchmarks.publish import publish

        publish(sys.argv[2:])
    else:
        main(sys.argv[1:])
