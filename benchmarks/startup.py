"""What a new process pays: imports, opening a file, and the memory that a long history takes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from statistics import median
from typing import Any

from agentx_persistence import SessionRecord, create_persistence
from benchmarks.operations import new_message

_STREAMED = 100_000
_PYDANTIC = "from pydantic import BaseModel"
# What everybody pays who has a model of his own.
_MODEL = f"{_PYDANTIC}\nclass Model(BaseModel):\n    number: int\n    text: str"
_CORE = f"{_PYDANTIC}\nfrom sqlalchemy import create_engine, select"
_MEMORY = "from agentx_persistence import create_persistence\ncreate_persistence()"
_OPEN = """from agentx_persistence import create_persistence
from agentx_persistence.sqlite import sqlite_driver
persistence = create_persistence(sqlite_driver({path!r}))"""
_STREAM = """
def most_kilobytes():
    return int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0])
persistence.sessions.get_messages("long", last=1)
open("/proc/self/clear_refs", "w").write("5")  # the most so far is what it takes now
before = most_kilobytes()
for message in persistence.sessions.iter_messages("long"): pass
print((most_kilobytes() - before) / 1024)"""


def run(rounds: int) -> Iterator[dict[str, Any]]:
    """Compare with importing pydantic alone, which every user of the package does."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/current.db"
        create_persistence(f"sqlite:///{path}").close()
        for operation, code in (
            ("import pydantic and define a model of two fields", _MODEL),
            ("import, with the memory driver", _MEMORY),
            ("import pydantic and SQLAlchemy's Core", _CORE),
            ("import and open a current SQLite file", _OPEN.format(path=path)),
        ):
            _microseconds(code)
            pairs = [(_microseconds(code), _microseconds(_PYDANTIC)) for _ in range(rounds)]
            ours, raw = map(median, zip(*pairs, strict=True))
            yield {"operation": operation, "ours": ours, "raw": raw, "ratio": ours / raw}
        path = f"{folder}/long.db"
        with create_persistence(f"sqlite:///{path}", synchronous="NORMAL") as persistence:
            persistence.sessions.save(SessionRecord(session_id="long"))
            for _ in range(0, _STREAMED, 1000):
                persistence.sessions.add_messages("long", [new_message() for _ in range(1000)])
        operation = f"memory while streaming {_STREAMED:,} messages, more than before"
        yield {"operation": operation, "megabytes": _printed(_OPEN.format(path=path) + _STREAM)}


def _microseconds(code: str) -> float:
    timed = f"from time import perf_counter\nstart = perf_counter()\n{code}\n"
    return _printed(timed + "print((perf_counter() - start) * 1e6)")


def _printed(code: str) -> float:
    # Compiled modules are kept, as they are where a package is installed.
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    return float(subprocess.check_output([sys.executable, "-c", code], env=environment))
