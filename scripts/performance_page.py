"""Writes the figures of docs/performance.md from docs/measurements, which benchmarks/ measured."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import pyplot
from pandas import DataFrame, isna

matplotlib.use("svg")
# The same SVG for the same figures.
matplotlib.rcParams["svg.hashsalt"] = "agentx-persistence"
matplotlib.rcParams["svg.fonttype"] = "none"

_SIDES = ("ours", "raw")
_PANELS = ("SQLite, no disk", "PostgreSQL", "MariaDB", "Redis")
_WIDEST = 2.5
_DOCS = Path(__file__).parents[1] / "docs"
_BACKENDS = {
    "sqlite-full": "SQLite",
    "sqlite-normal": "SQLite, NORMAL",
    "postgresql": "PostgreSQL",
    "mariadb": "MariaDB",
    "mysql": "MySQL",
    "redis": "Redis",
    "fs": "filesystem",
    "memory": "memory",
}
# Where other packages are measured.
_PLACES = {**_BACKENDS, "sqlite": "SQLite", "sqlite-tmpfs": "SQLite, no disk"}
_LENGTH = 1_000  # of a history, where other packages are compared at one length
# What an application does most, by the operation that is measured for it.
_FIRST = {
    "append at 10,000 stored": "add a message",
    "append a batch of 100": "add 100 messages",
    "last 50 of 10,000": "read the last 50 messages",
    "load 1,000": "read 1,000 messages",
    "page of 20 by activity among 1,000 sessions": "list 20 sessions",
    "get an image": "get a record",
    "save an image": "save a record",
}


def write() -> None:
    """Write plots and tables anew; what was not measured is not in them."""
    results = {
        path.stem: json.loads(path.read_text()) for path in (_DOCS / "measurements").glob("*.json")
    }
    measured = {name: results[name] for name in _BACKENDS if name in results}
    raw = _medians(measured)
    first = raw.assign(operation=raw["operation"].map(_FIRST)).dropna()
    peers = DataFrame([{"note": "", **row} for row in results["peers"]["runs"][0]])
    peers["backend"] = peers["backend"].map(_PLACES)
    grid = _grid(first).reindex(_FIRST.values()).dropna(how="all")
    _draw_ratios(_DOCS / "ratios.svg", grid)
    _draw_histories(_DOCS / "histories.svg", raw, peers)
    turns = peers[(peers["operation"] == "turn") & (peers["stored"] == _LENGTH)]
    inside = turns["peer"].str.contains(" beside ")
    commands = ([row["operation"], row["commands"]] for row in results["mongodb"]["runs"][0])
    tables = {
        "first": _table(grid),
        "ratios": _table(_grid(raw)),
        "times": _table(_grid(raw, values="times")),
        "startup": _startup(results["startup"]),
        "commands": _rows(["MongoDB", "commands"], commands),
        "turns": _table(_grid(turns[~inside], "peer"), 1),
        "integrations": _table(_grid(turns[inside], "peer"), 1),
        "peers": _peers(peers),
        "versions": _versions(measured),
    }
    path = _DOCS / "performance.md"
    place = re.compile(r"(?<=<!-- measured: )(\w+)( -->\n).*?(?=<!-- end -->)", re.S)
    page = place.sub(lambda at: f"{at[1]}{at[2]}\n{tables[at[1]]}\n\n", path.read_text())
    path.write_text(page)


def _medians(measured: dict[str, Any]) -> DataFrame:
    """Return the medians over the runs of ours, of raw, and of their ratio."""
    rows = [
        {"backend": _BACKENDS.get(name, name), **row}
        for name, kept in measured.items()
        for run in kept["runs"]
        for row in run
    ]
    sides = DataFrame(rows).groupby(["backend", "operation"], sort=False)
    found = sides.median(numeric_only=True).reset_index()
    ours, raw = (found[side].map(lambda time: f"{time:,.{int(time < 100)}f}") for side in _SIDES)
    return found.assign(times=ours + " / " + raw)


def _grid(found: DataFrame, rows: str = "operation", values: str = "ratio") -> DataFrame:
    grid = found.pivot(index=rows, columns="backend", values=values)
    return grid.reindex(index=found[rows].unique(), columns=found["backend"].unique())


def _table(grid: DataFrame, digits: int = 2) -> str:
    if grid.empty:
        return "Not measured."
    number = f"{{:,.{digits}f}}".format
    shown = grid.map(lambda cell: number(cell) if isinstance(cell, float) else cell, "ignore")
    cells = shown.fillna("").reset_index()
    index = [""] if len(grid.index.names) == 1 else grid.index.names
    return _rows([*index, *grid.columns], cells.itertuples(index=False))


def _startup(kept: dict[str, Any]) -> str:
    rows = (
        [row.operation, f"{row.megabytes:.1f} MB" if isna(row.ratio) else f"{row.ratio:.2f}"]
        for row in _medians({"": kept}).itertuples()
    )
    return _rows(["a new process", "importing pydantic = 1"], rows)


def _peers(peers: DataFrame) -> str:
    package = peers["peer"] + " " + peers["peer_version"].fillna("")
    shown = peers["ratio"].map(lambda ratio: "–" if isna(ratio) else f"{ratio:,.1f}")
    named, keys = peers.assign(package=package, shown=shown), ["backend", "package", "operation"]
    grid = named.pivot(index=keys, columns="stored", values="shown")
    failed = peers[peers["note"].str.startswith("does not run")]
    failed = failed.drop_duplicates(["peer", "backend", "note"])
    notes = (f"* {row.peer} on {row.backend} {row.note}" for row in failed.itertuples())
    return "\n".join([_table(grid), "", *notes])


def _versions(measured: dict[str, dict[str, Any]]) -> str:
    rows = (
        [_BACKENDS[name], kept["runs"][0][0]["version"], kept["date"], len(kept["runs"])]
        for name, kept in measured.items()
    )
    last = [*measured.values()][-1]
    named = ", ".join(f"{name} {version}" for name, version in last["libraries"].items())
    table = _rows(["", "version", "date", "runs"], rows)
    return f"{table}\n\nPython {last['python']}; {named}."


def _rows(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _draw_histories(path: Path, raw: DataFrame, peers: DataFrame) -> None:
    """Draw the cost of one message against the length of the history; ours is 1."""
    figure, axes = pyplot.subplots(1, len(_PANELS), figsize=(13.6, 4.6), sharey=True)
    stored = raw["operation"].str.extract(r"^append at ([\d,]+) stored$")[0].str.replace(",", "")
    raw = raw.assign(stored=stored.astype(float).clip(lower=1)).dropna(subset="stored")
    peers = peers[(peers["operation"] == "append") & ~peers["peer"].str.contains(" beside ")]
    peers = peers.assign(stored=peers["stored"].clip(lower=1)).dropna(subset="ratio")
    colours = {peer: f"C{at}" for at, peer in enumerate(sorted(peers["peer"].unique()))}
    shown: dict[str, Any] = {}
    for axis, title in zip(axes, _PANELS, strict=True):
        ours = raw[raw["backend"] == title.removesuffix(", no disk")]
        (shown["agentx-persistence"],) = axis.plot(ours["stored"], [1] * len(ours), "k-", lw=4)
        (shown["raw code"],) = axis.plot(ours["stored"], 1 / ours["ratio"], "k:")
        for peer, rows in peers[peers["backend"] == title].groupby("peer"):
            line = rows.sort_values("stored")
            (shown[peer],) = axis.plot(line["stored"], line["ratio"], ".-", color=colours[peer])
        axis.set(xscale="log", yscale="log", title=title, xlabel="messages stored already")
        axis.set_xticks([1, 100, 1_000, 10_000, 100_000], ["0", "100", "1k", "10k", "100k"])
        axis.set_yticks([1, 10, 100, 1_000], ["1×", "10×", "100×", "1000×"])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("time to add one message")
    figure.suptitle("Adding one message: agentx-persistence is 1×, higher is slower")
    figure.legend(shown.values(), shown, loc="outside lower center", ncol=4)
    _save(figure, path, bottom=0.2)


def _draw_ratios(path: Path, grid: DataFrame) -> None:
    """Draw, for each backend, how many times as long as raw code each operation takes."""
    size = {"ncols": len(grid.columns), "figsize": (1.7 * len(grid.columns) + 3, 3.4)}
    figure, axes = pyplot.subplots(**size, sharey=True, squeeze=False)
    for axis, (name, ratios) in zip(axes[0], grid.items(), strict=True):
        bars = axis.barh(grid.index, ratios.fillna(0).clip(upper=_WIDEST), color="C0")
        axis.bar_label(bars, [f"{each:.1f}" if each > 0 else "" for each in ratios], padding=2)
        axis.axvline(1, color="black", linewidth=1)
        axis.set(title=name, xlim=(0, _WIDEST + 0.7), xticks=[1], xticklabels=["raw"])
        axis.spines[["top", "right", "bottom"]].set_visible(False)
    axes[0][0].invert_yaxis()
    figure.suptitle("Time of each call, beside hand-written code on the same client library (= 1)")
    _save(figure, path)


def _save(figure: Any, path: Path, bottom: float = 0) -> None:
    figure.tight_layout(rect=(0, bottom, 1, 1))
    figure.savefig(path, format="svg", metadata={"Date": None})
    pyplot.close(figure)


if __name__ == "__main__":
    write()
