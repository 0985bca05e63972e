"""What a new process pays: imports, opening a file, and the memory that a long history takes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from agentx_persistence import SessionRecord, UserMessage, create_persistence
from agentx_persistence.sqlite import sqlite_driver
from benchmarks.measure import Comparison

_PYDANTIC = "from pydantic import BaseModel"
# What everybody pays who has a model of his own.
_MODEL = f"{_PYDANTIC}\nclass Model(BaseModel):\n    number: int\n    text: str"
_CORE = f"{_PYDANTIC}\nfrom sqlalchemy import create_engine, select"
_MEMORY = "from agentx_persistence import create_persistence\ncreate_persistence()"
_OPEN = """from agentx_persistence import create_persistence
from agentx_persistence.sqlite import sqlite_driver
persistence = create_persistence(sqlite_driver({path!r}))"""
_STREAM = """
import re
def resident():
    return int(re.search(r"VmRSS:\\s*(\\d+)", open("/proc/self/status").read())[1]) / 1024
persistence.sessions.get_messages("long", last=1)
before = most = resident()
for number, message in enumerate(persistence.sessions.iter_messages("long")):
    if number % 1000 == 0: most = max(most, resident())
print(most - before)"""


def run(rounds: int) -> Iterator[Comparison]:
    """Compare with importing pydantic alone, which every user of the package does."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "current.db")
        create_persistence(sqlite_driver(path)).close()
        for operation, code in (
            ("import pydantic and define a model of two fields", _MODEL),
            ("import, with the memory driver", _MEMORY),
            ("import pydantic and SQLAlchemy's Core", _CORE),
            ("import and open a current SQLite file", _OPEN.format(path=path)),
        ):
            ours, pydantic = [], []
            _microseconds(code)
            for _ in range(rounds):
                ours.append(_microseconds(code))
                pydantic.append(_microseconds(_PYDANTIC))
            yield Comparison(operation, median(ours), median(pydantic))


def _microseconds(code: str) -> float:
    timed = f"import time\nstart = time.perf_counter()\n{code}\n"
    return float(_output(timed + "print((time.perf_counter() - start) * 1e6)"))


def streaming_megabytes(messages: int) -> float:
    """Return how much more memory a process takes while it streams a history of this length."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "long.db")
        with create_persistence(sqlite_driver(path, synchronous="NORMAL")) as persistence:
            session = SessionRecord(session_id="long", image_id="i", container_id="c")
            persistence.sessions.save(session)
            for _ in range(0, messages, 1000):
                batch = [UserMessage(content="x" * 400) for _ in range(1000)]
                persistence.sessions.add_messages("long", batch)
        return float(_output(_OPEN.format(path=path) + _STREAM))


def _output(code: str) -> str:
    # Compiled modules are kept, as they are where a package is installed.
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    ).stdout
