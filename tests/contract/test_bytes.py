"""What a stream of messages holds at a time is bounded by bytes, not by count."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.backends.backend import SHARED, Backend
from tests.contract.records import message, saved_session
from tests.contract.test_concurrency import in_processes

# The long form: AGENTX_TEST_LARGE_MESSAGE_STEPS=300, under a limit for the whole process.
_COUNT = int(os.environ.get("AGENTX_TEST_LARGE_MESSAGE_STEPS", "24"))
_SIZE = 1_500_000
_MEGABYTE = 2**20
_LIMIT = 200 * _MEGABYTE
# About 8 MB beyond one message, and what an allocator does not give back. All of the messages take
# twice as much at least.
_GROWTH = 24 * _MEGABYTE


def _peak() -> int:
    """Return the most memory that this process has had since the peak was forgotten."""
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def _stream(backend: Backend) -> list[tuple[int, int]]:
    """Return, for each direction, by how much memory grew at most, and the peak of all."""
    peaks = []
    with backend.open() as persistence:
        for reverse in (False, True):
            # Whatever is allocated once is allocated before it counts.
            next(persistence.sessions.iter_messages("session", reverse=reverse))
            Path("/proc/self/clear_refs").write_text("5")
            before = _peak()
            seen = 0
            for at, each in enumerate(
                persistence.sessions.iter_messages("session", reverse=reverse)
            ):
                number = _COUNT - 1 - at if reverse else at
                assert each.content == f"{number} ".ljust(_SIZE, "x")  # type: ignore[union-attr]
                seen += 1
            assert seen == _COUNT
            peak = _peak()
            peaks.append((peak - before, peak))
    return peaks


@pytest.mark.needs(SHARED)
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells the peak")
@pytest.mark.skipif(sys.implementation.name == "pypy", reason="PyPy frees memory when it likes")
def test_a_stream_of_large_messages_holds_a_few_of_them(
    backend: Backend, report: Callable[[str], None]
) -> None:
    with backend.open() as persistence:
        saved_session(persistence)
        for number in range(_COUNT):
            text = f"{number} ".ljust(_SIZE, "x")
            persistence.sessions.add_message("session", message(text))
    (peaks,) = in_processes(_stream, (backend,))
    report(
        f"bytes, {backend.name}: {_COUNT} messages of {_SIZE / 1e6} MB streamed, memory grew by at "
        f"most {max(grown for grown, _ in peaks) / _MEGABYTE:.0f} MB, "
        f"to {max(peak for _, peak in peaks) / _MEGABYTE:.0f} MB"
    )
    for grown, peak in peaks:
        assert grown <= _GROWTH, peaks
        assert peak <= _LIMIT, peaks
