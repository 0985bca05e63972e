"""Items: what an agent keeps that is not a message."""

from __future__ import annotations

from typing import Any

from agentx_persistence.errors import InvalidRecordError
from agentx_persistence.records._fields import Id, Millis, id_problem, now_field
from agentx_persistence.records._json_values import Json
from agentx_persistence.records._record import Record, many


class ItemRecord(Record):
    record_kind = "item"
    _generated = frozenset({"created_at", "updated_at"})
    _id_fields = ("key",)
    _open_fields = frozenset({"value"})

    namespace: tuple[Id, ...]
    key: Id
    value: Json
    created_at: Millis = now_field()
    updated_at: Millis = now_field()


def check_namespace(value: Any) -> tuple[str, ...]:
    if isinstance(value, (str, bytes)) or not value:
        raise InvalidRecordError("item", "namespace", "must be a tuple of strings")
    for each in value:
        if problem := id_problem(each):
            raise InvalidRecordError("item", "namespace", problem)
    return tuple(value)


ITEMS = many(ItemRecord)
