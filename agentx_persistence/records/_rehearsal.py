"""Uses all parts of pydantic-core that records use, before any thread can fork in the middle.

Each part takes a lock at its first use, and lets other threads run while it holds that. If one of
them forks then, the lock stays locked in the child. A fork waits for what builds a class, but not
for what reads, writes or refuses a record.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic_core import SchemaSerializer, SchemaValidator, ValidationError, to_json
from pydantic_core import core_schema as core


class _Model:
    """Stands for a class of records."""

    __slots__ = (
        "__dict__",
        "__pydantic_extra__",
        "__pydantic_fields_set__",
        "__pydantic_private__",
    )


class _Subclass(_Model):
    """Stands for a caller's subclass of a record."""


def rehearse() -> None:
    text = core.str_schema(strict=True, max_length=9)
    part = _schema({"kind": text})
    parts = core.list_schema(core.tagged_union_schema({"a": part}, "kind"))
    schema = _schema({"field": core.union_schema([text, parts])})
    validator, serializer = SchemaValidator(schema), SchemaSerializer(schema)
    for field in ('"a"', '[{"kind": "a"}]'):
        wire = f'{{"field": {field}, "unknown": [0.5, {{"a": null}}, {10**50}]}}'
        record = validator.validate_json(wire)
        subclass = _Subclass()
        for name in _Model.__slots__:
            setattr(subclass, name, getattr(record, name))
        for each in (record, subclass):
            validator.validate_python(each)
            serializer.to_json(each, exclude_unset=True, warnings=False)
            serializer.to_python(each, exclude_unset=True, warnings=False)
    for wire in ("{", "[]", "{}", '{"field": 1}', '{"field": [{}]}', '{"field": [{"kind": "b"}]}'):
        _refuse(validator.validate_json, wire)
    for value in ({}, {"field": 1}, {"field": "\ud800"}, 1):
        _refuse(validator.validate_python, value)
    to_json({"a": (1, None)})


def _schema(fields: dict[str, core.CoreSchema]) -> core.CoreSchema:
    return core.model_schema(
        _Model,
        core.model_fields_schema(
            {name: core.model_field(schema) for name, schema in fields.items()},
            extra_behavior="allow",
        ),
        revalidate_instances="subclass-instances",
        config={"extra_fields_behavior": "allow"},
    )


def _refuse(validate: Callable[[Any], Any], value: object) -> None:
    try:
        validate(value)
    except ValidationError as error:
        str(error), error.errors()
        error.errors(include_url=False, include_context=False, include_input=False)
