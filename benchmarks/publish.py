"""Keeps what was measured in benchmarks/results, and writes docs/performance.md from it."""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from collections.abc import Iterable, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import commands, plots, startup
from benchmarks.backends import BACKENDS

_HERE = Path(__file__).parent
_DOCS = _HERE.parent / "docs"
_LIBRARIES = ("pydantic", "SQLAlchemy", "psycopg", "PyMySQL", "redis", "pymongo")
_STREAMED = 100_000
_NAMES = {
    "sqlite-full": "SQLite",
    "sqlite-normal": "SQLite, NORMAL",
    "postgresql": "PostgreSQL",
    "mariadb": "MariaDB",
    "mysql": "MySQL",
    "redis": "Redis",
    "fs": "filesystem",
    "memory": "memory",
    # Where other packages are measured:
    "sqlite": "SQLite",
    "sqlite-tmpfs": "SQLite, no disk",
}
_LENGTH = 1_000  # of a history, where other packages are compared at one length
# What an application does most, and the operation that is measured for it.
_FIRST = {
    "add a message": "append at 10,000 stored",
    "add 100 messages": "append a batch of 100",
    "read the last 50 messages": "last 50 of 10,000",
    "read 1,000 messages": "load 1,000",
    "list 20 sessions": "page of 20 by activity among 1,000 sessions",
    "get a record": "get an image",
    "save a record": "save an image",
}


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
    sizes = f"--rounds={asked.rounds}", f"--largest={asked.largest}"
    for what in () if asked.draw else asked.what:
        if what == "startup":
            found = [{"version": "", "results": startup.run(20)} for _ in range(asked.runs)]
            megabytes = startup.streaming_megabytes(_STREAMED)
            kept = {**_kept(found), "streamed": _STREAMED, "streaming_megabytes": megabytes}
        elif what == "mongodb":
            kept = commands.count()
        elif what == "peers":
            kept = _measured("peers")
        else:
            kept = _kept([_measured(what, *sizes) for _ in range(asked.runs)])
        text = json.dumps(kept, indent=1, default=vars)
        (_HERE / "results" / f"{what}.json").write_text(f"{text}\n")
    write()


def _measured(*arguments: str) -> Any:
    # Each run is a process of its own: what one did to its memory must not help or hinder the next.
    command = [sys.executable, "-m", "benchmarks", *arguments, "--json"]
    return json.loads(subprocess.check_output(command))


def _kept(runs: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "version": runs[0]["version"],
        "date": date.today().isoformat(),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in _LIBRARIES},
        "runs": [list(run["results"]) for run in runs],
    }


def write() -> None:
    """Write the page anew; what was not measured is not in it."""
    backends = {name: kept for name in BACKENDS if (kept := _read(name))}
    rows = {name: _medians(kept) for name, kept in backends.items()}
    peers = _read("peers") or []
    first = {
        name: {title: found[each] for title, each in _FIRST.items() if each in found}
        for name, found in rows.items()
    }
    plots.draw_ratios(_DOCS / "ratios.svg", first, _NAMES)
    plots.draw_histories(_DOCS / "histories.svg", rows, peers, _NAMES)
    page = (_HERE / "performance.in.md").read_text()
    parts = {
        "{first}": _ratios(first),
        "{ratios}": _ratios(rows),
        "{times}": "\n\n".join(_times(name, found) for name, found in rows.items()),
        "{startup}": _startup(_read("startup")),
        "{commands}": _table(["MongoDB", "commands"], (_read("mongodb") or {}).items()),
        "{peers}": _peers(peers),
        "{turns}": _turns(peers),
        "{versions}": _versions(backends),
    }
    for place, text in parts.items():
        page = page.replace(place, text)
    (_DOCS / "performance.md").write_text(page)


def _read(name: str) -> Any:
    path = _HERE / "results" / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def _medians(results: dict[str, Any]) -> plots.Rows:
    """Return, by operation, the medians over the runs of ours, of raw, and of their ratio."""
    found = {}
    for rows in zip(*results["runs"], strict=True):
        pairs = [(row["ours"], row["raw"]) for row in rows]
        ours, raw = (median(side) for side in zip(*pairs, strict=True))
        found[rows[0]["operation"]] = ours, raw, median(a / b for a, b in pairs)
    return found


def _ratios(rows: dict[str, plots.Rows]) -> str:
    operations = dict.fromkeys(operation for found in rows.values() for operation in found)
    lines = (
        [name, *(f"{found[name][2]:.2f}" if name in found else "" for found in rows.values())]
        for name in operations
    )
    return _table(["", *map(_NAMES.get, rows)], lines)


def _times(backend: str, rows: plots.Rows) -> str:
    lines = (
        [name, *(f"{value:,.{int(value < 100)}f}" for value in found[:2])]
        for name, found in rows.items()
    )
    return f"**{_NAMES[backend]}**\n\n" + _table(["", "ours, µs", "raw, µs"], lines)


def _startup(kept: dict[str, Any] | None) -> str:
    if kept is None:
        return "Not measured."
    lines = [[name, f"{found[2]:.2f}"] for name, found in _medians(kept).items()]
    growth = f"{kept['streaming_megabytes']:.1f} MB"
    lines.append(
        [f"memory while streaming {kept['streamed']:,} messages, more than before", growth]
    )
    return _table(["a new process", "importing pydantic = 1"], lines)


def _peers(rows: list[dict[str, Any]]) -> str:
    sizes = sorted({row["stored"] for row in rows})
    lines: dict[tuple[str, str, str], dict[int, str]] = {}
    notes: dict[str, dict[str, None]] = {}
    for row in rows:
        name = f"{row['peer']} {row['peer_version']}"
        line = lines.setdefault((_NAMES[row["backend"]], name, row["operation"]), {})
        line[row["stored"]] = "–" if row["ratio"] is None else f"{row['ratio']:,.1f}"
        if row["note"]:
            notes.setdefault(name, {})[f"{row['operation']}: {row['note']}"] = None
    table = _table(
        ["", "package", "operation", *(f"{size:,}" for size in sizes)],
        ([*key, *(line.get(size, "") for size in sizes)] for key, line in sorted(lines.items())),
    )
    said = "\n".join(f"* **{name}**: {'; '.join(texts)}." for name, texts in notes.items())
    return f"{table}\n\n{said}"


def _turns(rows: list[dict[str, Any]]) -> str:
    """Return, for each package and backend, how many times as long as ours a turn takes."""
    wanted = [row for row in rows if (row["operation"], row["stored"]) == ("turn", _LENGTH)]
    backends = dict.fromkeys(row["backend"] for row in wanted)
    found = {
        (row["peer"], row["backend"]): "" if row["ratio"] is None else f"{row['ratio']:,.1f}"
        for row in wanted
    }
    peers = dict.fromkeys(row["peer"] for row in wanted)
    lines = ([peer, *(found.get((peer, each), "") for each in backends)] for peer in peers)
    return _table(["", *map(_NAMES.get, backends)], lines)


def _versions(backends: dict[str, dict[str, Any]]) -> str:
    lines = (
        [_NAMES[name], kept["version"], kept["date"], len(kept["runs"]), kept["python"]]
        for name, kept in backends.items()
    )
    libraries = next(iter(backends.values()), {}).get("libraries", {})
    named = ", ".join(f"{name} {version}" for name, version in libraries.items())
    return _table(["", "version", "date", "runs", "Python"], lines) + f"\n\nLibraries: {named}."


def _table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
