"""LangGraph's conformance kit, and the tests in the source distributions of its packages."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.conformance.report import CapabilityReport

from agentx_persistence import Persistence
from agentx_persistence.integrations.langgraph import PersistentSaver

# What is left out, by package and file, with the reason.
_VECTORS = "vector or scores or embed or non_ascii"  # there is no vector search
_LEFT_OUT: dict[str, dict[str, list[str]]] = {
    "langgraph_checkpoint": {"test_store.py": [_VECTORS]},
    "langgraph_checkpoint_sqlite": {
        "test_store.py": [
            _VECTORS,
            "nonnull_migrations or uses_indexable_condition",  # of SqliteStore's own tables
            "sql_injection_vulnerability",  # our filters are no SQL: such a key is one like others
            "hyphens_and_digits",  # SqliteStore's own paths with points; LangGraph's have none
            "trailing_newline",  # no element of a namespace ends with white space: it is refused
            "escape_glob or namespace_match_pattern",  # private functions
        ],
        "test_async_store.py": [
            _VECTORS,
            "no_running_loop",  # ours can be called from the loop: it has none of its own
        ],
        "test_sqlite.py": [
            # Private functions; ours has async calls.
            "search_where or predicate or informative_async",
            "sql_injection or hyphens_and_digits",  # the same, and SqliteSaver's own cursor
            # Asks for the order of SqliteSaver among namespaces, by checkpoint id alone;
            # ours goes namespace by namespace, as InMemorySaver does.
            "test_search",
        ],
        "test_get_delta_channel_history.py": [],
        "test_delta_channel_migration.py": [],
        "test_delta_parent_walk.py": [
            "looks_up_the_parent_by_primary_key",  # asks SQLite how it runs a statement
            "chain_cycle",  # BaseCheckpointSaver's own walk, which ours inherits, does not end
        ],
    },
}
_GRAPHS = ["test_interruption.py", "test_subgraph_persistence.py"]
_MORE_GRAPHS = [
    "test_time_travel.py",
    "test_interrupt_state.py",
    "test_messages_state.py",
    "test_pregel.py",
    "test_time_travel_async.py",
    "test_subgraph_persistence_async.py",
    "test_delta_channel_fork.py",
]


async def test_the_conformance_kit_passes(persistence: Persistence) -> None:
    @checkpointer_test(name="PersistentSaver")
    async def saver() -> AsyncIterator[PersistentSaver]:
        yield PersistentSaver(persistence)

    report: CapabilityReport = await validate(saver)
    results = report.results
    assert {name: result.failures for name, result in results.items() if not result.passed} == {}
    assert sum(result.tests_passed for result in results.values()) == 81


@pytest.mark.timeout(0)  # its tests have time limits
@pytest.mark.parametrize("package", _LEFT_OUT)
def test_the_tests_of_its_savers_and_stores_pass(package: str, sources: Path) -> None:
    # All files in one process: to import everything takes as long as the tests of a file.
    files = _LEFT_OUT[package]
    left_out = [f"({name} and ({' or '.join(names)}))" for name, names in files.items() if names]
    _run(sources, f"{package}-", list(files), f"not ({' or '.join(left_out)})")


@pytest.mark.timeout(0)
def test_the_tests_of_its_graphs_pass(sources: Path, tries: int) -> None:
    """LangGraph's tests run each graph on `SqliteSaver`, which is ours here."""
    files = _GRAPHS + (_MORE_GRAPHS if tries >= 200 else [])
    _run(sources, "langgraph-", files, "sqlite and not aes")


def _run(sources: Path, package: str, files: list[str], chosen: str) -> None:
    (folder,) = sources.glob(f"{package}[0-9]*/")
    here = Path(__file__).parent
    paths = os.pathsep.join([str(here), str(here.parents[2])])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "substitute"]
    command += ["-o", "asyncio_mode=auto", "--timeout=200", *(["-k", chosen] if chosen else [])]
    variables = {"PYTHONPATH": paths, "NO_DOCKER": "true", "PYTEST_ADDOPTS": ""}
    ended = subprocess.run(
        [*command, *(f"tests/{file}" for file in files)],
        cwd=folder,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=1800,
    )
    assert ended.returncode == 0, ended.stdout[-20_000:]
    assert " passed" in ended.stdout
