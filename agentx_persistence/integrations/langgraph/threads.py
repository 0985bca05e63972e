"""Calls of the synchronous store from asyncio code."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeVar

T = TypeVar("T")


class Threads:
    """Runs calls in threads of its own, so that a full default executor cannot block them.

    A call that is cancelled before it has begun never runs. One that has begun ends in its thread.
    It runs once in either case.
    """

    def __init__(self) -> None:
        self._executors: dict[int, ThreadPoolExecutor] = {}

    async def run(self, call: Callable[..., T], *arguments: Any) -> T:
        process = os.getpid()  # the threads do not exist in a child after os.fork()
        if process not in self._executors:
            self._executors[process] = ThreadPoolExecutor(thread_name_prefix="agentx-langgraph")
        loop, context = asyncio.get_running_loop(), copy_context()
        return await loop.run_in_executor(
            self._executors[process], lambda: context.run(call, *arguments)
        )
