"""Calls of the synchronous store from asyncio code."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """Runs calls in threads of its own, so that a full default executor cannot block them.

    A call that is cancelled before it begins never runs. One that has begun ends in its thread.
    """

    def __init__(self) -> None:
        self._executors: dict[int, ThreadPoolExecutor] = {}

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        process = os.getpid()  # the threads do not exist in a child after os.fork()
        if process not in self._executors:
            self._executors[process] = ThreadPoolExecutor(thread_name_prefix="agentx-langgraph")
        loop, context = asyncio.get_running_loop(), copy_context()
        return await loop.run_in_executor(
            self._executors[process], lambda: context.run(call, *args, **kwargs)
        )


class Threaded(Protocol):
    _threads: Threads


S = TypeVar("S", bound=Threaded)


def in_thread(
    call: Callable[Concatenate[S, P], T],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Return the method as an async one, which runs it in one of the object's threads."""

    @wraps(call)
    async def run(self: S, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._threads.run(call, self, *args, **kwargs)

    # mypy takes `wraps` for a class: https://github.com/python/mypy/issues/17171
    return run  # type: ignore[return-value]
