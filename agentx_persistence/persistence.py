"""The way in: a driver makes a storage, `create_persistence` hands out its repositories."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from agentx_persistence.repositories import (
    ContainerRepository,
    ImageRepository,
    SessionRepository,
)


class Storage(ABC):
    """An open backend: its three repositories, and what it takes to end it."""

    containers: ContainerRepository
    images: ImageRepository
    sessions: SessionRepository

    @abstractmethod
    def ping(self) -> None:
        """Ask the backend for a sign of life.

        :raises BackendUnavailableError: if it gives none
        :raises PersistenceClosedError: after `close`
        """

    @abstractmethod
    def close(self) -> None:
        """Release everything that this storage opened; a second time does nothing.

        A call that is under way in another thread finishes or raises `PersistenceClosedError`.
        """


class PersistenceDriver(ABC):
    """Knows how to open one backend. Making a driver connects to nothing."""

    @abstractmethod
    def create_storage(self) -> Storage:
        """Connect, check, and return the open storage.

        :raises BackendUnavailableError: if the backend cannot be reached, within seconds
        :raises SchemaError: if its tables are missing, outdated or too new
        """


class Persistence:
    """The repositories of one open backend. Thread-safe; closes at the end of a ``with`` block."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.containers = storage.containers
        self.images = storage.images
        self.sessions = storage.sessions

    def ping(self) -> None:
        """Ask the backend for a sign of life; see `Storage.ping`."""
        self._storage.ping()

    def close(self) -> None:
        """End it; see `Storage.close`."""
        self._storage.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
