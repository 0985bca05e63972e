from __future__ import annotations

from typing import Any

import pytest

from tests.backends.backend import Backend


@pytest.fixture
def server(backend: Backend, request: pytest.FixtureRequest) -> Any:
    """The server of the backend."""
    return request.getfixturevalue(f"{backend.name}_server")
