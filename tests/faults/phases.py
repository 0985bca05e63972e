"""What fails while the writers work, each with a check of everything at its end."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pymysql

from agentx_persistence.records import _fields
from tests.backends.backend import Backend
from tests.drivers.killing import exit_status, in_child
from tests.faults import checker, raw_memory
from tests.faults.checker import Verdict
from tests.faults.choice import BOXES, NUMBERS, WEIGHTS
from tests.faults.crew import Crew, Threads, share
from tests.faults.labs import Lab, change_of, through
from tests.faults.moves import Moves
from tests.faults.proxy import AFTER, AMID, BEFORE, FaultyProxy
from tests.faults.writers import SHARED

_HOUR = 3_600_000_000_000


class Proof:
    """One store, and all that is done to it. Each phase has writers of its own.

    :param counts: what happened, for the table
    """

    def __init__(self, lab: Lab, folder: Path, seed: int, writers: int = 3) -> None:
        self.lab, self._folder, self._seed, self._writers = lab, folder, seed, writers
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []
        self._journals: list[Path] = []
        with lab.backend.open() as persistence:
            if lab.backend.name != "memory":
                share(persistence)

    @contextmanager
    def crew(self, phase: str, backend: Backend | None = None, **options: Any) -> Iterator[Crew]:
        """Lend writers that work; end them, and check the store."""
        names = tuple(f"{phase}{number}" for number in range(self._writers))
        to_open = backend or self.lab.backend
        crew = Crew(to_open.open, self._folder, names, self._seed, **options)
        self._journals += crew.journals
        crew.start()
        try:
            crew.wait_for_progress(5)
            yield crew
            crew.stop()
        finally:
            crew.kill_all()
        self.check(phase)

    def check(self, phase: str) -> None:
        raw = self.lab.read()
        with self.lab.backend.open() as persistence:
            verdict = checker.check(persistence, raw, self._journals, SHARED)
        # What reading repairs is repaired now.
        again = self.lab.read()
        for problem in again.problems:
            verdict.fault("traces", f"raw, after all was read: {problem}")
        self._take(phase, verdict)

    def empty(self) -> None:
        """Delete all that the writers may ever have saved: nothing must be left of it, raw."""
        verdict = Verdict()
        with self.lab.backend.open() as persistence:
            for name in (journal.name for journal in self._journals):
                for box in BOXES:
                    persistence.containers.delete(f"{name}/box:{box}")
                for number in NUMBERS:
                    persistence.images.delete(f"{name}-i{number}")
                    persistence.sessions.delete(f"{name}-s{number}")
            for session in SHARED:
                persistence.sessions.delete(session)
        raw = self.lab.read()
        left = [
            *raw.problems,
            *raw.repairable,
            *raw.messages,
            *(id for k in raw.ids.values() for id in k),
        ]
        for what in left:
            verdict.fault("traces", f"raw, after all was deleted: {what}")
        self._take("deleted", verdict)

    def _take(self, phase: str, verdict: Verdict) -> None:
        # Each check is of all phases until then: its figures replace those of the last one.
        for name, count in verdict.counts.items():
            self.counts[name] = max(count, self.counts[name])
        known = {problem.partition("] ")[2] for problem in self.problems}
        self.problems += [f"[{phase}] {p}" for p in verdict.problems if p not in known]

    def threads(self, seconds: float) -> None:
        """Let threads write, and nothing fail."""
        with self.lab.backend.open() as persistence:
            share(persistence)
            names = tuple(f"thread{number}" for number in range(self._writers))
            threads = Threads(persistence, self._folder, names, self._seed)
            threads.run(seconds)
            raw = raw_memory.read(persistence)
            self._take("threads", checker.check(persistence, raw, threads.journals, SHARED))

    def kills(self, count: int, rounds: int = 1) -> None:
        for number in range(rounds):
            with self.crew(f"kill{number}-") as crew:
                for _ in range(count // rounds):
                    crew.kill()
                    self.counts["kills"] += 1

    def moves(self, rounds: int, owned: int = 50) -> None:
        """Delete owners, and kill some of the deletions, while others move away what they own."""
        chance = random.Random(f"moves {self._seed}")
        verdict = Verdict()
        # A transaction whose client was killed keeps its locks on MongoDB for a minute.
        kills = 0.03 if self.lab.backend.name == "mongodb" else 0.5
        with self.lab.backend.open() as persistence:
            for number in range(rounds):
                Moves(persistence, self._folder, number, owned, chance).run(verdict, kills)
        raw = self.lab.read()
        for kind, found in raw.ids.items():
            for id in found:
                if id.startswith("moves "):
                    verdict.fault("traces", f"raw: {kind} {id}, after all was deleted")
        self._take("moves", verdict)

    def restarts(self, count: int) -> None:
        """Stop and kill the server, or each master of a cluster in turn; start it again."""
        chance = random.Random(f"restarts {self._seed}")
        with self.crew("restart", lossy=True) as crew:
            for number in range(count):
                server = self.lab.servers[number % len(self.lab.servers)]
                crew.wait_for_progress(10)
                time.sleep(chance.uniform(0, 0.3))
                if number % 2:
                    server.stop()
                    self.counts["server stopped"] += 1
                else:
                    server.kill()
                    self.counts["server killed"] += 1
                # A cluster puts a replica in the place of a master that is away for long.
                time.sleep(chance.choice((0, 0, 1)) if len(self.lab.servers) == 1 else 0)
                server.start()
            crew.wait_for_progress(10)

    def few_connections(self, seconds: float) -> None:
        """Restart the server with a low limit, and take all connections but one."""
        (server,) = self.lab.servers
        with self.crew("limit", lossy=True) as crew:
            server.stop()
            server.start(*self.lab.limit)
            taken = []
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                try:
                    taken.append(self.lab.connect())
                except Exception:
                    self.counts["connections refused"] += 1
                    time.sleep(0.3)
            for connection in taken:
                connection.close()
            crew.wait_for_progress(10)
            server.stop()
            server.start()
            self.counts["server restarted with a limit"] += 1
            crew.wait_for_progress(10)

    def cuts(self, count: int, chance: float = 0.02, seconds: float = 900) -> None:
        """Cut connections, until each kind of cut was made so often."""
        with self._proxied() as (proxy, backend), self.crew("cut", backend, lossy=True) as crew:
            deadline = time.monotonic() + seconds
            proxy.cut(chance, chance, chance / 4)
            while min(proxy.cuts[BEFORE], proxy.cuts[AFTER]) < count:
                assert time.monotonic() < deadline, list(proxy.cuts)
                time.sleep(0.05)
            proxy.cut()
            crew.wait_for_progress(10)
            for name, how in (("before", BEFORE), ("after", AFTER), ("amid", AMID)):
                self.counts[f"cut {name}"] += proxy.cuts[how]

    def slow(self, delay: float, seconds: float) -> None:
        """Keep each answer back for so long."""
        with self._proxied() as (proxy, backend), self.crew("slow", backend, lossy=True) as crew:
            proxy.delay(delay)
            time.sleep(seconds)
            proxy.delay(0)
            crew.wait_for_progress(10)
            self.counts["slow seconds"] += round(seconds)

    @contextmanager
    def _proxied(self) -> Iterator[tuple[FaultyProxy, Backend]]:
        addresses = self.lab.addresses
        proxy = FaultyProxy(addresses, change_of(self.lab.backend.name), self._seed)
        try:
            yield proxy, through(self.lab.backend, addresses, proxy.ports)
        finally:
            proxy.close()

    def clock(self) -> None:
        """Let the clock of each writer jump back an hour in the midst of its work."""
        began = time.monotonic()

        def jumping() -> None:
            def time_ns() -> int:
                return time.time_ns() - (_HOUR if time.monotonic() - began > 1 else 0)

            _fields.time = SimpleNamespace(time_ns=time_ns)  # type: ignore[assignment]

        with self.crew("clock", prepare=jumping) as crew:
            time.sleep(1)
            crew.wait_for_progress(30)
            self.counts["clock jumps"] += len(crew.journals)

    def full_disk(self, folder: Path, times: int) -> None:
        """Fill the disk that the store is on, and empty it again.

        :param folder: on the small file system that the store is on
        """
        ballast = folder / "ballast"
        with self.crew("full") as crew:
            for _ in range(times):
                crew.wait_for_progress(5)
                with ballast.open("wb", buffering=0) as file:
                    try:
                        while True:
                            file.write(bytes(4096))
                    except OSError:
                        self.counts["disk full"] += 1
                time.sleep(1)
                ballast.unlink()
            crew.wait_for_progress(10)

    def deadlocks(self, count: int, seconds: float = 120) -> None:
        """Let others lock what deletions need, in another order, until so many had to give way."""
        weights = {**WEIGHTS, "delete containers": 12, "save session": 30, "delete images": 8}
        before = self.lab.deadlocks()
        with self.crew("deadlock", weights=weights) as crew:
            names = [journal.name for journal in crew.journals]
            others = [in_child(partial(self._lock, names, number)) for number in range(2)]
            deadline = time.monotonic() + seconds
            while (met := self.lab.deadlocks() - before) < count and time.monotonic() < deadline:
                time.sleep(0.5)
            for other in others:
                os.kill(other, signal.SIGKILL)
                exit_status(other)
            assert met >= count, f"only {met} deadlocks"
            crew.wait_for_progress(10)
        self.counts["deadlocks"] += met

    def _lock(self, writers: Sequence[str], number: int) -> None:
        """Lock two rows of a writer's, in any order, again and again."""
        chance = random.Random(f"locks {self._seed} {number}")
        with closing(self.lab.connect()) as connection:
            while True:
                writer = chance.choice(writers)
                rows = [("session", f"{writer}-s{n}") for n in range(4)]
                rows += [("image", f"{writer}-i{n}") for n in range(4)]
                cursor = connection.cursor()
                cursor.execute("BEGIN")
                try:
                    for kind, id in chance.sample(rows, 3):
                        lock = f"SELECT 1 FROM {kind}s WHERE {kind}_id = %s FOR UPDATE"  # noqa: S608
                        cursor.execute(lock, (id,))
                        cursor.fetchall()
                        time.sleep(0.005)
                except (psycopg.OperationalError, pymysql.OperationalError):
                    time.sleep(0.005)  # it was this one that had to give way
                cursor.execute("ROLLBACK")
