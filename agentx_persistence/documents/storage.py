"""The storage over any `DocumentStore`."""

from __future__ import annotations

from agentx_persistence.documents.repositories import (
    DocumentContainerRepository,
    DocumentImageRepository,
)
from agentx_persistence.documents.sessions import DocumentSessionRepository
from agentx_persistence.documents.store import DocumentStore
from agentx_persistence.persistence import Storage


class DocumentStorage(Storage):
    def __init__(self, store: DocumentStore) -> None:
        self._store = store
        self.sessions = DocumentSessionRepository(store)
        self.images = DocumentImageRepository(store, self.sessions)
        self.containers = DocumentContainerRepository(store, self.images, self.sessions)

    def ping(self) -> None:
        self._store.ping()

    def close(self) -> None:
        self._store.close()
