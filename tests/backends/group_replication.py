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
def group_replication_nodes() -> Iterator[ReplicationGroup]:
    with server_folder("group_replication") as folder:
        group = start_group(folder, several_primaries=False)
        prepare(group)
        yield group
        group.stop()


@pytest.fixture
def group_replication_backend(group_replication_nodes: ReplicationGroup) -> Iterator[Backend]:
    yield from emptied("group_replication", group_replication_nodes)
