"""What `python -m benchmarks peers` measures; the peers themselves take a network to install."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from benchmarks.peers import catalogue
from benchmarks.peers.comparison import rows
from benchmarks.peers.ours import Ours


@pytest.fixture
def run(monkeypatch):
    """Measure a framework in the environment of these tests."""

    def run(framework: str):
        monkeypatch.setitem(catalogue.PEERS, "agentx-persistence", (framework, ("sqlite",)))
        monkeypatch.setitem(catalogue._PACKAGES, framework, "")
        monkeypatch.setattr(catalogue, "installed", lambda *_: Path(sys.prefix))
        return list(catalogue.compare("agentx-persistence", "sqlite", 5, 100, 1))

    return run


def test_each_operation_is_measured_at_each_size(run):
    results = run("ours")

    assert [(found["operation"], found["stored"]) for found in results] == [
        ("append", 0),
        ("append", 100),
        ("turn", 0),
        ("turn", 100),
        ("load", 100),
        ("list", 100),
    ]
    assert all(found["ratio"] > 0 for found in results)


def test_a_peer_that_does_not_run_is_a_result(run):
    (found,) = run("no_such_library")

    assert "theirs" not in found
    assert "no_such_library" in found["note"]


@pytest.fixture
def measured(tmp_path):
    """Measure this package beside a peer, on files of their own."""

    async def collected(stores):
        return [row async for row in rows(stores, 5, 100, 1, processor=False)]

    def measure(theirs: type[Ours]):
        stores = [cls(f"sqlite:///{tmp_path}/{cls.__name__}.db") for cls in (Ours, theirs)]
        with stores[0].persistence, stores[1].persistence:
            found = asyncio.run(collected(stores))
        return [(row["operation"], row["stored"], row.get("note")) for row in found]

    return measure


def test_what_a_call_returns_is_checked(measured):
    class Short(Ours):
        def fill(self, session, size):
            super().fill(session, 9)

        def append(self, session, message):
            """Adds nothing."""

    failed = "does not run: AssertionError: a call returned 9 instead of 50"
    assert ("load", 100, failed) in measured(Short)


def test_an_operation_that_does_not_run_is_a_result_and_the_others_are_measured(measured):
    class Forgetful(Ours):
        def append(self, session, message):
            raise LookupError("no such session")

    failed = "does not run: LookupError: no such session"
    assert measured(Forgetful) == [
        ("append", 0, failed),
        ("turn", 0, failed),
        ("load", 100, None),
        ("list", 100, None),
    ]
