"""Copies in processes that are killed at random moments."""

from __future__ import annotations

import random
import signal
from multiprocessing.synchronize import Event

from agentx_persistence.transfer import copy
from tests.backends.backend import Backend
from tests.processes import prepared

# In seconds. No copy of the tests is done within the shortest limit.
_EARLIEST, _SHORTEST_LIMIT = 0.002, 0.05


def copy_killed(source: Backend, target: Backend, kills: int) -> int:
    """Kill so many copies at work with SIGKILL; return how many others came to their end.

    The moments are random, and later as long as no copy comes to its end before: some kills meet
    each part of the work.
    """
    some, killed, ended, limit = random.Random(7), 0, 0, _SHORTEST_LIMIT
    context = prepared("agentx_persistence.transfer")
    while killed < kills:
        assert ended <= 10 * kills
        started = context.Event()
        process = context.Process(target=_copy, args=(source, target, started))
        process.start()
        assert started.wait(60)
        process.join(some.uniform(_EARLIEST, limit))
        process.kill()
        process.join()
        if process.exitcode == -signal.SIGKILL:
            killed, limit = killed + 1, 1.2 * limit
        else:
            assert process.exitcode == 0
            ended, limit = ended + 1, max(limit / 2, _SHORTEST_LIMIT)
    return ended


def _copy(source: Backend, target: Backend, started: Event) -> None:
    with source.open() as a, target.open() as b:
        started.set()
        copy(a, b)
