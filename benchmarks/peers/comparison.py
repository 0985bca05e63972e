"""One peer beside this package on one backend, a few calls of each in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.peers.environments import Peer, PeerError, Worker
from benchmarks.peers.worker import LAST, PAGE

SIZES = (0, 100, 1_000, 10_000)
_AT_ONCE = 5  # calls of one side before it is the other's turn: the first one wakes the process
_FEWEST = 5  # calls, however long they take
_SLOW = 0.05  # seconds for a call: such calls take turns one by one
_TOO_SLOW = 1.0  # seconds for a call: larger sizes are left out


@dataclass(frozen=True)
class Result:
    peer: str
    peer_version: str
    backend: str
    operation: str
    stored: int
    ours: float | None
    theirs: float | None
    ratio: float | None
    """Theirs divided by ours: above 1, ours is faster."""
    note: str


@dataclass(frozen=True)
class Limits:
    rounds: int
    largest: int
    seconds: float
    """How long one row may take, beyond a few calls."""


def compare(
    peer: Peer, backend: str, urls: tuple[str, str], folder: Path, limits: Limits
) -> Iterator[Result]:
    """Measure each operation that the peer has; what it cannot do is a result, too."""
    version, operation = "", "open"

    def result(stored: int, note: str, timings: tuple[float, float] | None = None) -> Result:
        ours, theirs = timings or (None, None)
        ratio = timings and timings[1] / timings[0]
        return Result(peer.name, version, backend, operation, stored, ours, theirs, ratio, note)

    try:
        command = peer.command()
        with Worker(peer.our_command(), folder) as ours, Worker(command, folder) as theirs:
            # Where there is no disk to wait for, what others do on this machine need not count.
            processor = backend == "sqlite-tmpfs"
            ours.ask("open", url=urls[0], processor=processor)
            opened = theirs.ask("open", url=urls[1], processor=processor)
            version = opened["version"]
            pair = _Pair(ours, theirs, limits)
            for operation in opened["operations"]:
                for size in _sizes(operation, limits.largest):
                    timings = pair.measure(operation, size)
                    yield result(size, opened["notes"].get(operation, ""), timings)
                    if timings[1] > _TOO_SLOW * 1e6 and size < limits.largest:
                        yield result(limits.largest, "left out: more than a second for a call")
                        break
    except PeerError as error:
        yield result(0, f"does not run: {error}")


def _sizes(operation: str, largest: int) -> list[int]:
    sizes = [size for size in SIZES if size <= largest]
    if operation == "load":
        return [size for size in sizes if size >= LAST]
    return sizes[-1:] if operation == "list" else sizes


class _Pair:
    def __init__(self, ours: Worker, theirs: Worker, limits: Limits) -> None:
        self._sides, self._limits = (ours, theirs), limits
        self._sessions: dict[int, tuple[str, int]] = {}
        self._made = 0

    def measure(self, operation: str, size: int) -> tuple[float, float]:
        if operation == "list":
            for side in self._sides:
                side.ask("fill_list", arguments=[size])
            owner = f"owner {size // PAGE // 2}"
            return self._alternate(operation, lambda: owner)
        return self._alternate(operation, lambda: self._session(size, operation != "load"))

    def _session(self, size: int, growing: bool) -> str:
        """Return a session of this size, to which a tenth has been added at most."""
        name, added = self._sessions.get(size, ("", 0))
        if not name or (growing and added >= max(1, size // 10)):
            self._made += 1
            name, added = f"session {self._made}", 0
            for side in self._sides:
                side.ask("fill", arguments=[name, size])
        self._sessions[size] = name, added + growing
        return name

    def _alternate(self, operation: str, argument: Callable[[], str]) -> tuple[float, float]:
        warm_up = [argument()]
        took = [side.time(operation, warm_up)[0] for side in self._sides]
        at_once = 1 if max(took) > _SLOW else _AT_ONCE
        warm_up = [argument() for _ in range(at_once)]
        for side in self._sides:
            side.time(operation, warm_up)
        taken: tuple[list[float], list[float]] = ([], [])
        until = time.monotonic() + self._limits.seconds
        while len(taken[0]) < self._limits.rounds:
            arguments = [argument() for _ in range(at_once)]
            # Each goes first in half of the turns: the first may warm something for the second.
            for which in (0, 1) if len(taken[0]) // at_once % 2 else (1, 0):
                taken[which].extend(self._sides[which].time(operation, arguments))
            if time.monotonic() > until and len(taken[0]) >= _FEWEST:
                break
        return median(taken[0]) * 1e6, median(taken[1]) * 1e6
