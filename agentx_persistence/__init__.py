"""Storage for AI agents: containers, images, sessions and their messages, on seven backends.

Each backend but memory is a module of its own (`agentx_persistence.sqlite`, …), so that an
application imports, installs and bundles only what it uses.
"""

from __future__ import annotations

from agentx_persistence.errors import (
    BackendError,
    BackendUnavailableError,
    CorruptRecordError,
    InvalidRecordError,
    MissingDependencyError,
    PersistenceClosedError,
    PersistenceError,
    RecordConflictError,
    RecordNotFoundError,
    RecordTooLargeError,
    SchemaError,
)
from agentx_persistence.memory import memory_driver
from agentx_persistence.messages import (
    AssistantMessage,
    ContentOutput,
    ErrorJsonOutput,
    ErrorMessage,
    ErrorTextOutput,
    ExecutionDeniedOutput,
    FilePart,
    ImagePart,
    JsonOutput,
    Message,
    OtherMessage,
    OtherOutput,
    OtherPart,
    TextOutput,
    TextPart,
    ThinkingPart,
    ToolCallMessage,
    ToolCallPart,
    ToolResultMessage,
    ToolResultPart,
    Usage,
    UserMessage,
)
from agentx_persistence.persistence import Persistence, PersistenceDriver, Storage
from agentx_persistence.records import ContainerRecord, ImageMetadata, ImageRecord, SessionRecord
from agentx_persistence.repositories import (
    ContainerRepository,
    ImageRepository,
    Page,
    SessionRepository,
)


def create_persistence(driver: PersistenceDriver | None = None) -> Persistence:
    """Connect and check at once; return the open repositories. No driver means memory.

    :raises BackendUnavailableError: if the backend cannot be reached, within seconds
    :raises SchemaError: if its tables are missing, outdated or too new; says what mends it
    """
    return Persistence((driver or memory_driver()).create_storage())


__all__ = [
    "AssistantMessage",
    "BackendError",
    "BackendUnavailableError",
    "ContainerRecord",
    "ContainerRepository",
    "ContentOutput",
    "CorruptRecordError",
    "ErrorJsonOutput",
    "ErrorMessage",
    "ErrorTextOutput",
    "ExecutionDeniedOutput",
    "FilePart",
    "ImageMetadata",
    "ImagePart",
    "ImageRecord",
    "ImageRepository",
    "InvalidRecordError",
    "JsonOutput",
    "Message",
    "MissingDependencyError",
    "OtherMessage",
    "OtherOutput",
    "OtherPart",
    "Page",
    "Persistence",
    "PersistenceClosedError",
    "PersistenceDriver",
    "PersistenceError",
    "RecordConflictError",
    "RecordNotFoundError",
    "RecordTooLargeError",
    "SchemaError",
    "SessionRecord",
    "SessionRepository",
    "Storage",
    "TextOutput",
    "TextPart",
    "ThinkingPart",
    "ToolCallMessage",
    "ToolCallPart",
    "ToolResultMessage",
    "ToolResultPart",
    "Usage",
    "UserMessage",
    "create_persistence",
    "memory_driver",
]
