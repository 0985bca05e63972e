from __future__ import annotations

import pytest

from tests.backends.backend import Backend


@pytest.fixture
def memory_backend() -> Backend:
    return Backend("memory", "agentx_persistence.memory")
