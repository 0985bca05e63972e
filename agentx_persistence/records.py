"""The records: what a repository takes and gives back.

A record is a frozen pydantic model. Attributes are snake_case, its JSON is AgentX's camelCase, and
both spellings are accepted on input. Fields that this version does not know are kept. All times are
Unix milliseconds. `Record.to_json` and `Record.model_validate_json` are exact inverses; what could
not be given back exactly is refused with `InvalidRecordError`.
"""

from __future__ import annotations

import re
import secrets
import time
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    Strict,
    TypeAdapter,
    ValidationError,
)
from pydantic.alias_generators import to_camel
from pydantic.types import StringConstraints
from pydantic_core import PydanticCustomError, PydanticSerializationError, core_schema

from agentx_persistence.errors import InvalidRecordError
from agentx_persistence.json_values import Json, JsonObject

R = TypeVar("R", bound="Record")

MAX_ID_LENGTH = 255
MAX_NAME_LENGTH = 500

_FORBIDDEN = r"\x00-\x1f\x7f-\x9f\ud800-\udfff"  # control characters and lone surrogates
_ID = re.compile(rf"[^\s{_FORBIDDEN}](?:[^{_FORBIDDEN}]*[^\s{_FORBIDDEN}])?")


def new_id(prefix: str) -> str:
    """Return a new id, such as ``img_2f8c…``: 96 random bits, never given twice."""
    return f"{prefix}_{secrets.token_hex(12)}"


def now() -> int:
    """Return the time, in Unix milliseconds."""
    return time.time_ns() // 1_000_000


def _id_problem(value: object) -> str | None:
    if type(value) is str and len(value) <= MAX_ID_LENGTH and value.isidentifier():
        return None  # as most ids are, our own among them; the full rule takes far longer
    if not isinstance(value, str):
        return f"must be a string, not {type(value).__name__}"
    if not 1 <= len(value) <= MAX_ID_LENGTH:
        return f"must have 1 to {MAX_ID_LENGTH} characters, not {len(value)}"
    if not _ID.fullmatch(value):
        return "must have no control characters and no white space at its start or end"
    return None


def check_id(kind: str, value: object) -> None:
    """Refuse with `InvalidRecordError` what no record of this kind can have as its id."""
    if problem := _id_problem(value):
        raise InvalidRecordError(kind, "id", problem)


def check_name(value: object) -> None:
    """Refuse with `InvalidRecordError` what no image can have as its name."""
    try:
        _NAME.validate_python(value)
    except ValidationError as error:
        raise InvalidRecordError("image", "name", error.errors()[0]["msg"]) from error


class _Id:
    """In Python the whole rule; from JSON only the cheap part, as `Record.to_json` has it all."""

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: object, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.json_or_python_schema(
            json_schema=core_schema.str_schema(min_length=1, max_length=MAX_ID_LENGTH),
            python_schema=core_schema.no_info_plain_validator_function(cls.validate),
        )

    @staticmethod
    def validate(value: object) -> object:
        if problem := _id_problem(value):
            raise PydanticCustomError("id", "{problem}", {"problem": problem})
        return value


# A length constraint makes pydantic look at the characters, so that lone surrogates are refused.
Text = Annotated[str, Strict(), StringConstraints(min_length=0)]
_TEXT_BRANCH = "constrained-str"
Name = Annotated[str, Strict(), StringConstraints(max_length=MAX_NAME_LENGTH)]
_NAME: TypeAdapter[str] = TypeAdapter(
    Name, config={"defer_build": True, "hide_input_in_errors": True}
)
Id = Annotated[str, _Id]
Count = Annotated[int, Strict()]
# JavaScript and the scores of a Redis sorted set hold integers exactly up to 2**53.
Millis = Annotated[int, Strict(), Field(gt=-(2**53), lt=2**53)]


def _id_field(prefix: str) -> Any:
    return Field(default_factory=lambda: new_id(prefix))


def _now_field() -> Any:
    return Field(default_factory=now)


