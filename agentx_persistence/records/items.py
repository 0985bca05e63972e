"""Items: everything that is not a message, such as state, checkpoints and memories."""

import base64
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import GetCoreSchemaHandler, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError, core_schema

from agentx_persistence.errors import InvalidRecordError
from agentx_persistence.records._building import Rules
from agentx_persistence.records._fields import (
    MAX_ID_LENGTH,
    NOW,
    Id,
    Millis,
    Text,
    id_problem,
    plain,
)
from agentx_persistence.records._json_values import exact
from agentx_persistence.records._record import Record, many

MAX_NAMESPACE_LENGTH = 400


def check_namespace(value: Any) -> tuple[str, ...]:
    """Return the namespace as a tuple; refuse with `InvalidRecordError` what no item can have."""
    if problem := _namespace_problem(value):
        raise InvalidRecordError("item", "namespace", problem)
    return tuple(map(plain, value))


def _namespace_problem(value: Any) -> str | None:
    if not isinstance(value, (tuple, list)):
        return f"must be a tuple of texts, not {type(value).__name__}"
    if not value:
        return "must have at least one element"
    for index, element in enumerate(value):
        if problem := id_problem(element):
            return f"element {index} {problem}"
    length = len("".join(value)) + len(value)
    if length > MAX_NAMESPACE_LENGTH:
        return (
            f"has {length} characters, including one for each element;"
            f" at most {MAX_NAMESPACE_LENGTH} are allowed"
        )
    return None


class _Namespace:
    """Python values are checked fully, JSON only for lengths: `to_json` has checked the rest."""

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: object, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        element = core_schema.str_schema(min_length=1, max_length=MAX_ID_LENGTH)
        return core_schema.json_or_python_schema(
            json_schema=core_schema.tuple_variable_schema(element, min_length=1),
            python_schema=core_schema.no_info_plain_validator_function(cls.validate),
        )

    @staticmethod
    def validate(value: Any) -> tuple[str, ...]:
        if problem := _namespace_problem(value):
            raise PydanticCustomError("namespace", "{problem}", {"problem": problem})
        return tuple(map(plain, value))


class _Value:
    """Any JSON, or bytes, which are base64 text in JSON."""

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: object, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.json_or_python_schema(
            json_schema=core_schema.any_schema(),
            python_schema=core_schema.no_info_plain_validator_function(cls.validate),
            serialization=core_schema.plain_serializer_function_ser_schema(
                cls.serialize, when_used="json"
            ),
        )

    @staticmethod
    def validate(value: object) -> Any:
        return bytes(value) if isinstance(value, bytes | bytearray | memoryview) else exact(value)

    @staticmethod
    def serialize(value: Any) -> Any:
        return base64.b64encode(value).decode() if isinstance(value, bytes) else value


class ItemRecord(
    Record,
    kind="item",
    generated=("created_at", "updated_at"),
    ids=("key",),
    open_fields=("value",),
):
    """A value under a key, in a namespace such as ``("user-42", "memories")``.

    The value is any JSON, or bytes. For bytes, `value_type` becomes "bytes"; a base64 text that is
    given with this type becomes bytes. Any other type is kept as it is given. An item belongs to
    the container whose id is the first element of its namespace.
    """

    namespace: Annotated[tuple[str, ...], _Namespace]
    key: Id
    value: Annotated[Any, _Value]
    value_type: Text | None = None
    created_at: Millis = NOW
    updated_at: Millis = NOW

    @model_validator(mode="after")
    def _match_value_and_type(self) -> Self:
        values = self.__dict__
        if type(values["value"]) is bytes:
            values["value_type"] = "bytes"
            self.__pydantic_fields_set__.add("value_type")
        elif values["value_type"] == "bytes":
            try:
                values["value"] = base64.b64decode(values["value"], validate=True)
            except (TypeError, ValueError) as error:
                problem = PydanticCustomError(
                    "base64", "must be base64 text, because value_type is bytes"
                )
                line = InitErrorDetails(type=problem, loc=("value",), input=values["value"])
                raise ValidationError.from_exception_data("item", [line]) from error
        return self

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with these changes. :raises InvalidRecordError: naming the field"""
        if not update or "value" not in update:
            return super().model_copy(update=update, deep=deep)
        copy = super().model_copy(update={"value_type": None, **update}, deep=deep)
        if copy.value_type is None:  # The type is that of the new value, not of the old one.
            copy.__pydantic_fields_set__.discard("value_type")
        return copy

    @classmethod
    def _patch(cls, change: Mapping[str, Any]) -> dict[str, Any]:
        if "value" not in change:
            return dict(change)
        value = change["value"]
        if not isinstance(value, bytes | bytearray | memoryview):
            return {"valueType": None, **change}
        rest = {name: of for name, of in change.items() if name not in ("value_type", "valueType")}
        return {**rest, "valueType": "bytes", "value": _Value.serialize(bytes(value))}

    def _check_ids(self, rules: Rules, values: Mapping[str, Any]) -> None:
        super()._check_ids(rules, values)
        check_namespace(values["namespace"])


ITEMS = many(ItemRecord)
