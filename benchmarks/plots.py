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
_APPEND = re.compile(r"append at ([\d,]+) stored")
_WIDEST = 2.5


def draw_histories(
    path: Path, raw: dict[str, Rows], peers: list[dict[str, Any]], names: dict[str, str]
) -> None:
    """Draw the cost of one message against the length of the history; ours is 1."""
    panels = {name: ours for name, ours in _PANELS.items() if ours in raw}
    figure, axes = pyplot.subplots(
        1, len(panels), figsize=(3.4 * len(panels), 4.6), sharey=True, squeeze=False
    )
    colours = {peer: f"C{at}" for at, peer in enumerate(sorted({row["peer"] for row in peers}))}
    shown: dict[str, Any] = {}
    for axis, (backend, name) in zip(axes[0], panels.items(), strict=True):
        appends = ((_APPEND.fullmatch(each), found) for each, found in raw[name].items())
        ours = {int(at[1].replace(",", "")): found[2] for at, found in appends if at}
        at = [max(stored, 1) for stored in sorted(ours)]
        (shown["agentx-persistence"],) = axis.plot(at, [1] * len(at), "k-", linewidth=4)
        (shown["raw code"],) = axis.plot(at, [1 / ours[stored] for stored in sorted(ours)], "k:")
        for peer, colour in colours.items():
            points = sorted(
                (max(row["stored"], 1), row["ratio"])
                for row in peers
                if (row["peer"], row["backend"], row["operation"]) == (peer, backend, "append")
                and row["ratio"] is not None
            )
            if points:
                (shown[peer],) = axis.plot(*zip(*points, strict=True), ".-", color=colour)
        axis.set(xscale="log", yscale="log", title=names[name], xlabel="messages stored already")
        axis.set_xticks([1, 100, 1_000, 10_000, 100_000], ["0", "100", "1k", "10k", "100k"])
        axis.set_yticks([1, 10, 100, 1_000], ["1×", "10×", "100×", "1000×"])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("time to add one message")
    figure.suptitle("Adding one message: agentx-persistence is 1×, higher is slower")
    figure.legend(shown.values(), shown, loc="outside lower center", ncol=4)
    _save(figure, path, bottom=0.2)


def draw_ratios(path: Path, raw: dict[str, Rows], names: dict[str, str]) -> None:
    """Draw, for each backend, how many times as long as raw code each operation takes."""
    figure, axes = pyplot.subplots(
        1, len(raw), figsize=(1.7 * len(raw) + 3, 3.4), sharey=True, squeeze=False
    )
    operations = list(dict.fromkeys(each for found in raw.values() for each in found))
    for axis, (name, found) in zip(axes[0], raw.items(), strict=True):
        ratios = [found[each][2] if each in found else 0 for each in operations]
        bars = axis.barh(operations, [min(ratio, _WIDEST) for ratio in ratios], color="C0")
        axis.bar_label(bars, [f"{ratio:.1f}" if ratio else "" for ratio in ratios], padding=2)
        axis.axvline(1, color="black", linewidth=1)
        axis.set(title=names[name], xlim=(0, _WIDEST + 0.7), xticks=[1], xticklabels=["raw"])
        axis.spines[["top", "right", "bottom"]].set_visible(False)
    axes[0][0].invert_yaxis()
    figure.suptitle("Time of each call, beside hand-written code on the same client library (= 1)")
    _save(figure, path)


def _save(figure: Any, path: Path, bottom: float = 0) -> None:
    figure.tight_layout(rect=(0, bottom, 1, 1))
    figure.savefig(path, format="svg", metadata={"Date": None})
    pyplot.close(figure)
