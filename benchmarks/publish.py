from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence

from benchmarks import commands, measured, report, startup
from benchmarks.backends import BACKENDS
from benchmarks.measure import Comparison, Timing

_STREAMED = 100_000


def publish(arguments: Sequence[str]) -> None:
    """Measure, keep the results, and write docs/performance.md from them."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks publish", description=publish.__doc__
    )
    choices = [*BACKENDS, "startup", "mongodb", "peers"]
    parser.add_argument("what", nargs="*", default=choices, help=", ".join(choices))
    parser.add_argument("--runs", type=int, default=3, help="of which the medians are given (3)")
    parser.add_argument("--rounds", type=int, default=1000, help="calls of each (1000)")
    parser.add_argument("--largest", type=int, default=100_000, help="largest store (100000)")
    parser.add_argument("--draw", action="store_true", help="measure nothing, only write the page")
    asked = parser.parse_args(arguments)
    for what in () if asked.draw else asked.what:
        if what == "startup":
            _startup(asked.runs)
        elif what == "mongodb":
            measured.write("mongodb", commands.count())
        elif what == "peers":
            measured.write("peers", json.loads(_benchmarks("peers", "--json")))
        else:
            _backend(what, asked.runs, asked.rounds, asked.largest)
    report.write()


def _backend(name: str, runs: int, rounds: int, largest: int) -> None:
    # Each run is a process of its own: what one did to its memory must not help or hinder the next.
    options = ("--json", f"--rounds={rounds}", f"--largest={largest}")
    found = [json.loads(_benchmarks(name, *options)) for _ in range(runs)]
    compared = [
        [
            Comparison(row["operation"], Timing(**row["ours"]), Timing(**row["raw"]))
            for row in run["results"]
        ]
        for run in found
    ]
    measured.write(name, measured.stored_runs(found[0]["version"], compared))


def _startup(runs: int) -> None:
    kept = measured.stored_runs("", [list(startup.run(20)) for _ in range(runs)])
    megabytes = startup.streaming_megabytes(_STREAMED)
    measured.write("startup", {**kept, "streamed": _STREAMED, "streaming_megabytes": megabytes})


def _benchmarks(*arguments: str) -> str:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
