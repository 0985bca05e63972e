from __future__ import annotations

from collections.abc import Iterator

import pytest

from agentx_persistence.storage import Storage
from tests.backends.backend import Backend


@pytest.fixture
def storage(backend: Backend) -> Iterator[Storage]:
    """An empty storage of each backend in turn."""
    storage = backend.driver().create_storage()
    yield storage
    storage.close()
