"""Records for the tests: only what a test names matters to it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from agentx_persistence import (
    ContainerRecord,
    ImageRecord,
    ItemRecord,
    Message,
    Persistence,
    SessionRecord,
    UserMessage,
)


def container(container_id: str = "box", **fields: Any) -> ContainerRecord:
    return ContainerRecord(container_id=container_id, **fields)


def image(image_id: str = "image", **fields: Any) -> ImageRecord:
    return ImageRecord(**{"image_id": image_id, "container_id": "box", "name": "plan", **fields})


def session(session_id: str = "session", **fields: Any) -> SessionRecord:
    return SessionRecord(
        **{"session_id": session_id, "image_id": "image", "container_id": "box", **fields}
    )


def item(
    namespace: tuple[str, ...] = ("box", "state"), key: str = "key", **fields: Any
) -> ItemRecord:
    return ItemRecord(**{"namespace": namespace, "key": key, "value": 1, **fields})


def message(text: str = "hello", **fields: Any) -> UserMessage:
    return UserMessage(content=text, **fields)


def saved_session(persistence: Persistence, session_id: str = "session") -> str:
    """Save a session without messages; return its id."""
    persistence.sessions.save(session(session_id))
    return session_id


def texts(persistence: Persistence, session_id: str = "session", **window: Any) -> list[str]:
    return [str(m.content) for m in persistence.sessions.get_messages(session_id, **window)]


def stored(persistence: Persistence) -> tuple[SessionRecord, list[Message]]:
    """Return all that is stored of the session."""
    return persistence.sessions.get("session"), persistence.sessions.get_messages("session")


def ids_of(records: Iterable[Any]) -> list[str]:
    return [next(iter(record.model_dump().values())) for record in records]


def walk(repository: Any, size: int, **asked: Any) -> list[Any]:
    """Return the records of all pages."""
    found, cursor = [], None
    while True:
        page = repository.find_page(size=size, cursor=cursor, **asked)
        assert len(page.items) <= size
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            return found
        assert page.items
