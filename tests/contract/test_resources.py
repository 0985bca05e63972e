"""Nothing is used up: connections, file handles, threads, memory, patience."""

from __future__ import annotations

import gc
import importlib
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import pytest

from agentx_persistence import Persistence, PersistenceClosedError
from tests.backends.backend import POOLED, Backend
from tests.contract.calls import Call, all_calls

# The long form: AGENTX_TEST_RESOURCE_OPERATIONS=100000.
_OPERATIONS = int(os.environ.get("AGENTX_TEST_RESOURCE_OPERATIONS", "300"))
_MEGABYTE = 2**20
# Caches fill up, and an allocator gives little back; a leak of 100 bytes a call would be more.
_MOST_GROWTH = 8 * _MEGABYTE


class Usage(NamedTuple):
    """What this process holds at a moment."""

    files: int
    threads: int
    objects: int
    memory: int

    @classmethod
    def now(cls) -> Usage:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return cls(
            len(os.listdir("/proc/self/fd")),
            len(os.listdir("/proc/self/task")),
            len(gc.get_objects()),
            pages * os.sysconf("SC_PAGE_SIZE"),
        )


def _sockets() -> int:
    """Return how many connections this process has open."""
    count = 0
    for entry in Path("/proc/self/fd").iterdir():
        try:
            count += os.readlink(entry).startswith("socket:")
        except FileNotFoundError:  # it was closed meanwhile
            continue
    return count


@pytest.fixture
def only_linux_tells() -> None:
    if not Path("/proc/self/fd").exists():
        pytest.skip("only Linux tells what a process holds")


def _endless(persistence: Persistence) -> Iterator[Call]:
    for number in cycle(range(10)):
        yield from all_calls(persistence, str(number))


@pytest.mark.usefixtures("only_linux_tells")
@pytest.mark.timeout(300 if _OPERATIONS < 10_000 else 0)
def test_operations_in_a_loop_leak_nothing(backend: Backend, report: Callable[[str], None]) -> None:
    before = Usage.now()
    with backend.open() as persistence:
        calls = _endless(persistence)
        warm_up = _OPERATIONS // 3
        for _ in range(warm_up):
            next(calls)()
        warm = Usage.now()
        for _ in range(_OPERATIONS - warm_up):
            next(calls)()
        end = Usage.now()
    deadline = time.monotonic() + 5  # pymongo's threads take a moment to end
    while time.monotonic() < deadline:
        left = Usage.now()
        if left.threads <= before.threads and left.files <= before.files:
            break
        time.sleep(0.05)
    report(
        f"resources, {backend.name}: {_OPERATIONS:,} operations; after the first {warm_up:,}: "
        f"{end.files - warm.files:+} file handles, {end.threads - warm.threads:+} threads, "
        f"{end.objects - warm.objects:+,} objects, "
        f"{(end.memory - warm.memory) / _MEGABYTE:+.1f} MB; when closed: "
        f"{left.files - before.files:+} file handles, {left.threads - before.threads:+} threads"
    )
    # A pool, once it is warm, opens no more; a server may have ended an idle connection.
    assert end.files <= warm.files + 1
    assert end.threads <= warm.threads
    assert end.objects - warm.objects < 2_000
    assert end.memory - warm.memory < _MOST_GROWTH
    assert left.threads <= before.threads
    assert left.files <= before.files


@pytest.mark.needs(POOLED)
@pytest.mark.usefixtures("only_linux_tells")
def test_64_threads_share_a_pool_of_5(backend: Backend, report: Callable[[str], None]) -> None:
    pool = importlib.import_module(f"tests.backends.{backend.name}").POOL_OF_FIVE
    before = _sockets()
    failures: list[str] = []
    made: list[int] = []
    most = 0
    began = time.monotonic()
    with replace(backend, options={**backend.options, **pool.options}).open() as persistence:

        def work(number: int) -> None:
            try:
                calls = all_calls(persistence, f"thread {number}")
                for call in calls if _OPERATIONS > 1_000 else [*calls[3:8], calls[-2]]:
                    call()
                    made.append(number)
            except BaseException:
                failures.append(traceback.format_exc())

        threads = [threading.Thread(target=work, args=(number,)) for number in range(64)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            assert time.monotonic() - began < 200, "some hang"
            most = max(most, _sockets() - before)
            time.sleep(0.01)
        assert persistence.sessions.find_all() == []
    assert failures == []
    assert set(made) == set(range(64))
    assert 1 < most <= pool.connections
    report(
        f"pool, {backend.name}: 64 threads, {len(made):,} calls, at most {most} connections, "
        f"{time.monotonic() - began:.1f} s"
    )


@pytest.mark.parametrize("moment", [0.0, 0.02, 0.1])
def test_whatever_is_under_way_ends_when_it_is_closed(backend: Backend, moment: float) -> None:
    persistence = backend.open()
    ends: list[BaseException] = []

    def work(number: int) -> None:
        # Each thread begins elsewhere, so that all kinds of calls meet the end.
        calls = all_calls(persistence, f"thread {number}")
        try:
            for call in calls[: 3 * number]:
                call()
            while True:
                for call in calls:
                    call()
        except BaseException as error:
            ends.append(error)

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(moment)
    began = time.monotonic()
    persistence.close()
    for thread in threads:
        thread.join(max(0, began + 20 - time.monotonic()))
    assert not any(thread.is_alive() for thread in threads), "some hang"
    others = [error for error in ends if not isinstance(error, PersistenceClosedError)]
    assert ["".join(traceback.format_exception(error)) for error in others] == []
    assert len(ends) == 8


def test_a_child_forked_from_busy_threads_can_do_everything(persistence: Persistence) -> None:
    ended = threading.Event()
    failures: list[str] = []

    def work(number: int) -> None:
        try:
            while not ended.is_set():
                for call in all_calls(persistence, f"thread {number}"):
                    call()
        except BaseException:
            failures.append(traceback.format_exc())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        statuses = [_forked(persistence, number) for number in range(4)]
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert statuses == [0] * 4


def _forked(persistence: Persistence, number: int) -> int:
    """Make all calls in a child; return its exit status, that of SIGALRM if it hangs."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.alarm(30)
            for call in all_calls(persistence, f"child {number}"):
                call()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
