"""The memory backend: dicts, lists and a lock. It is gone with the process."""

from __future__ import annotations

from agentx_persistence._memory.storage import MemoryStorage
from agentx_persistence.persistence import PersistenceDriver
from agentx_persistence.storage import Storage


def memory_driver() -> PersistenceDriver:
    """Return the driver of a store that lives in this process. Each storage starts empty.

    A child process gets a copy, as of everything in memory.
    """
    return _MemoryDriver()


class _MemoryDriver(PersistenceDriver):
    def __repr__(self) -> str:
        return "memory_driver()"

    def create_storage(self) -> Storage:
        return MemoryStorage()
