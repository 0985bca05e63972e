"""The document family. To write a backend of your own, implement `DocumentStore`."""

from __future__ import annotations

from agentx_persistence.documents.storage import DocumentStorage
from agentx_persistence.documents.store import Document, DocumentStore, Entry, Slice

__all__ = ["Document", "DocumentStorage", "DocumentStore", "Entry", "Slice"]
