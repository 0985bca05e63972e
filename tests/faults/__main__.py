"""The long form of the proof: ``python -m tests.faults [backend …]``."""

from __future__ import annotations

import argparse
import json
import logging
import platform
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.faults import node_phases
from tests.faults.checker import FAULTS
from tests.faults.labs import ENGINES, NAMES, family, open_lab
from tests.faults.phases import Proof

_PHASES = (
    *("threads", "kills", "moves", "restarts", "limit", "cuts", "slow", "deadlocks", "full"),
    *("clock", "lost", "switchover", "minority"),
)
# What a column of the table adds up.
_COLUMNS = {
    "operations": ["operations"],
    "messages acknowledged": ["acknowledged messages"],
    "kills of a writer": ["kills"],
    "owners deleted / killed / moves": ["owners deleted", "deletions killed", "moves"],
    "in doubt: there / not / half deleted": [
        "found there",
        "found absent",
        "found a deletion half-way",
    ],
    "server killed / stopped / limited": [
        "server killed",
        "server stopped",
        "server restarted with a limit",
    ],
    "cut before / after / in the answer": ["cut before", "cut after", "cut amid"],
    "deadlocks": ["deadlocks"],
    "disk full": ["disk full"],
    "longest call, s": ["slowest call, s"],
    **{fault: [fault] for fault in FAULTS},
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument(
        "backends", nargs="*", metavar="backend", help=", ".join((*NAMES, *ENGINES))
    )
    parser.add_argument("--kills", type=int, default=200, help="of a writer, for each backend")
    parser.add_argument("--cuts", type=int, default=100, help="of each kind, for each backend")
    parser.add_argument("--moves", type=int, default=100, help="owners to delete beside moves")
    parser.add_argument("--restarts", type=int, default=10, help="of each server")
    parser.add_argument("--nodes", type=int, default=10, help="to lose, of each engine")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--phases", nargs="*", default=list(_PHASES), choices=_PHASES)
    parser.add_argument("--jobs", type=int, default=2, help="how many backends at once")
    parser.add_argument("--json", action="store_true", help="print results, not a table")
    parser.add_argument("--table", help="a file of results that were printed: make a table of them")
    arguments = parser.parse_args()
    logging.getLogger("agentx_persistence").addHandler(logging.NullHandler())  # retries are many
    if arguments.table:
        print(_table([json.loads(line) for line in Path(arguments.table).read_text().splitlines()]))
        return 0
    names = arguments.backends or list(NAMES)
    if len(names) == 1:
        results = [_prove(names[0], arguments)]
    else:
        with ThreadPoolExecutor(arguments.jobs) as jobs:
            results = list(jobs.map(_prove_apart, names))
    print("\n".join(map(json.dumps, results)) if arguments.json else _table(results))
    return any(result["problems"] for result in results)


def _prove_apart(name: str) -> dict[str, Any]:
    """Prove one backend in a process of its own."""
    options = [argument for argument in sys.argv[1:] if argument not in (*NAMES, *ENGINES)]
    command = [sys.executable, "-m", "tests.faults", name, "--json", *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    try:
        result: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        result = {"backend": name, "version": "", "counts": {}, "rows": []}
        result["problems"] = [done.stdout]
    return result


def _prove(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    problems: list[str] = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="agentx-faults-") as folder:
        with open_lab(name, Path(folder)) as lab:
            proof = node_phases.NodeProof(lab, Path(folder), arguments.seed)
            for phase, run in _plan(name, proof, arguments).items():
                if phase in arguments.phases:
                    _run(name, phase, run, problems)
            if name != "memory":
                _run(name, "empty", proof.empty, problems)
        counts += proof.counts
        problems += proof.problems
        if "full" in arguments.phases and name in ("fs", "sqlite"):
            _run(name, "full", lambda: _fill(name, Path(folder), arguments, counts), problems)
    for problem in problems[:50]:
        print(f"{name}, seed {arguments.seed}: {problem}", file=sys.stderr)
    if problems:
        again = f"--seed {arguments.seed} --kills {arguments.kills} --cuts {arguments.cuts}"
        print(f"again: python -m tests.faults {name} {again}", file=sys.stderr)
    return {
        "backend": name,
        "version": lab.version,
        "python": platform.python_version(),
        "seed": arguments.seed,
        "seconds": round(time.monotonic() - began),
        "counts": counts,
        "rows": proof.rows,
        "problems": problems,
    }


def _run(name: str, phase: str, run: Callable[[], None], problems: list[str]) -> None:
    began = time.monotonic()
    try:
        run()
    except Exception:  # the other phases go on
        problems.append(f"[{phase}] {traceback.format_exc()}")
    print(f"{name}: {phase}, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


def _plan(
    name: str, proof: node_phases.NodeProof, arguments: argparse.Namespace
) -> dict[str, Callable[[], None]]:
    """Return what applies to this backend."""
    if proof.lab.nodes:
        return node_phases.plan(proof, arguments.nodes)
    if name == "memory":
        return {"threads": lambda: proof.threads(20)}
    plan: dict[str, Callable[[], None]] = {
        "kills": lambda: proof.kills(arguments.kills, max(1, arguments.kills // 40)),
        "moves": lambda: proof.moves(arguments.moves),
        "clock": proof.clock,
    }
    if proof.lab.servers:
        plan["restarts"] = lambda: proof.restarts(arguments.restarts)
        plan["cuts"] = lambda: proof.cuts(arguments.cuts)
        plan["slow"] = lambda: proof.slow(6, 25)
    if proof.lab.limit:
        plan["limit"] = lambda: proof.few_connections(8)
    if family(name) in ("mysql", "postgresql"):
        plan["deadlocks"] = lambda: proof.deadlocks(10)
    return plan


def _fill(name: str, folder: Path, arguments: argparse.Namespace, counts: Counter[str]) -> None:
    with _small_disk(folder / "disk") as disk, open_lab(name, disk) as lab:
        proof = Proof(lab, folder, arguments.seed)
        proof.full_disk(disk, 20)
    for count in ("disk full", "operations", "acknowledged messages", "failed calls", *FAULTS):
        counts[count] += proof.counts[count]
    if proof.problems:
        raise AssertionError("\n".join(proof.problems))


@contextmanager
def _small_disk(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def _table(results: list[dict[str, Any]]) -> str:
    if any(result.get("rows") for result in results):
        return node_phases.table(results)
    rows = [["backend", "server", *_COLUMNS], ["---"] * (len(_COLUMNS) + 2)]
    for result in results:
        counts = result["counts"]
        cells = [
            " / ".join(str(counts.get(count, 0)) for count in added) for added in _COLUMNS.values()
        ]
        rows.append([result["backend"], result["version"], *cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    sys.exit(main())
