"""Records and messages that tell whether they are whole."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any
from zlib import crc32

from agentx_persistence import (
    ContainerRecord,
    ImageRecord,
    ItemRecord,
    Message,
    SessionRecord,
    UserMessage,
)


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


def item(namespace: tuple[str, ...], key: str, created_at: int, data: Any) -> ItemRecord:
    value = {"data": data, "stamp": _stamp(namespace, key, created_at, data)}
    return ItemRecord(namespace=namespace, key=key, created_at=created_at, value=value)


def merge(old: Any, patch: Any) -> Any:
    """Return what RFC 7396 makes of it."""
    if not isinstance(patch, dict):
        return patch
    merged = {**old} if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key), value)
    return merged


def message(id: str, session_id: str, text: str, history: Sequence[Message]) -> UserMessage:
    """Return the message that comes behind this history: a link of a chain."""
    before = history[-1] if history else None
    link = _stamp(id, session_id, len(history) + 1, before and _extra(before)["link"])
    return UserMessage(
        id=id,
        content=text,
        timestamp=0,
        parent_id=before.id if before else None,
        session=session_id,
        place=len(history) + 1,
        link=link,
        whole=_stamp(text, link),
    )


def edited(message: UserMessage, text: str) -> UserMessage:
    """Return a message that can take the place of this one in its chain."""
    whole = _stamp(text, _extra(message)["link"])
    return message.model_copy(update={"content": text, "whole": whole})


def check_record(record: ContainerRecord | ImageRecord | SessionRecord | ItemRecord) -> None:
    """Fail if this is not the whole of one record that was saved."""
    if isinstance(record, ItemRecord):
        assert isinstance(record.value, dict), record
        again: Any = item(record.namespace, record.key, record.created_at, record.value.get("data"))
        assert record.value == again.value, record
    elif isinstance(record, ContainerRecord):
        content = record.config or {}
        again = container(record.container_id, record.created_at, content.get("data"))
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


def check_messages(messages: Sequence[Message], *, whole: bool = False) -> None:
    """Fail if these are not consecutive messages of one history, of a session or of its forks.

    :param whole: whether they are all of it, from the first one on
    """
    for message in messages:
        assert isinstance(message, UserMessage), message
        assert _extra(message)["whole"] == _stamp(message.content, _extra(message)["link"]), message
    for before, message in pairwise(messages):
        assert message.parent_id == before.id, (before, message)
        assert place(message) == place(before) + 1, (before, message)
        assert _extra(message)["link"] == _link(message, before), (before, message)
    if whole and messages:
        assert place(messages[0]) == 1, messages[0]
        assert _extra(messages[0])["link"] == _link(messages[0], None), messages[0]


def _link(message: Message, before: Message | None) -> int:
    return _stamp(
        message.id, _extra(message)["session"], place(message), before and _extra(before)["link"]
    )


def place(message: Message) -> int:
    where: int = _extra(message)["place"]
    return where


def _extra(message: Message) -> dict[str, Any]:
    return message.model_extra or {}
