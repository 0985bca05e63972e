from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import quantiles


@dataclass(frozen=True)
class Timing:
    """Microseconds per call: the median, and the quartiles around it."""

    low: float
    median: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:,.0f} ({self.low:,.0f}-{self.high:,.0f})"


@dataclass(frozen=True)
class Comparison:
    operation: str
    ours: Timing
    raw: Timing

    @property
    def ratio(self) -> float:
        return self.ours.median / self.raw.median


def compare(
    operation: str, ours: Callable[[], object], raw: Callable[[], object], rounds: int
) -> Comparison:
    """Call both in turn, so that whatever slows the machine down slows both."""
    for _ in range(max(3, min(rounds // 20, 50))):
        ours()
        raw()
    taken: tuple[list[float], list[float]] = ([], [])
    gc.collect()
    gc.disable()
    try:
        for number in range(max(rounds, 5)):
            # Each goes first in half of the rounds: the first may warm something for the second.
            for which in (0, 1) if number % 2 else (1, 0):
                call = (ours, raw)[which]
                start = time.perf_counter()
                call()
                taken[which].append((time.perf_counter() - start) * 1e6)
    finally:
        gc.enable()
    return Comparison(operation, timing(taken[0]), timing(taken[1]))


def timing(taken: list[float]) -> Timing:
    low, median, high = quantiles(taken, n=4)
    return Timing(low, median, high)
