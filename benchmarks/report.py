"""Writes docs/performance.md and its plots from what is in benchmarks/results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import measured, plots

_DOCS = Path(__file__).parents[1] / "docs"
_ORDER = (
    "sqlite-full",
    "sqlite-normal",
    "postgresql",
    "mariadb",
    "mysql",
    "redis",
    "fs",
    "memory",
)


def write() -> None:
    """Write the page anew; what was not measured is not in it."""
    found = {name: measured.read(name) for name in _ORDER}
    raw = {name: kept for name, kept in found.items() if kept}
    peers = measured.read("peers") or []
    _DOCS.mkdir(exist_ok=True)
    plots.draw_ratios(_DOCS / "ratios.svg", raw)
    plots.draw_histories(_DOCS / "histories.svg", raw, peers)
    page = (Path(__file__).parent / "performance.in.md").read_text()
    parts = {
        "{ratios}": _ratios(raw),
        "{times}": _times(raw),
        "{startup}": _startup(measured.read("startup")),
        "{commands}": _commands(measured.read("mongodb")),
        "{peers}": _peers(peers),
        "{versions}": _versions(raw),
    }
    for place, text in parts.items():
        page = page.replace(place, text)
    (_DOCS / "performance.md").write_text(page)


def _ratios(raw: dict[str, measured.Results]) -> str:
    """Return one row for each operation, one column for each backend."""
    columns = {
        name: {row[0]: f"{row[3]:.2f}" for row in measured.medians(kept)}
        for name, kept in raw.items()
    }
    operations = list(dict.fromkeys(row for column in columns.values() for row in column))
    return _table(
        ["", *columns],
        ([row, *(column.get(row, "") for column in columns.values())] for row in operations),
    )


def _times(raw: dict[str, measured.Results]) -> str:
    tables = []
    for name, kept in raw.items():
        rows = [
            [row[0], *(f"{value:,.{int(value < 100)}f}" for value in row[1:3])]
            for row in measured.medians(kept)
        ]
        tables.append(f"**{name}**\n\n" + _table(["", "ours, µs", "raw, µs"], rows))
    return "\n\n".join(tables)


def _startup(kept: measured.Results | None) -> str:
    if kept is None:
        return "Not measured."
    rows = [[row[0], f"{row[3]:.2f}"] for row in measured.medians(kept)]
    growth = f"{kept['streaming_megabytes']:.1f} MB"
    rows.append([f"memory while streaming {kept['streamed']:,} messages, more than before", growth])
    return _table(["a new process", "importing pydantic = 1"], rows)


def _commands(kept: dict[str, int] | None) -> str:
    if kept is None:
        return "Not measured."
    return _table(["MongoDB", "commands"], ([name, str(number)] for name, number in kept.items()))


def _peers(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return "Not measured."
    sizes = sorted({row["stored"] for row in rows})
    lines: dict[tuple[str, str, str], dict[int, str]] = {}
    notes: dict[str, list[str]] = {}
    for row in rows:
        name = f"{row['peer']} {row['peer_version']}"
        line = lines.setdefault((row["backend"], name, row["operation"]), {})
        line[row["stored"]] = "–" if row["ratio"] is None else f"{row['ratio']:,.1f}"
        note = f"{row['operation']}: {row['note']}"
        if row["note"] and note not in notes.setdefault(name, []):
            notes[name].append(note)
    table = _table(
        ["backend", "peer", "operation", *(f"{size:,}" for size in sizes)],
        ([*key, *(line.get(size, "") for size in sizes)] for key, line in sorted(lines.items())),
    )
    said = "\n".join(f"* **{name}**: {'; '.join(texts)}." for name, texts in notes.items())
    return f"{table}\n\n{said}"


def _versions(raw: dict[str, measured.Results]) -> str:
    rows = [
        [name, kept["version"], kept["date"], str(len(kept["runs"])), kept["python"]]
        for name, kept in raw.items()
    ]
    libraries = next(iter(raw.values()), {}).get("libraries", {})
    named = ", ".join(f"{name} {version}" for name, version in libraries.items())
    return _table(["", "version", "date", "runs", "Python"], rows) + f"\n\nLibraries: {named}."


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
