"""Calls two sides in turn, so that whatever slows the machine down slows both."""

from __future__ import annotations

import asyncio
import gc
import inspect
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

Call = Callable[[], Any]  # an asynchronous library's returns an awaitable
_FEWEST = 5


@dataclass(frozen=True)
class Operation:
    name: str
    ours: Callable[..., object]
    raw: Callable[..., object]
    rounds: int
    make: Callable[[], object] | None = None  # makes what the next calls take; not measured

    def calls(self) -> tuple[Call, Call]:
        if self.make is None:
            return self.ours, self.raw
        made = self.make()
        return partial(self.ours, made), partial(self.raw, made)


def compare(operation: Operation) -> dict[str, Any]:
    """Return the median microseconds of a call, on both sides."""
    ours, raw = asyncio.run(medians(operation.calls, operation.rounds))
    return {"operation": operation.name, "ours": ours, "raw": raw, "ratio": ours / raw}


async def medians(
    prepare: Callable[[], Any],
    rounds: int,
    *,
    seconds: float = math.inf,
    clock: Callable[[], float] = time.perf_counter,
    length: int | None = None,
) -> list[float]:
    """Return the median microseconds of a call of each side; `prepare` returns the next calls.

    :param seconds: when this time has passed, a few calls are enough
    :param length: how many things each call has to return
    """
    taken: tuple[list[float], list[float]] = ([], [])
    warm_up, until = max(3, min(rounds // 20, 50)), time.monotonic() + seconds
    for number in range(warm_up + max(rounds, _FEWEST)):
        if number >= warm_up + _FEWEST and time.monotonic() > until:
            break
        calls: Sequence[Call] = await finished(prepare())
        # Each goes first in half of the rounds: the first may warm something for the second.
        for which in (0, 1) if number % 2 else (1, 0):
            taken[which].append(await _measured(calls[which], clock, length))
    return [median(side[warm_up:]) * 1e6 for side in taken]


async def _measured(call: Call, clock: Callable[[], float], length: int | None) -> float:
    gc.disable()
    try:
        start = clock()
        found = call()
        end = clock()
        if inspect.isawaitable(found):
            found = await found
            end = clock()
    finally:
        gc.enable()
    if length is not None and len(found) != length:
        raise AssertionError(f"a call returned {len(found)} instead of {length}")
    return end - start


async def finished(found: Any) -> Any:
    return await found if inspect.isawaitable(found) else found
