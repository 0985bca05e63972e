"""SQLite under a storage that encrypts all texts: no storage may look into one."""

from __future__ import annotations

import pytest

from tests.backends.backend import Backend
from tests.backends.encrypted_memory import corrupt, encrypted, stored

__all__ = ["corrupt", "stored"]


@pytest.fixture
def encrypted_sqlite_backend(sqlite_backend: Backend) -> Backend:
    return encrypted(sqlite_backend)
