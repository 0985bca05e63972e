"""The memory backend: dicts, lists and a lock. Its data is lost when the process ends."""

from __future__ import annotations

from typing import Any

from agentx_persistence.errors import ConfigurationError
from agentx_persistence.storage import PersistenceDriver, Storage


def memory_driver() -> PersistenceDriver:
    """Return the driver of a store in the memory of this process. Each storage starts empty.

    After `os.fork()` the child has its own copy of the data.
    """
    return _MemoryDriver()


def driver_from_url(url: str, **options: Any) -> PersistenceDriver:
    """Return the driver of ``memory:``."""
    if url not in ("memory:", "memory://"):
        raise ConfigurationError("memory", "write memory: and nothing after it")
    return memory_driver(**options)


class _MemoryDriver(PersistenceDriver):
    def __repr__(self) -> str:
        return "memory_driver()"

    def create_storage(self) -> Storage:
        # Imported here, as every application imports this module, and most use another backend.
        from agentx_persistence._memory.storage import MemoryStorage

        return MemoryStorage()
