"""The memory backend under a storage that encrypts all texts: no storage may look into one."""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agentx_persistence import Persistence
from tests.backends.backend import Backend
from tests.port.encrypting import encrypt


def encrypted(backend: Backend) -> Backend:
    return Backend(f"encrypted_{backend.name}", "tests.port.encrypting", (backend,))


@pytest.fixture
def encrypted_memory_backend(memory_backend: Backend) -> Backend:
    return encrypted(memory_backend)


def corrupt(
    backend: Backend,
    persistence: Persistence,
    kind: str,
    id: str,
    position: int | None,
    raw: bytes,
) -> bool:
    wrapped, module, below = _wrapped(backend, persistence)
    damaged: bool = module.corrupt(wrapped, below, kind, id, position, encrypt(raw).encode())
    return damaged


def stored(
    backend: Backend, persistence: Persistence, kind: str, id: str, position: int | None
) -> object:
    wrapped, module, below = _wrapped(backend, persistence)
    return module.stored(wrapped, below, kind, id, position)


def _wrapped(backend: Backend, persistence: Persistence) -> tuple[Backend, Any, Any]:
    """Return the backend that is wrapped, its module, and a persistence on its storage."""
    (wrapped,) = backend.arguments
    module = importlib.import_module(f"tests.backends.{wrapped.name}")
    storage = cast(Any, persistence)._storage.storage
    return wrapped, module, SimpleNamespace(_storage=storage)
