"""Several servers that are one store, some of which can be lost."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from tests.servers.process import ServerProcess


class Nodes(ABC):
    """The nodes are numbered from 0 up."""

    processes: Sequence[ServerProcess]

    @property
    @abstractmethod
    def urls(self) -> tuple[str, ...]:
        """What applications open: any of these."""

    @abstractmethod
    def primary(self) -> int:
        """Return the node that is written to, or, where all are, one of them."""

    def lose(self) -> int:
        """Kill the node that is written to, as a crash would; return it when another took over."""
        lost = self.primary()
        self.processes[lost].kill()
        self.take_over(lost)
        return lost

    def take_over(self, lost: int) -> None:  # noqa: B027
        """Put another node in the place of the lost one, if the engine does not do so itself."""

    @abstractmethod
    def regain(self, lost: int) -> None:
        """Start a node that was lost; return when it has all the data."""

    @abstractmethod
    def switch_over(self) -> None:
        """Let another node be written to, as planned, with no node lost."""

    @property
    @abstractmethod
    def majority(self) -> Sequence[ServerProcess]:
        """The processes without which the others accept no write."""

    @contextmanager
    def minority(self) -> Iterator[None]:
        """Leave only a minority that works."""
        suspended = self.majority
        for process in suspended:
            process.suspend()
        try:
            yield
        finally:
            for process in suspended:
                process.resume()

    def stop(self) -> None:
        for process in self.processes:
            process.stop()


def wait_until(is_so: Callable[[], object], what: str, seconds: float = 60) -> None:
    """Wait until this is true; an error counts as not true."""
    deadline = time.monotonic() + seconds
    while True:
        failure: Exception | None = None
        try:
            if is_so():
                return
        except Exception as error:
            failure = error
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not happen") from failure
        time.sleep(0.1)


def in_any_order(url: str, places: Sequence[str]) -> tuple[str, ...]:
    """Return the URL with these for its host "hosts", beginning with each of them in turn."""
    turns = [[*places[number:], *places[:number]] for number in range(len(places))]
    return tuple(url.replace("@hosts", f"@{','.join(turn)}") for turn in turns)
