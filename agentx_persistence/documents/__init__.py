"""The document family. To write a backend of your own, implement `DocumentStore`.

If the backend has transactions, `TransactionalStore` asks for less.
"""

from __future__ import annotations

from agentx_persistence.documents.storage import DocumentStorage
from agentx_persistence.documents.store import Document, DocumentStore, Entry, Slice, Window
from agentx_persistence.documents.transactional import TransactionalStore

__all__ = [
    "Document",
    "DocumentStorage",
    "DocumentStore",
    "Entry",
    "Slice",
    "TransactionalStore",
    "Window",
]
