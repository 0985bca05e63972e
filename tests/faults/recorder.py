"""What a writer attempted, and what came of it: a file with a line before and after each call.

A process that is killed keeps what it has written, so that the file tells in what it was killed.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.faults.model import Operation

# What can become of an operation.
ACKNOWLEDGED, REFUSED, ABANDONED, WRONG = "acknowledged", "refused", "abandoned", "wrong"


class Recorded(NamedTuple):
    """:param outcome: one of the above; ``None`` while nobody knows
    :param failures: what the calls failed with that did not end it"""

    operation: Operation
    outcome: str | None
    result: Any
    failures: list[Any]


class Journal:
    def __init__(self, path: Path) -> None:
        self.path, self.writer = path, path.stem
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        # A kill can tear a line where a page of the file ends. The next line would continue it.
        os.ftruncate(self._descriptor, path.read_bytes().rfind(b"\n") + 1)

    def close(self) -> None:
        os.close(self._descriptor)

    def attempt(self, operation: Operation) -> None:
        self._write({"try": operation})

    def end(self, outcome: str, result: Any = None, seconds: float = 0) -> None:
        at = round(time.monotonic(), 3)
        self._write({"end": outcome, "result": result, "seconds": round(seconds, 3), "at": at})

    def failure(self, error: Exception, seconds: float) -> None:
        self._write({"failed": type(error).__name__, "why": str(error)[:300], "seconds": seconds})

    def finding(self, found: str) -> None:
        """:param found: what of an operation with an unknown end is stored"""
        self._write({"found": found})

    def note(self, what: str) -> None:
        self._write({"note": what, "at": time.time()})

    def _write(self, line: dict[str, Any]) -> None:
        data = json.dumps(line).encode() + b"\n"
        assert os.write(self._descriptor, data) == len(data)


class Record:
    """A journal, read.

    :ivar acknowledged: when, in the order of time, which all processes share
    """

    def __init__(self, path: Path) -> None:
        self.writer = path.stem
        self.operations: list[Recorded] = []
        self.findings: dict[str, int] = {}
        self.notes: list[str] = []
        self.slowest = 0.0
        self.acknowledged: list[float] = []
        for line in lines(path):
            self._read(line)

    def _read(self, line: dict[str, Any]) -> None:
        if "try" in line:
            again = self.operations and self.operations[-1].operation["n"] == line["try"]["n"]
            if not again:
                self.operations.append(Recorded(line["try"], None, None, []))
        elif "end" in line:
            last = self.operations.pop()
            self.slowest = max(self.slowest, line["seconds"])
            if line["end"] == ACKNOWLEDGED and "at" in line:
                self.acknowledged.append(line["at"])
            self.operations.append(last._replace(outcome=line["end"], result=line["result"]))
        elif "failed" in line:
            self.operations[-1].failures.append(line)
            self.slowest = max(self.slowest, line["seconds"])
        elif "found" in line:
            self.findings[line["found"]] = self.findings.get(line["found"], 0) + 1
        else:
            self.notes.append(line["note"])


def lines(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_bytes().splitlines(keepends=True):
        if line.endswith(b"\n"):  # a torn one was never acted upon
            yield json.loads(line)