class Record(BaseModel):
    """What all records share: the wire form, and errors that name the field."""

    model_config = ConfigDict(
        frozen=True,
        extra="allow",
        alias_generator=to_camel,
        validate_by_alias=True,
        validate_by_name=True,
        serialize_by_alias=True,
        protected_namespaces=(),
        hide_input_in_errors=True,
        loc_by_alias=False,
        defer_build=True,
    )
    __pydantic_extra__: dict[str, Json]

    record_kind: ClassVar[str]
    # The fields with a default that is part of the record: they are given back even when the
    # caller did not set them, while any other field that was absent stays absent.
    _generated: ClassVar[frozenset[str]] = frozenset()
    _id_fields: ClassVar[tuple[str, ...]] = ()

    if not TYPE_CHECKING:

        def __init__(self, /, **data: Any) -> None:
            try:
                super().__init__(**data)
            except ValidationError as error:
                raise _invalid(type(self).record_kind, error) from error
            self.__pydantic_fields_set__.update(self._generated)

        # Tells pydantic that this is no constructor of its own kind, so that reading JSON, which
        # has its own path, does not call it for each record (it would cost 80 %).
        __init__.__pydantic_base_init__ = True

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """Return the record of a mapping. :raises InvalidRecordError: naming the field"""
        try:
            return super().model_validate(obj, **options)
        except ValidationError as error:
            raise _invalid(cls.record_kind, error) from error

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray, **options: Any) -> Self:
        """Return the record of its wire form. :raises InvalidRecordError: naming the field"""
        try:
            record = super().model_validate_json(json_data, **options)
        except ValidationError as error:
            raise _invalid(cls.record_kind, error) from error
        record.to_json()
        return record

    def to_json(self) -> str:
        """Return the wire form: camelCase, known fields in declared order, then the unknown ones.

        :raises InvalidRecordError: naming the field, if reading the result would not give back
            exactly this record. That can be so although the constructor checks its input:
            ``model_copy(update=…)`` checks nothing, and the maps inside a record can be changed.
        """
        self.__pydantic_fields_set__.update(self._generated)
        try:
            text = self.__pydantic_serializer__.to_json(
                self, by_alias=True, exclude_unset=True, warnings="error"
            )
            again = self.__pydantic_validator__.validate_json(text)
            # As `again == self`, which would first compare the two classes at length.
            exact = (
                again.__dict__ == self.__dict__
                and again.__pydantic_extra__ == self.__pydantic_extra__
            )
        except (PydanticSerializationError, ValidationError, RecursionError) as error:
            raise self._refusal(str(error).partition("\n")[0]) from error
        for name in self._id_fields:
            if (value := getattr(self, name)) is not None and (problem := _id_problem(value)):
                raise InvalidRecordError(self.record_kind, name, problem)
        if not exact:
            raise self._refusal("has no exact JSON form")
        return text.decode()

    def _refusal(self, reason: str) -> InvalidRecordError:
        try:
            type(self).model_validate(self.model_dump(exclude_unset=True, warnings=False))
        except InvalidRecordError as named:
            return named
        except RecursionError:
            reason = "nested too deep"
        return InvalidRecordError(self.record_kind, "record", reason)


def _invalid(kind: str, error: ValidationError) -> InvalidRecordError:
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    # Of the branches of a union the one that got furthest is the one that was meant.
    told = max(errors, key=lambda entry: len(entry["loc"]))
    # pydantic also names the branch, as "list[…]" or "constrained-str": no part of the way.
    steps = [str(step) for step in told["loc"] if "[" not in str(step) and step != _TEXT_BRANCH]
    return InvalidRecordError(kind, ".".join(steps) or "record", told["msg"])


class ContainerRecord(Record):
    """An isolation unit, often a user."""

    record_kind = "container"
    _generated = frozenset({"container_id", "created_at", "updated_at"})
    _id_fields = ("container_id",)

    container_id: Id = _id_field("ctr")
    created_at: Millis = _now_field()
    updated_at: Millis = _now_field()
    config: JsonObject | None = None


class ImageMetadata(Record):
    """What a driver remembers about an image; any further keys are kept."""

    record_kind = "image metadata"

    driver_session_id: Text | None = None


class ImageRecord(Record):
    """An agent's snapshot; users see it as a conversation."""

    record_kind = "image"
    _generated = frozenset({"image_id", "session_id", "created_at", "updated_at"})
    _id_fields = ("image_id", "container_id", "session_id", "prototype_id", "parent_image_id")

    image_id: Id = _id_field("img")
    container_id: Id
    session_id: Id = _id_field("sess")
    name: Name | None = None
    description: Text | None = None
    role_id: Id | None = None
    os_id: Id | None = None
    model: Text | None = None
    system_prompt: Text | None = None
    mcp_servers: JsonObject | None = None
    thinking: Literal["disabled", "low", "medium", "high"] | None = None
    provider_options: JsonObject | None = None
    prototype_id: Id | None = None
    parent_image_id: Id | None = None
    metadata: ImageMetadata | None = None
    custom_data: JsonObject | None = None
    created_at: Millis = _now_field()
    updated_at: Millis = _now_field()


class SessionRecord(Record):
    """The thread of an image; it owns messages."""

    record_kind = "session"
    _generated = frozenset({"session_id", "created_at", "updated_at"})
    _id_fields = ("session_id", "image_id", "container_id")

    session_id: Id = _id_field("sess")
    image_id: Id
    container_id: Id
    created_at: Millis = _now_field()
    updated_at: Millis = _now_field()


def _many(record: type[R]) -> TypeAdapter[list[R]]:
    return TypeAdapter(list[record], config={"defer_build": True})  # type: ignore[valid-type]


# Each reads a JSON array of its records in one pass.
CONTAINERS = _many(ContainerRecord)
IMAGES = _many(ImageRecord)
SESSIONS = _many(SessionRecord)
