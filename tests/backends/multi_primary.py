from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.backends.backend import Backend
from tests.backends.galera import emptied, prepare
from tests.backends.mysql import corrupt, stored
from tests.servers.group_replication import ReplicationGroup, start_group
from tests.servers.process import server_folder

__all__ = ["corrupt", "stored"]


@pytest.fixture(scope="session")
def multi_primary_nodes() -> Iterator[ReplicationGroup]:
    with server_folder("multi_primary") as folder:
        group = start_group(folder, several_primaries=True)
        prepare(group)
        yield group
        group.stop()


@pytest.fixture
def multi_primary_backend(multi_primary_nodes: ReplicationGroup) -> Iterator[Backend]:
    yield from emptied("multi_primary", multi_primary_nodes)
