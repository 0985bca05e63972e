"""The plots of docs/performance.md."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import pyplot

matplotlib.use("svg")
# The same SVG for the same figures.
matplotlib.rcParams["svg.hashsalt"] = "agentx-persistence"
matplotlib.rcParams["svg.fonttype"] = "none"

# Where peers are measured, and what of ours beside raw code fits it.
_PANELS = {
    "sqlite-tmpfs": "sqlite-full",
    "postgresql": "postgresql",
    "mariadb": "mariadb",
    "redis": "redis",
}
# By operation: the times of ours and of raw code, and their ratio.
Rows = dict[str, tuple[float, float, float]]
_NOT_IN_BARS = "open a current store"
_APPEND = re.compile(r"append at ([\d,]+) stored")


def draw_histories(path: Path, raw: dict[str, Rows], peers: list[dict[str, Any]]) -> None:
    """Draw the cost of one message against the length of the history; ours is 1."""
    panels = {name: ours for name, ours in _PANELS.items() if ours in raw}
    figure, axes = pyplot.subplots(
        1, len(panels), figsize=(4.2 * len(panels), 5.2), sharey=True, squeeze=False
    )
    for axis, (backend, name) in zip(axes[0], panels.items(), strict=True):
        appends = ((_APPEND.fullmatch(each), found) for each, found in raw[name].items())
        ours = {int(at[1].replace(",", "")): found[2] for at, found in appends if at}
        lines = {"raw code": {stored: 1 / ratio for stored, ratio in ours.items()}}
        for peer in sorted({row["peer"] for row in peers}):
            lines[peer] = {
                row["stored"]: row["ratio"]
                for row in peers
                if (row["peer"], row["backend"], row["operation"]) == (peer, backend, "append")
                and row["ratio"] is not None
            }
        at = [max(stored, 1) for stored in ours]
        axis.plot(at, [1] * len(at), "ko-", linewidth=2.5, label="agentx-persistence")
        for label, points in lines.items():
            if points:
                style = "k--" if label == "raw code" else ".-"
                xs = sorted(points)
                axis.plot([max(x, 1) for x in xs], [points[x] for x in xs], style, label=label)
        axis.set(xscale="log", yscale="log", title=backend)
        axis.set_xticks([1, 100, 1_000, 10_000, 100_000], ["0", "100", "1k", "10k", "100k"])
        axis.minorticks_off()
        axis.set_xlabel("messages stored")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncol=2)
    axes[0][0].set_ylabel("cost of one more message, agentx-persistence = 1")
    _save(figure, path)


def draw_ratios(path: Path, raw: dict[str, Rows], titles: dict[str, str]) -> None:
    """Draw, for each backend, how many times as long as raw code each operation takes."""
    figure, axes = pyplot.subplots(
        1, len(raw), figsize=(2.6 * len(raw) + 2.4, 5.2), sharey=True, squeeze=False
    )
    for axis, (name, found) in zip(axes[0], raw.items(), strict=True):
        ratios = {each: row[2] for each, row in found.items() if each != _NOT_IN_BARS}
        axis.barh(list(ratios), list(ratios.values()), color="C0")
        axis.axvline(1, color="black", linewidth=1)
        axis.set_title(titles[name], fontsize=9)
        axis.set_xlim(0, 2.5)
        axis.grid(axis="x", alpha=0.3)
    axes[0][0].invert_yaxis()
    figure.supxlabel("time, raw code = 1")
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, format="svg", metadata={"Date": None})
    pyplot.close(figure)
