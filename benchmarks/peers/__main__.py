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
from pathlib import Path

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
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")
    asked = parser.parse_args(argv)
    limits = Limits(asked.rounds, asked.largest, asked.seconds)
    todo = [
        (peer, backend)
        for backend in asked.backend or BACKENDS
        for peer in PEERS
        if backend in peer.backends and peer.name in (asked.peer or names)
    ]
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as name, Servers(Path(name)) as servers:
        for peer, backend in todo:
            for found in compare(peer, backend, servers.urls(backend), Path(name), limits):
                results.append(found)
                facts = (value for value in vars(found).values() if value not in (None, ""))
                print(*facts, sep="  ", file=sys.stderr if asked.json else sys.stdout)
    if asked.json:
        print(json.dumps(results, indent=1, default=vars))


if __name__ == "__main__":
    main()
