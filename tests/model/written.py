"""Records and messages that tell whether they are whole."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any
from zlib import crc32

from agentx_persistence import ContainerRecord, ImageRecord, Message, SessionRecord, UserMessage


def _stamp(*facts: Any) -> int:
    return crc32(repr(facts).encode())


def container(id: str, created_at: int, data: Any) -> ContainerRecord:
    config = {"data": data, "stamp": _stamp(id, created_at, data)}
    return ContainerRecord(container_id=id, created_at=created_at, config=config)


def image(id: str, box: str, name: str | None, created_at: int, data: Any) -> ImageRecord:
    return ImageRecord(
        image_id=id,
        container_id=box,
        session_id="s",
        name=name,
        created_at=created_at,
        custom_data={"data": data, "stamp": _stamp(id, box, name, created_at, data)},
    )


def session(id: str, owner: str, box: str, created_at: int) -> SessionRecord:
    return SessionRecord(
        session_id=id,
        image_id=owner,
        container_id=box,
        created_at=created_at,
        stamp=_stamp(id, owner, box, created_at),
    )


def message(id: str, session_id: str, text: str, history: Sequence[Message]) -> UserMessage:
    """Return the message that comes behind this history."""
    return UserMessage(
        id=id,
        content=text,
        timestamp=0,
        parent_id=history[-1].id if history else None,
        session=session_id,
        place=len(history) + 1,
    )


def check_record(record: ContainerRecord | ImageRecord | SessionRecord) -> None:
    """Fail if this is not the whole of one record that was saved."""
    if isinstance(record, ContainerRecord):
        content = record.config or {}
        again: Any = container(record.container_id, record.created_at, content.get("data"))
        assert content == again.config, record
    elif isinstance(record, ImageRecord):
        content = record.custom_data or {}
        again = image(
            record.image_id,
            record.container_id,
            record.name,
            record.created_at,
            content.get("data"),
        )
        assert content == again.custom_data, record
    else:
        again = session(record.session_id, record.image_id, record.container_id, record.created_at)
        assert record.model_extra == again.model_extra, record


def check_messages(session_id: str, messages: Sequence[Message], *, whole: bool = False) -> None:
    """Fail if these are not consecutive messages of one history of this session.

    :param whole: whether they are all of it, from the first one on
    """
    for message in messages:
        assert (message.model_extra or {})["session"] == session_id, message
    for before, message in pairwise(messages):
        assert message.parent_id == before.id, (before, message)
        assert place(message) == place(before) + 1, (before, message)
    if whole and messages:
        assert place(messages[0]) == 1, messages[0]


def place(message: Message) -> int:
    where: int = (message.model_extra or {})["place"]
    return where
