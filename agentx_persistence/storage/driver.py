"""The driver, which opens a storage."""

from __future__ import annotations

from abc import ABC, abstractmethod

from agentx_persistence.storage.storage import Storage


class PersistenceDriver(ABC):
    """Knows how to open one backend. Making a driver connects to nothing."""

    @abstractmethod
    def create_storage(self) -> Storage:
        """Connect, check, and return the open storage.

        :raises BackendUnavailableError: if the backend cannot be reached, within seconds
        :raises ConfigurationError: if repeating cannot help, such as a wrong password
        :raises SchemaError: if its tables are missing, outdated or too new
        """
