"""Calls of the synchronous repositories from asyncio code."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


def _start() -> None:
    # In asyncio's own executor, calls would queue with those of the application. The threads wait
    # for databases most of the time, so more of them than processors make sense.
    global _executor
    _executor = ThreadPoolExecutor(32, "agentx-persistence")


_start()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start)  # a child has none of its parent's threads


async def in_thread(function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Call the function in a thread, and return what it returns.

    A cancelled call that has not begun is never made. One that has begun is awaited, within the
    backend's bounds on waits, before the cancellation goes on: so nothing is written after it, and
    whoever repeats the call knows that the first one is over.
    """
    call = _executor.submit(copy_context().run, function, *args, **kwargs)
    outcome = asyncio.wrap_future(call)
    try:
        return await asyncio.shield(outcome)
    except asyncio.CancelledError:
        call.cancel()
        while not outcome.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([outcome])
        if not outcome.cancelled():
            outcome.exception()  # seen: asyncio need not report it
        raise
