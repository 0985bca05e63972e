"""What a process does that holds one store, this package's or a peer's: it answers in JSON lines.

It runs in the peer's own environment, so only the standard library may be imported here.

A store has `version`, `notes` (what the peer does less, more or otherwise, by operation),
`fill(session, size)`, which makes a session with so many messages, and methods that return what is
measured: `append(session)` and `load(session)`, the last 50 messages. It may have `turn(session)`,
all that the peer's framework does to the store in a turn, and `fill_list(count)` and `list(owner)`,
where it has something to list by owner. What need not be measured, such as making the message, is
done before the call.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

TEXT = "x" * 400  # makes a message of about 500 bytes of JSON
LAST = 50
PAGE = 20

Call = Callable[[], Any]  # what is measured; an asynchronous peer's returns an awaitable


def serve(open_store: Callable[[str], Any]) -> None:
    """Open the store that it is told, and answer until there is no more to read."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a peer prints, and some do, is no answer
    asyncio.run(_serve(open_store, out))


async def _serve(open_store: Callable[[str], Any], out: Any) -> None:
    store, clock = None, time.perf_counter
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["do"] == "open":
                clock = time.process_time if request["processor"] else time.perf_counter
                store = await _finished(open_store(request["url"]))
                answer = {
                    "version": store.version,
                    "notes": store.notes,
                    "operations": [
                        name for name in ("append", "turn", "load", "list") if hasattr(store, name)
                    ],
                }
            else:
                answer = await _answer(store, clock, **request)
        except Exception as error:
            traceback.print_exc()
            text = " ".join(str(error).split())
            answer = {"error": f"{type(error).__name__}: {text[:300]}"}
        print(json.dumps(answer), file=out, flush=True)


async def _answer(
    store: Any, clock: Callable[[], float], do: str, arguments: list[Any]
) -> dict[str, Any]:
    if do in ("fill", "fill_list"):
        await _finished(getattr(store, do)(*arguments))
        return {}
    wanted = {"load": LAST, "list": PAGE}.get(do)
    taken = []
    for argument in arguments:
        seconds, found = await _measure(getattr(store, do)(argument), clock)
        taken.append(seconds)
        if wanted is not None and len(found) != wanted:
            raise AssertionError(f"{do} returned {len(found)} instead of {wanted}")
    return {"seconds": taken}


async def _measure(call: Call, clock: Callable[[], float]) -> tuple[float, Any]:
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
    return end - start, found


async def _finished(found: Any) -> Any:
    return await found if inspect.isawaitable(found) else found
