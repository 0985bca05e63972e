"""python -m benchmarks.peers: this package beside others, call by call in one run.

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
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

from benchmarks.measure import Timing
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
        print(json.dumps([asdict(result) for result in results], indent=1))
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
    with tempfile.TemporaryDirectory() as name:
        servers = Servers(Path(name))
        try:
            for number, (peer, backend) in enumerate(todo):
                _progress(number, len(todo), f"{peer.name}, {backend}")
                for result in compare(peer, backend, servers.urls(backend), Path(name), limits):
                    results.append(result)
                    _progress(number, len(todo), f"{peer.name}, {backend}: {result.operation} done")
        finally:
            servers.stop()
    print("\r\033[K", end="", file=sys.stderr)
    return results


def _progress(number: int, of: int, text: str) -> None:
    done = round(20 * number / of)
    bar = "#" * done + "." * (20 - done)
    print(f"\r\033[K[{bar}] {number}/{of} {text}", end="", file=sys.stderr, flush=True)


def _print(results: list[Result]) -> None:
    for (peer, version), rows in groupby(results, lambda found: (found.peer, found.peer_version)):
        print(f"\n{f'{peer} {version}':<44}{'ours (quartiles)':>22}{'theirs':>26}{'ratio':>8}")
        notes: list[str] = []
        for row in rows:
            what = f"{row.backend:<12} {row.operation:<7} {row.stored:>7,}"
            note = f"{row.operation}: {row.note}"
            if row.note and note not in notes:
                notes.append(note)
            ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
            print(f"{what:<44}{_text(row.ours):>22}{_text(row.theirs):>26}{ratio:>8}")
        for note in notes:
            print(f"  {note}")


def _text(timing: Timing | None) -> str:
    return (
        f"{timing.median:,.0f} ({timing.low:,.0f}-{timing.high:,.0f})" if timing else "not measured"
    )


if __name__ == "__main__":
    main()
