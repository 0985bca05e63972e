"""The types of the fields of records: ids, names, texts, numbers and times."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import Field, GetCoreSchemaHandler, Strict, TypeAdapter, ValidationError
from pydantic.types import StringConstraints
from pydantic_core import PydanticCustomError, core_schema

from agentx_persistence.errors import InvalidRecordError
from agentx_persistence.records._building import ready

MAX_ID_LENGTH = 255
MAX_NAME_LENGTH = 500

_FORBIDDEN = r"\x00-\x1f\x7f-\x9f\ud800-\udfff"  # control characters and lone surrogates
# Compiled at its first use: compiling it takes a tenth of the time to import all records.
_ID = rf"[^\s{_FORBIDDEN}](?:[^{_FORBIDDEN}]*[^\s{_FORBIDDEN}])?"


def new_id(prefix: str) -> str:
    """Return a new id, such as ``img_2f8c…``, with 96 random bits."""
    return f"{prefix}_{os.urandom(12).hex()}"


def now() -> int:
    """Return the time, in Unix milliseconds."""
    return time.time_ns() // 1_000_000


def id_problem(value: object) -> str | None:
    """Return why the value cannot be an id, or ``None`` if it can."""
    if (
        type(value) is str
        and 0 < len(value) <= MAX_ID_LENGTH
        and value.isprintable()
        and value.strip() == value
    ):
        return None  # what is printable has no control characters; the full rule takes far longer
    if not isinstance(value, str):
        return f"must be a string, not {type(value).__name__}"
    if not 1 <= len(value) <= MAX_ID_LENGTH:
        return f"must have 1 to {MAX_ID_LENGTH} characters, not {len(value)}"
    if not re.fullmatch(_ID, value):
        return "must have no control characters and no white space at its start or end"
    return None


# Returns a string as a `str` of no subclass: one can be formatted as another text, as the members
# of ``class Color(str, Enum)`` are.
plain: Callable[[Any], str] = str.__str__


def check_id(kind: str, value: object) -> str:
    """Return the id; refuse with `InvalidRecordError` what no record of this kind can have."""
    if problem := id_problem(value):
        raise InvalidRecordError(kind, "id", problem)
    return plain(value)


def check_name(value: object) -> str:
    """Return the name; refuse with `InvalidRecordError` what no image can have."""
    try:
        return ready(_NAME).validate_python(value)
    except ValidationError as error:
        raise InvalidRecordError("image", "name", error.errors()[0]["msg"]) from error


class _Id:
    """Python values are checked fully, JSON only for its length: `to_json` has checked the rest."""

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: object, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.json_or_python_schema(
            json_schema=core_schema.str_schema(min_length=1, max_length=MAX_ID_LENGTH),
            python_schema=core_schema.no_info_plain_validator_function(cls.validate),
        )

    @staticmethod
    def validate(value: object) -> str:
        if problem := id_problem(value):
            raise PydanticCustomError("id", "{problem}", {"problem": problem})
        return plain(value)


class _Time:
    """A Unix time in milliseconds. JavaScript holds integers exactly up to 2**53, and the indexes
    of Redis and MongoDB sort by the distance from it."""

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: object, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.custom_error_schema(
            core_schema.int_schema(strict=True, gt=-(2**53), lt=2**53),
            custom_error_type="time",
            custom_error_message=(
                "must be Unix milliseconds, a whole number such as 1767225600000 (not seconds, not"
                " a text, not a datetime)"
            ),
        )


# The length constraint makes pydantic read the characters, and so refuse lone surrogates.
Text = Annotated[str, Strict(), StringConstraints(min_length=0)]
Name = Annotated[str, Strict(), StringConstraints(max_length=MAX_NAME_LENGTH)]
_NAME: TypeAdapter[str] = TypeAdapter(
    Name, config={"defer_build": True, "hide_input_in_errors": True}
)
Id = Annotated[str, _Id]
Count = Annotated[int, Strict()]
Millis = Annotated[int, _Time]


def id_field(prefix: str) -> Any:
    return Field(default_factory=lambda: new_id(prefix))


# Shared by all fields, as each class copies it.
NOW: Any = Field(default_factory=now)
