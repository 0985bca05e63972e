"""Copies in processes that are killed at random moments."""

from __future__ import annotations

import multiprocessing
import multiprocessing.synchronize
import random

from agentx_persistence.transfer import copy
from tests.backends.backend import Backend


def copy_killed(source: Backend, target: Backend, tries: int) -> int:
    """Start a copy so often, kill each with SIGKILL; return how many were killed at work."""
    some, kills = random.Random(7), 0
    context = multiprocessing.get_context("spawn")
    for _ in range(tries):
        started = context.Event()
        process = context.Process(target=_copy, args=(source, target, started))
        process.start()
        assert started.wait(60)
        process.join(some.uniform(0.002, 0.05))
        kills += process.is_alive()
        process.kill()
        process.join()
    return kills


def _copy(source: Backend, target: Backend, started: multiprocessing.synchronize.Event) -> None:
    with source.open() as a, target.open() as b:
        started.set()
        copy(a, b)
