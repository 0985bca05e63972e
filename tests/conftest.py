from __future__ import annotations

from collections.abc import Iterator

import pytest

from agentx_persistence import Persistence
from tests.backends.backend import DATABASE_SERVER, SHARED, Backend

# Every backend that the contract suite runs on, and what it can do that not all can.
# tests/backends/<name>.py has its fixtures.
BACKENDS = {
    "memory": frozenset(),
    "fs": frozenset({SHARED}),
    "sqlite": frozenset({SHARED}),
    "mysql": frozenset({SHARED, DATABASE_SERVER}),
    "mariadb": frozenset({SHARED, DATABASE_SERVER}),
    "postgresql": frozenset({SHARED, DATABASE_SERVER}),
    "pgbouncer": frozenset({SHARED}),
    "redis": frozenset({SHARED}),
    "redis_cluster": frozenset({SHARED}),
    "valkey": frozenset({SHARED}),
    "mongodb": frozenset({SHARED}),
}

pytest_plugins = [f"tests.backends.{name}" for name in BACKENDS]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" in metafunc.fixturenames:
        needed = {need for mark in metafunc.definition.iter_markers("needs") for need in mark.args}
        able = [name for name, capabilities in BACKENDS.items() if needed <= capabilities]
        metafunc.parametrize("backend", able, indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests of one backend on one worker of pytest-xdist, which then starts its server."""
    if not config.pluginmanager.hasplugin("xdist"):
        return
    for item in items:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        fixtures = getattr(item, "fixturenames", ())
        servers = [name for name in fixtures if name.endswith("_server")]
        if group := parameters.get("backend") or next(iter(servers), None):
            item.add_marker(pytest.mark.xdist_group(str(group).removesuffix("_server")))


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
