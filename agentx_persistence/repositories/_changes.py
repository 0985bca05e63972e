"""Changes of a record: merge patches, functions, and checks of what they return."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, TypeVar

from pydantic.alias_generators import to_camel
from pydantic_core import from_json, to_json

from agentx_persistence.errors import InvalidRecordError
from agentx_persistence.records import (
    ForkOrigin,
    ImageMetadata,
    ImageRecord,
    Record,
    SessionRecord,
    exact_json,
    now,
)

R = TypeVar("R", bound=Record)
Change = Mapping[str, Any] | Callable[[R], R]


def as_function(record_type: type[R], change: Change[R]) -> Callable[[R], R]:
    """Return the change as a function from the old record to the new one."""
    if callable(change):
        return change
    if not isinstance(change, Mapping):
        reason = f"must be a mapping or a function, not {type(change).__name__}"
        raise InvalidRecordError(record_type._rules.kind, "change", reason)
    patch = _wire(record_type, _exact_patch(record_type._rules.kind, record_type._patch(change)))

    def apply(record: R) -> R:
        # What was just read needs no check, and the new record is checked when it is written.
        wire = from_json(record._serialize())
        merged = merge(wire, patch)
        if "updatedAt" not in patch:
            merged["updatedAt"] = now()  # a copy of the record would take longer
        return record_type._read(to_json(merged))

    return apply


def _exact_patch(kind: str, patch: dict[str, Any]) -> Any:
    try:
        return exact_json(kind, "change", patch)
    except InvalidRecordError:
        for field, value in patch.items():
            if isinstance(field, str):
                exact_json(kind, field, value)  # raises the error that names the field
        raise


def merge(target: Any, patch: Any) -> Any:
    """Apply a JSON Merge Patch (https://www.rfc-editor.org/rfc/rfc7396#section-2)."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key), value)
    return merged


@lru_cache
def _spelling(record_type: type[Record]) -> dict[str, str]:
    return {name: to_camel(name) for name in record_type.model_fields}


def _wire(record_type: type[Record], patch: dict[str, Any]) -> dict[str, Any]:
    """Return the patch with the fields of this record in camelCase."""
    spelling = _spelling(record_type)
    wire = {spelling.get(key, key): value for key, value in patch.items()}
    if record_type is ImageRecord and isinstance(wire.get("metadata"), dict):
        wire["metadata"] = _wire(ImageMetadata, wire["metadata"])
    if record_type is SessionRecord and isinstance(wire.get("forkedFrom"), dict):
        wire["forkedFrom"] = _wire(ForkOrigin, wire["forkedFrom"])
    return wire


def sets_time(change: object) -> bool:
    """Return whether the change is a mapping that sets `updated_at`."""
    return isinstance(change, Mapping) and ("updated_at" in change or "updatedAt" in change)


def checked(record_type: type[R], key: str, old: R, new: object) -> R:
    """Return the record that a change made.

    :param key: the field, or fields separated by commas, that cannot change
    """
    kind = record_type._rules.kind
    if not isinstance(new, record_type):
        reason = f"must return {record_type.__name__}, not {type(new).__name__}"
        raise InvalidRecordError(kind, "change", reason)
    for field in key.split(","):
        if getattr(new, field) != getattr(old, field):
            raise InvalidRecordError(kind, field, "cannot change; create another record instead")
    return new


def timed(old: R, new: R) -> R:
    """Return the new record with the time of the change, if it has the old one's time."""
    before, after = old.__dict__["updated_at"], new.__dict__["updated_at"]
    at = now()
    return new if after != before or after == at else new._updated(at)


def metadata_change(changes: Mapping[str, Any]) -> Callable[[ImageRecord], ImageRecord]:
    """Return the function that merges the top-level keys into an image's metadata."""
    if not isinstance(changes, Mapping):
        reason = f"must be a mapping, not {type(changes).__name__}"
        raise InvalidRecordError("image metadata", "changes", reason)
    wire = _wire(ImageMetadata, dict(changes))
    given = {key: value for key, value in wire.items() if value is not None}
    checked_given = from_json(ImageMetadata.model_validate(given).to_json())
    at = now()

    def apply(image: ImageRecord) -> ImageRecord:
        old = from_json(image.metadata._serialize()) if image.metadata else {}
        kept = {key: value for key, value in old.items() if key in given or key not in wire}
        metadata = ImageMetadata._read(to_json({**kept, **checked_given}))
        return image.model_copy(update={"metadata": metadata, "updated_at": at})

    return apply
