"""A process in a peer's environment: measures the peer beside this package, prints JSON lines."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
import traceback
from collections.abc import AsyncIterator, Sequence
from functools import partial
from importlib import import_module
from typing import Any

from benchmarks.measure import Call, finished, medians
from benchmarks.peers.ours import LAST, PAGE

_SIZES = (0, 100, 1_000, 10_000)
# What is measured, where the peer has it; how many things it returns, if any; at which sizes.
_OPERATIONS = (
    ("append", None, slice(None)),
    ("turn", None, slice(None)),
    ("load", LAST, slice(1, None)),
    ("list", PAGE, slice(-1, None)),
)
_TOO_SLOW = 1e6  # microseconds for a call: larger sizes are left out


async def rows(
    stores: Sequence[Any], rounds: int, largest: int, seconds: float, processor: bool
) -> AsyncIterator[dict[str, Any]]:
    """Measure each operation that the peer has; what it cannot do is a row, too.

    :param seconds: how long one row may take, beyond a few calls
    :param processor: measure processor time, of all threads
    """
    sizes = [size for size in _SIZES if size <= largest]
    clock, sessions = time.process_time if processor else time.perf_counter, _Sessions(stores)
    for operation, length, wanted in _OPERATIONS:
        for size in sizes[wanted] if hasattr(stores[1], operation) else ():
            row = {"operation": operation, "stored": size, "peer_version": stores[1].version}
            limits = {"seconds": seconds, "clock": clock, "length": length}
            try:
                if operation == "list":
                    for store in stores:
                        await finished(store.fill_list(size))
                calls = partial(sessions.calls, operation, size)
                ours, theirs = await medians(calls, rounds, **limits)
            except Exception as error:
                traceback.print_exc()
                text = " ".join(str(error).split())[:300]
                yield {**row, "note": f"does not run: {type(error).__name__}: {text}"}
                break
            yield {**row, "ours": ours, "theirs": theirs, "ratio": theirs / ours}
            if theirs > _TOO_SLOW and size < sizes[-1]:
                note = "left out: more than a second for a call"
                yield {**row, "stored": sizes[-1], "note": note}
                break


class _Sessions:
    """What is stored on both sides, by size."""

    def __init__(self, stores: Sequence[Any]) -> None:
        self._stores = stores
        self._filled: dict[int, tuple[str, int]] = {}
        self._made = 0

    async def calls(self, operation: str, size: int) -> list[Call]:
        """Return the next call of this operation on each side."""
        stores = self._stores
        if operation == "list":
            return [partial(store.list, f"owner {size // PAGE // 2}") for store in stores]
        name = await self._session(size, growing=operation != "load")
        if operation == "load":
            return [partial(store.load, name) for store in stores]
        return [partial(getattr(store, operation), name, store.message(name)) for store in stores]

    async def _session(self, size: int, growing: bool) -> str:
        """Return a session of this size, to which a tenth has been added at most."""
        name, added = self._filled.get(size, ("", 0))
        if not name or (growing and added >= max(1, size // 10)):
            self._made += 1
            name, added = f"session {self._made}", 0
            for store in self._stores:
                await finished(store.fill(name, size))
        self._filled[size] = name, added + growing
        return name


async def _compare(framework: str, name: str, urls: Sequence[str], **limits: Any) -> None:
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a peer prints, and some do, is no row
    opened = zip(import_module(f"benchmarks.peers.{framework}").PAIRS[name], urls, strict=True)
    async for row in rows([store(url) for store, url in opened], **limits):
        print(json.dumps(row), file=out, flush=True)
    os._exit(0)  # without waiting for the threads of connections that a peer left open


if __name__ == "__main__":
    asyncio.run(_compare(**json.loads(sys.argv[1])))
