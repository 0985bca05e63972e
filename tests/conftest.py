from __future__ import annotations

import gc
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agentx_persistence import Persistence
from tests.backends.backend import BOUNDED, DATABASE_SERVER, POOLED, PROXIED, RAW, SHARED, Backend

# Every backend that the contract suite runs on, and what it can do that not all can.
# tests/backends/<name>.py has its fixtures.
BACKENDS = {
    "memory": frozenset(),
    "fs": frozenset({SHARED, RAW}),
    "sqlite": frozenset({SHARED, RAW}),
    "mysql": frozenset({SHARED, RAW, PROXIED, DATABASE_SERVER, POOLED, BOUNDED}),
    "mariadb": frozenset({SHARED, RAW, PROXIED, DATABASE_SERVER, POOLED, BOUNDED}),
    "postgresql": frozenset({SHARED, RAW, PROXIED, DATABASE_SERVER, POOLED, BOUNDED}),
    "pgbouncer": frozenset({SHARED, POOLED}),
    "redis": frozenset({SHARED, RAW, PROXIED, POOLED, BOUNDED}),
    "redis_cluster": frozenset({SHARED, RAW, PROXIED, POOLED, BOUNDED}),
    "valkey": frozenset({SHARED, RAW, PROXIED, POOLED, BOUNDED}),
    "mongodb": frozenset({SHARED, RAW, PROXIED, POOLED, BOUNDED}),
    "custom": frozenset({SHARED}),
    "encrypted_memory": frozenset(),
    "encrypted_sqlite": frozenset(),
}

# Engines of several nodes, which take long to start. scripts/test-engines runs on those that
# AGENTX_TEST_ENGINES names, instead of on the others.
ENGINES = (
    *("galera", "group_replication", "multi_primary", "postgresql_standby", "sentinel"),
    *("valkey_cluster", "mongodb_replica_set", "mongodb_sharded"),
)
# Elsewhere than in scripts/test, not all drivers need be installed.
_named = os.environ.get("AGENTX_TEST_BACKENDS", "").split()
pytest_plugins = [f"tests.backends.{name}" for name in _named or (*BACKENDS, *ENGINES)]
if "AGENTX_TEST_ENGINES" in os.environ:
    BACKENDS = {name: frozenset({SHARED}) for name in os.environ["AGENTX_TEST_ENGINES"].split()}
ASKED = _named or list(BACKENDS)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" in metafunc.fixturenames:
        needed = {need for mark in metafunc.definition.iter_markers("needs") for need in mark.args}
        able = [name for name in ASKED if needed <= BACKENDS[name]]
        metafunc.parametrize("backend", able, indirect=True)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep the tests of one backend on one worker of pytest-xdist, which then starts its server."""
    from xdist.scheduler import LoadScopeScheduling

    class BackendScheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file, _, parameters = nodeid.partition("[")
            named = (name for name in BACKENDS if parameters.startswith((f"{name}]", f"{name}-")))
            scope = next(named, file.partition("::")[0])
            # The server that stands for MongoDB takes longest: each worker starts one.
            is_contract = file.startswith("tests/contract/")
            return f"{scope} contract" if scope == "mongodb" and is_contract else scope

    return BackendScheduling(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Leave what is there before the first test out of all later searches for garbage.

    That is some hundred thousand objects, nearly all there are, and many tests search.
    """
    gc.collect()
    if hasattr(gc, "freeze"):  # not on PyPy
        gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    if terminal := config.pluginmanager.get_plugin("terminalreporter"):
        config.pluginmanager.register(FailuresAtOnce(terminal))


class FailuresAtOnce:
    """Says at once what failed: a run that is ended from outside has no summary."""

    def __init__(self, terminal: pytest.TerminalReporter) -> None:
        self._terminal = terminal

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not hasattr(self._terminal.config, "workerinput"):
            crash = getattr(report.longrepr, "reprcrash", None)
            reason = crash.message if crash else report.longreprtext
            self._terminal.write(f"\n{report.when} of {report.nodeid}: {reason[:1000]}\n", red=True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in the last lines what was measured, and what was not tested."""
    for test in terminalreporter.stats.get("passed", []) if _is_long() else ():
        for name, line in getattr(test, "user_properties", ()):
            if name == "report":
                terminalreporter.write_line(line)
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = {str(report.longrepr[2]) for report in skipped}
    for reason in sorted(reason for reason in reasons if "NOT TESTED" in reason):
        terminalreporter.write_line(
            f"!!! {reason.removeprefix('Skipped: ').removeprefix('reason: ')} !!!",
            red=True,
            bold=True,
        )


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where everything has to run, a skipped test is a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if "AGENTX_TEST_ALL" in os.environ and reporter and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Backend:
    """An empty store of each backend in turn."""
    backend: Backend = request.getfixturevalue(f"{request.param}_backend")
    return backend


@pytest.fixture
def persistence(backend: Backend) -> Iterator[Persistence]:
    """The empty store, open."""
    with backend.open() as persistence:
        yield persistence


def _is_long() -> bool:
    """Tell whether some tests were asked to run in their long form."""
    sizes = ("_STEPS", "_EXAMPLES", "_OPERATIONS", "_TRIES", "_INTERRUPTS")
    return any(name.startswith("AGENTX_TEST_") and name.endswith(sizes) for name in os.environ)


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Takes a line of what a test measured. Those of long forms are shown at the end."""
    return lambda line: request.node.user_properties.append(("report", line))


@pytest.fixture
def collected() -> Iterator[None]:
    """Collect at the end what interrupts left open, or a later test would be blamed for it."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(autouse=True)
def _no_lock_of_logging_is_left() -> Iterator[None]:
    """Release what an interrupt of a test left locked, else threads of later tests wait for ever.

    Before CPython 3.13, `logging` takes its locks outside of `try`.
    """
    yield
    handlers = [handler for reference in logging._handlerList if (handler := reference())]
    for lock in (logging._lock, *(handler.lock for handler in handlers)):
        while lock is not None and lock._is_owned():
            lock.release()
