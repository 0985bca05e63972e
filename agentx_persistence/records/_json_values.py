"""The values of open fields: JSON that comes back exactly as it was given."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import PydanticCustomError, core_schema

from agentx_persistence.errors import InvalidRecordError

# The limits of pydantic's JSON parser: 200 levels, and integers of at most 4,300 digits (Python's
# own limit on int <-> str, https://docs.python.org/3/library/stdtypes.html#int-max-str-digits).
# Before 2.14.2 it counts the sign as a digit, and refuses a negative integer of 4,300 digits.
_MAX_DEPTH = 200
_MAX_INTEGER = 10**4300
_PLAIN = frozenset({str, bool, type(None)})
# A value that is deeper or larger takes longer to check than to write and read back.
_PLAIN_DEPTH = 3
_PLAIN_SIZE = 16
LONE_SURROGATE = "a lone surrogate (half of a UTF-16 pair) is not text"


def exact(value: object, path: str = "", depth: int = 0) -> Any:
    """Return a copy of a JSON value; refuse, with its place, what JSON cannot give back exactly."""
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return _exact_text(value, path)
    if isinstance(value, int):
        if not -_MAX_INTEGER < value < _MAX_INTEGER:
            raise _refusal(path, "an integer of more than 4300 digits")
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _refusal(path, "NaN and infinities have no JSON form")
        return value
    if depth == _MAX_DEPTH:
        raise _refusal(path, f"nested more than {_MAX_DEPTH} levels deep")
    if isinstance(value, dict):
        copy = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise _refusal(path, f"a key must be a string, not {type(key).__name__}")
            copy[_exact_text(key, path)] = exact(item, f"{path}.{key}", depth + 1)
        return copy
    if isinstance(value, list):
        return [exact(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)]
    raise _refusal(path, f"{type(value).__name__} has no exact JSON form")


def exact_json(kind: str, field: str, value: object) -> Any:
    """Return a copy of a JSON value.

    :raises InvalidRecordError: naming `field`, if JSON cannot give it back exactly
    """
    try:
        return exact(value)
    except PydanticCustomError as error:
        raise InvalidRecordError(kind, field, error.message()) from error


def is_plain(value: Any, depth: int = _PLAIN_DEPTH) -> bool:
    """Return True if JSON certainly gives this back exactly, False if that is not certain.

    A text with a lone surrogate counts as plain, because writing it as JSON fails. A key with one
    does not, because writing that can succeed.
    """
    kind = type(value)
    if kind in _PLAIN:
        return True
    if kind is int:
        return bool(-(2**63) <= value < 2**63)
    if kind is float:
        return math.isfinite(value)
    if depth == 0 or (kind is not dict and kind is not list) or len(value) > _PLAIN_SIZE:
        return False
    if kind is dict:
        for key in value:
            if type(key) is not str or not key.isascii():
                return False
        value = value.values()
    for item in value:  # noqa: SIM110 (a generator would take half as long again)
        if type(item) not in _PLAIN and not is_plain(item, depth - 1):
            return False
    return True


def _exact_text(value: str, path: str) -> str:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _refusal(path, LONE_SURROGATE) from None
    return value


def _refusal(path: str, reason: str) -> PydanticCustomError:
    return PydanticCustomError(
        "exact_json", "{reason}{place}", {"reason": reason, "place": path and f" (at {path[:60]})"}
    )


def _exact_object(value: object) -> Any:
    if not isinstance(value, dict):
        raise _refusal("", f"must be a mapping, not {type(value).__name__}")
    return exact(value)


class _Json:
    """Python values are checked. Parsed JSON is exact already."""

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: object, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.json_or_python_schema(
            json_schema=core_schema.any_schema(),
            python_schema=core_schema.no_info_plain_validator_function(exact),
        )


class _JsonObject:
    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: object, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.json_or_python_schema(
            json_schema=core_schema.dict_schema(core_schema.str_schema(), core_schema.any_schema()),
            python_schema=core_schema.no_info_plain_validator_function(_exact_object),
        )


Json = Annotated[Any, _Json]
JsonObject = Annotated[dict[str, Any], _JsonObject]
