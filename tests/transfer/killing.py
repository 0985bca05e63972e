"""Copies in processes that are killed at random moments."""

from __future__ import annotations

import multiprocessing
import multiprocessing.synchronize
import random

from agentx_persistence import create_persistence
from agentx_persistence.transfer import copy


def copy_killed(source: str, target: str, tries: int) -> int:
    """Start a copy so often, kill each with SIGKILL; return how many were killed at work."""
    some, kills = random.Random(7), 0
    context = multiprocessing.get_context("spawn")
    for _ in range(tries):
        started = context.Event()
        process = context.Process(target=_copy, args=(source, target, started))
        process.start()
        assert started.wait(60)
        process.join(some.uniform(0.005, 0.1))
        kills += process.is_alive()
        process.kill()
        process.join()
    return kills


def _copy(source: str, target: str, started: multiprocessing.synchronize.Event) -> None:
    with create_persistence(source) as a, create_persistence(target) as b:
        started.set()
        copy(a, b)
