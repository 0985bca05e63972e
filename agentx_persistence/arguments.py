"""Checks of what callers hand to a repository, alike on every backend, before anything is done."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from pydantic.alias_generators import to_camel
from pydantic_core import from_json, to_json

from agentx_persistence.errors import InvalidRecordError
from agentx_persistence.fields import check_id, check_name, now
from agentx_persistence.messages import Message, MessageRecord
from agentx_persistence.records import (
    ImageMetadata,
    ImageRecord,
    Record,
)

# Where a page starts: behind the record with this `created_at` and this id.
Place = tuple[int, str]

_MAX_COUNT = 2**31 - 2  # one more still fits the 32-bit integers of all databases


def check_record(expected: type[Record], record: object) -> None:
    if not isinstance(record, expected):
        reason = f"must be {expected.__name__}, not {type(record).__name__}"
        raise InvalidRecordError(expected.record_kind, "record", reason)


def check_message(message: Message) -> tuple[str, str]:
    """Return the message's id and its wire form."""
    if not isinstance(message, MessageRecord):
        raise InvalidRecordError(
            "message", "message", f"must be a message, not {type(message).__name__}"
        )
    return message.id, message.to_json()


def check_filters(filters: dict[str, str | None]) -> dict[str, str]:
    """Return the filters that were given."""
    given = {field: value for field, value in filters.items() if value is not None}
    for field, value in given.items():
        if field == "name":
            check_name(value)
        else:
            check_id(field.removesuffix("_id"), value)
    return given


def check_count(field: str, value: object, minimum: int = 0) -> None:
    if type(value) is not int or not minimum <= value <= _MAX_COUNT:
        reason = f"must be a whole number from {minimum} to {_MAX_COUNT}"
        raise InvalidRecordError("argument", field, reason)


def check_limit(field: str, value: object) -> None:
    if value is not None:
        check_count(field, value)


def check_window(
    session_id: str, first: int | None, last: int | None, after: str | None, before: str | None
) -> None:
    check_id("session", session_id)
    check_limit("first", first)
    check_limit("last", last)
    if first is not None and last is not None:
        raise InvalidRecordError("argument", "last", "cannot be given together with first")
    for message_id in (after, before):
        if message_id is not None:
            check_id("message", message_id)


def encode_cursor(place: Place) -> str:
    return base64.urlsafe_b64encode(to_json(place)).decode().rstrip("=")


def decode_cursor(cursor: str | None) -> Place | None:
    if cursor is None:
        return None
    foreign = InvalidRecordError("argument", "cursor", "is not one that a page gave")
    try:
        created_at, id = from_json(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        check_id("record", id)
    except (TypeError, ValueError) as error:
        raise foreign from error
    if type(created_at) is not int or not -(2**53) < created_at < 2**53:
        raise foreign
    return created_at, id


class MetadataChange:
    """What `ImageRepository.update_metadata` was asked to do, checked and in wire form."""

    def __init__(self, changes: Mapping[str, Any]) -> None:
        if not isinstance(changes, Mapping):
            raise InvalidRecordError(
                "image metadata", "changes", f"must be a mapping, not {type(changes).__name__}"
            )
        spelling = {name: to_camel(name) for name in ImageMetadata.model_fields}
        wire = {spelling.get(key, key): value for key, value in changes.items()}
        given = {key: value for key, value in wire.items() if value is not None}
        self._given = from_json(ImageMetadata.model_validate(given).to_json())
        self._removed = wire.keys() - given.keys()
        self._at = now()

    def apply(self, image: ImageRecord) -> ImageRecord:
        old = from_json(image.metadata.to_json()) if image.metadata else {}
        kept = {key: value for key, value in old.items() if key not in self._removed}
        metadata = ImageMetadata.model_validate_json(to_json({**kept, **self._given}))
        return image.model_copy(update={"metadata": metadata, "updated_at": self._at})
