from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Comparison:
    """The median microseconds of a call, on both sides."""

    operation: str
    ours: float
    raw: float


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
    return Comparison(operation, *map(median, taken))
