"""One peer beside this package on one backend, call by call."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles

from benchmarks.peers.environments import Peer, PeerError, Worker, our_command

SIZES = (0, 100, 1_000, 10_000)
_TOO_SLOW = 1.0  # seconds for one call: larger sizes are left out
_FEWEST = 5  # rounds, however long they take
_PAGE = 20


@dataclass(frozen=True)
class Timing:
    """Microseconds per call: the median, and the quartiles around it."""

    low: float
    median: float
    high: float


@dataclass(frozen=True)
class Result:
    peer: str
    peer_version: str
    backend: str
    operation: str
    stored: int
    ours: Timing | None
    theirs: Timing | None
    ratio: float | None
    """Theirs divided by ours: above 1, ours is faster."""
    note: str


@dataclass(frozen=True)
class Limits:
    rounds: int
    largest: int
    seconds: float
    """How long one row may take, beyond a few rounds."""


def compare(
    peer: Peer, backend: str, urls: tuple[str, str], folder: Path, limits: Limits
) -> Iterator[Result]:
    """Measure each operation that the peer has; what fails is a result, too."""
    version = ""
    try:
        command = peer.command()
        with (
            Worker(our_command(), folder, "ours") as ours,
            Worker(command, folder, "theirs") as theirs,
        ):
            ours.ask("open", url=urls[0], folder=str(folder))
            opened = theirs.ask("open", url=urls[1], folder=str(folder))
            version = opened["version"]
            pair = Pair(ours, theirs, limits)
            for operation in opened["operations"]:
                note = opened["notes"].get(operation, "")
                for stored, measure in _rows(pair, operation, limits.largest):
                    timings = measure()
                    ratio = timings[1].median / timings[0].median
                    yield Result(
                        peer.name, version, backend, operation, stored, *timings, ratio, note
                    )
                    if timings[1].median > _TOO_SLOW * 1e6:
                        break
    except PeerError as error:
        note = f"does not run: {error}"
        yield Result(peer.name, version, backend, "-", 0, None, None, None, note)


class Pair:
    def __init__(self, ours: Worker, theirs: Worker, limits: Limits) -> None:
        self._sides, self._limits = (ours, theirs), limits
        self._sessions = 0

    def on_sessions(self, operation: str, size: int) -> tuple[Timing, Timing]:
        """Measure on sessions of this size, which what is measured lets grow by a tenth at most."""
        name, used = "", 0

        def prepare() -> dict[str, str]:
            nonlocal name, used
            if operation == "load":
                name = name or self._new_session(size)
            elif not name or used >= max(1, size // 10):
                name, used = self._new_session(size), 0
            used += 1
            return {"session": name}

        return self._alternate(operation, prepare)

    def on_list(self, count: int) -> tuple[Timing, Timing]:
        for side in self._sides:
            side.ask("fill_list", count=count)
        return self._alternate("list", lambda: {"owner": f"owner {count // _PAGE // 2}"})

    def _new_session(self, size: int) -> str:
        self._sessions += 1
        name = f"session {self._sessions}"
        for side in self._sides:
            side.ask("fill", session=name, size=size)
        return name

    def _alternate(
        self, operation: str, prepare: Callable[[], dict[str, str]]
    ) -> tuple[Timing, Timing]:
        taken: tuple[list[float], list[float]] = ([], [])
        warm_up = 3
        until = time.monotonic() + self._limits.seconds
        for number in range(self._limits.rounds + warm_up):
            arguments = prepare()
            # Each goes first in half of the rounds: the first may warm something for the second.
            for which in (0, 1) if number % 2 else (1, 0):
                seconds = self._sides[which].time(operation, **arguments)
                if number >= warm_up:
                    taken[which].append(seconds * 1e6)
            if time.monotonic() > until and len(taken[0]) >= _FEWEST:
                break
        return _timing(taken[0]), _timing(taken[1])


def _rows(
    pair: Pair, operation: str, largest: int
) -> Iterator[tuple[int, Callable[[], tuple[Timing, Timing]]]]:
    sizes = [size for size in SIZES if size <= largest]
    if operation == "list":
        yield sizes[-1], lambda: pair.on_list(sizes[-1])
        return
    for size in sizes[-1:] if operation == "load" else sizes:
        yield size, lambda size=size: pair.on_sessions(operation, size)  # type: ignore[misc]


def _timing(taken: list[float]) -> Timing:
    return Timing(*quantiles(taken, n=4))
