"""What was measured, kept in benchmarks/results for the tables and plots of docs/performance.md."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from dataclasses import asdict
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measure import Comparison

FOLDER = Path(__file__).parent / "results"
_LIBRARIES = ("pydantic", "SQLAlchemy", "psycopg", "PyMySQL", "redis", "pymongo")

Results = dict[str, Any]


def read(name: str) -> Any:
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def write(name: str, results: object) -> None:
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n")


def stored_runs(store: str, runs: list[list[Comparison]]) -> Results:
    return {
        "version": store,
        "date": date.today().isoformat(),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in _LIBRARIES},
        "runs": [[asdict(comparison) for comparison in run] for run in runs],
    }


def medians(results: Results) -> Iterator[tuple[str, float, float, float]]:
    """Yield each operation with the medians, over the runs, of ours, of raw, and of their ratio."""
    for rows in zip(*results["runs"], strict=True):
        ours = [row["ours"]["median"] for row in rows]
        raw = [row["raw"]["median"] for row in rows]
        ratios = [a / b for a, b in zip(ours, raw, strict=True)]
        yield rows[0]["operation"], median(ours), median(raw), median(ratios)
