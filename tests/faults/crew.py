"""Writers in processes of their own, which are forked, killed, and started again."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from agentx_persistence import Persistence, SessionRecord
from tests.drivers.killing import exit_status, in_child
from tests.faults.choice import WEIGHTS
from tests.faults.writers import SHARED, Writer

_PATIENCE = 200.0
# A writer that is not killed lives as long as its phase: each loss of a node takes half a minute.
_LIFETIME = 1800.0


def share(persistence: Persistence, shared: tuple[str, ...] = SHARED) -> None:
    """Make the sessions that all writers append to."""
    for id in shared:
        persistence.sessions.save(
            SessionRecord(session_id=id, image_id="shared", container_id="shared")
        )


class Crew:
    """:param open: opens the store, in the writer's process
    :param prepare: is called in each writer's process first
    """

    def __init__(
        self,
        open: Callable[[], Persistence],
        folder: Path,
        names: tuple[str, ...],
        seed: int,
        *,
        weights: Mapping[str, int] = WEIGHTS,
        shared: tuple[str, ...] = SHARED,
        lossy: bool = False,
        prepare: Callable[[], None] = lambda: None,
    ) -> None:
        self._open, self._seed, self._weights, self._prepare = open, seed, weights, prepare
        self._shared, self._lossy = shared, lossy
        self.journals = [folder / name for name in names]
        self._running: dict[Path, tuple[int, int]] = {}  # process, and where it says it is ready
        self._chance = random.Random(f"crew {seed}")

    def start(self) -> None:
        for journal in self.journals:
            self._start(journal)

    def _start(self, journal: Path) -> None:
        ready, say_ready = os.pipe()
        self._running[journal] = in_child(lambda: self._work(journal, say_ready), _LIFETIME), ready
        os.close(say_ready)

    def _work(self, journal: Path, say_ready: int) -> None:
        ended, parent = threading.Event(), os.getppid()
        signal.signal(signal.SIGTERM, lambda *_: ended.set())
        self._prepare()
        with self._open() as persistence:
            writer = Writer(
                persistence, journal, self._seed, self._shared, self._weights, self._lossy
            )
            writer.recover()
            os.write(say_ready, b".")
            while not ended.is_set() and os.getppid() == parent:
                writer.step()
            writer.finish()

    def kill(self) -> None:
        """Kill one of the writers at a random moment, and start it again."""
        journal = self._chance.choice(self.journals)
        process, ready = self._running.pop(journal)
        if self._chance.random() < 0.9:
            os.read(ready, 1)
            time.sleep(self._chance.uniform(0.02, 0.2))
        else:  # while it opens the store, or does again what was interrupted
            time.sleep(self._chance.uniform(0, 0.08))
        os.close(ready)
        os.kill(process, signal.SIGKILL)
        status = exit_status(process)
        if status != -signal.SIGKILL:
            raise AssertionError(f"{journal.name} had ended by itself, with status {status}")
        self._start(journal)

    def written(self) -> int:
        """Return how much the journals have grown to."""
        return sum(journal.stat().st_size for journal in self.journals if journal.exists())

    def wait_for_progress(self, lines: int = 50, seconds: float = 180) -> None:
        """Wait until each writer has written about so many lines more."""
        goals = {j: (j.stat().st_size if j.exists() else 0) + 100 * lines for j in self.journals}
        deadline = time.monotonic() + seconds
        while any(not j.exists() or j.stat().st_size < goal for j, goal in goals.items()):
            if time.monotonic() > deadline:
                raise AssertionError(f"the writers do not go on: {goals}")
            for journal, (process, _) in [*self._running.items()]:
                if os.waitpid(process, os.WNOHANG) != (0, 0):
                    del self._running[journal]
                    raise AssertionError(f"{journal.name} ended by itself")
            time.sleep(0.02)

    def stop(self) -> None:
        """Let each writer end in order."""
        for process, ready in self._running.values():
            os.read(ready, 1)  # before, it would not take the signal for what it means here
            os.kill(process, signal.SIGTERM)
        late = threading.Timer(_PATIENCE, self._kill_late)
        late.start()
        statuses = {}
        for journal, (process, ready) in self._running.items():
            statuses[journal.name] = exit_status(process)
            os.close(ready)
        late.cancel()
        self._running.clear()
        if any(statuses.values()):
            raise AssertionError(f"writers did not end in order: {statuses}")

    def _kill_late(self) -> None:
        for process, _ in self._running.values():
            os.kill(process, signal.SIGKILL)

    def kill_all(self) -> None:
        """End what has not ended."""
        for process, ready in self._running.values():
            os.kill(process, signal.SIGKILL)
            exit_status(process)
            os.close(ready)
        self._running.clear()


class Threads:
    """Writers in threads, for a store that only this process has."""

    def __init__(
        self, persistence: Persistence, folder: Path, names: tuple[str, ...], seed: int
    ) -> None:
        self.journals = [folder / name for name in names]
        self._ended = threading.Event()
        self._errors: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._work, args=(Writer(persistence, journal, seed),))
            for journal in self.journals
        ]

    def _work(self, writer: Writer) -> None:
        try:
            while not self._ended.is_set():
                writer.step()
            writer.finish()
        except BaseException as error:
            self._errors.append(error)

    def run(self, seconds: float) -> None:
        for thread in self._threads:
            thread.start()
        time.sleep(seconds)
        self._ended.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()
        if self._errors:
            raise self._errors[0]
