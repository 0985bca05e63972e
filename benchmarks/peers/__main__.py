"""python -m benchmarks peers: this package beside others, call by call in one run.

Each peer has an environment of its own, made in .venv/peers from PyPI. Both sides have the same
server, or a file with the same settings (write-ahead log, synchronous=FULL); sqlite-tmpfs has it in
memory and counts processor time, of all threads, so that one sees the libraries, and neither the
disk nor what else the machine does. Times are microseconds per call; ratio is theirs divided by
ours: above 1, this package is the faster one.

append   one message of 500 bytes, to a session that has so many
turn     all that the peer's framework does to its store in a turn; ours: last 50, then append
load     the last 50 messages of so many
list     the 20 records of one owner among so many
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from tqdm import tqdm

from benchmarks.peers.catalogue import PEERS
from benchmarks.peers.comparison import Limits, Result, compare
from benchmarks.peers.servers import BACKENDS, Servers


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks peers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [peer.name for peer in PEERS]
    parser.add_argument("--peer", action="append", choices=names, help="only this one")
    parser.add_argument("--backend", action="append", choices=BACKENDS, help="only this one")
    parser.add_argument("--largest", type=int, default=10_000, help="largest store (10000)")
    parser.add_argument("--rounds", type=int, default=200, help="calls of each (200)")
    parser.add_argument("--seconds", type=float, default=10, help="most for a row (10)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    asked = parser.parse_args(argv)
    limits = Limits(asked.rounds, asked.largest, asked.seconds)
    results = _run(asked.peer or names, asked.backend or BACKENDS, limits)
    if asked.json:
        print(json.dumps(results, indent=1, default=vars))
    else:
        _print(results)


def _run(names: Sequence[str], backends: Sequence[str], limits: Limits) -> list[Result]:
    todo = [
        (peer, backend)
        for backend in BACKENDS
        for peer in PEERS
        if backend in backends and backend in peer.backends and peer.name in names
    ]
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as name, Servers(Path(name)) as servers:
        progress = tqdm(todo, file=sys.stderr, leave=False)
        for peer, backend in progress:
            progress.set_postfix_str(f"{peer.name}, {backend}")
            results.extend(compare(peer, backend, servers.urls(backend), Path(name), limits))
    return results


def _print(results: list[Result]) -> None:
    for (peer, version), rows in groupby(results, lambda found: (found.peer, found.peer_version)):
        print(f"\n{f'{peer} {version}':<44}{'ours (quartiles)':>22}{'theirs':>26}{'ratio':>8}")
        notes: dict[str, None] = {}
        for row in rows:
            what = f"{row.backend:<12} {row.operation:<7} {row.stored:>7,}"
            if row.note:
                notes[f"  {row.operation}: {row.note}"] = None
            ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
            ours, theirs = row.ours or "not measured", row.theirs or "not measured"
            print(f"{what:<44}{ours!s:>22}{theirs!s:>26}{ratio:>8}")
        print(*notes, sep="\n")


if __name__ == "__main__":
    main()
