"""The interface ("port") that every backend implements and that the repositories call.

To write a backend of your own, implement `Storage`, or, if the backend has transactions, the
shorter `agentx_persistence.storage.transactional.TransactionalStorage`.
"""

from __future__ import annotations

from agentx_persistence.storage.kinds import (
    CONTAINERS,
    IMAGES,
    ITEMS,
    KINDS,
    SESSIONS,
    Kind,
    owned_by,
)
from agentx_persistence.storage.storage import PersistenceDriver, Storage
from agentx_persistence.storage.values import (
    Addition,
    Document,
    Entry,
    Found,
    Head,
    Listing,
    Order,
    Place,
    Query,
    Slice,
    Stored,
    Text,
    Trace,
    Window,
)

__all__ = [
    "CONTAINERS",
    "IMAGES",
    "ITEMS",
    "KINDS",
    "SESSIONS",
    "Addition",
    "Document",
    "Entry",
    "Found",
    "Head",
    "Kind",
    "Listing",
    "Order",
    "PersistenceDriver",
    "Place",
    "Query",
    "Slice",
    "Storage",
    "Stored",
    "Text",
    "Trace",
    "Window",
    "owned_by",
]
