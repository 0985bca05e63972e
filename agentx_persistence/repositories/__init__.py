"""The repositories. Their docstrings state what the package does on every backend.

For all methods of all repositories:

* They can be called from any thread. What they return is the caller's own copy.
* An id, name, cursor or number that no record can have raises `InvalidRecordError` before anything
  is read or written. So does a record that cannot be given back exactly.
* A stored record that cannot be read back raises `CorruptRecordError`. It is never skipped.
* A backend that fails raises `BackendError`. One that cannot be reached raises
  `BackendUnavailableError`, after bounded retries. What repeating cannot cure raises
  `ConfigurationError`.
* A call that the package repeats because an answer was lost is applied once.
* After `Persistence.close` they raise `PersistenceClosedError`.
* Times are Unix milliseconds.
"""

from __future__ import annotations

from agentx_persistence.repositories._repository import Page
from agentx_persistence.repositories.containers import ContainerRepository
from agentx_persistence.repositories.histories import SessionSummary
from agentx_persistence.repositories.images import ImageRepository
from agentx_persistence.repositories.items import ItemRepository
from agentx_persistence.repositories.sessions import SessionRepository

__all__ = [
    "ContainerRepository",
    "ImageRepository",
    "ItemRepository",
    "Page",
    "SessionRepository",
    "SessionSummary",
]
