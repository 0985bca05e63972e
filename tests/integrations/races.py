"""Calls at the same moment, in processes of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from threading import Barrier
from typing import Any, TypeAlias

from agentx_persistence import Persistence
from tests.backends.backend import Backend
from tests.processes import prepared

Work: TypeAlias = Callable[[Persistence, int, int], Any]
"""Takes the open store, the number of the try, and the worker's number."""

_SECONDS = 600  # eight new processes, on a machine with other work


def at_once(
    backend: Backend, persistence: Persistence, works: Sequence[Work], tries: int
) -> list[list[Any]]:
    """Do all the works at the same moment, so many times; return what each work returned.

    Each worker is a process. Where processes do not share the store, it is a thread, which has the
    open one.
    """
    modules = {(work.func if isinstance(work, partial) else work).__module__ for work in works}
    context = prepared(*modules)
    barrier: Any
    workers: Executor
    opened = persistence if backend.name == "memory" else None
    if opened is not None:
        barrier = Barrier(len(works))
        workers = ThreadPoolExecutor(len(works), initializer=_begin, initargs=(barrier,))
    else:
        barrier = context.Barrier(len(works))
        workers = ProcessPoolExecutor(len(works), context, initializer=_begin, initargs=(barrier,))
    with workers:
        started = [
            workers.submit(_work, backend, opened, work, index, tries)
            for index, work in enumerate(works)
        ]
        return [each.result(_SECONDS + tries) for each in started]


def _begin(barrier: Any) -> None:
    global _barrier
    _barrier = barrier


def _work(
    backend: Backend, opened: Persistence | None, work: Work, index: int, tries: int
) -> list[Any]:
    persistence = opened or backend.open()
    try:
        answers = []
        for number in range(tries):
            _barrier.wait(_SECONDS)
            answers.append(work(persistence, number, index))
        return answers
    except BaseException:
        _barrier.abort()
        raise
    finally:
        if opened is None:
            persistence.close()
