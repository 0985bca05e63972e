"""What all records share: the wire form, and errors that name the field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticSerializationError

from agentx_persistence.errors import InvalidRecordError
from agentx_persistence.records._fields import (
    TEXT_BRANCH,
    id_problem,
)
from agentx_persistence.records._json_values import Json, is_plain

R = TypeVar("R", bound="Record")

# What nobody can change inside of a record that was checked when it was made.
_UNCHANGING = frozenset({str, float, bool, type(None)})


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
        # What is not of the declared class becomes so when the record is made, and not only when it
        # is read back.
        revalidate_instances="subclass-instances",
        hide_input_in_errors=True,
        loc_by_alias=False,
        defer_build=True,
    )
    if not TYPE_CHECKING:  # which would take it for an argument that callers have to give
        __pydantic_extra__: dict[str, Json]

    record_kind: ClassVar[str]
    # The fields with a default that is part of the record: they are given back even when the
    # caller did not set them, while any other field that was absent stays absent.
    _generated: ClassVar[frozenset[str]] = frozenset()
    _id_fields: ClassVar[tuple[str, ...]] = ()
    # Those that hold any JSON. What others hold is of the declared types when it is read back.
    _open_fields: ClassVar[frozenset[str]] = frozenset()

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
        return record._proven()

    @classmethod
    def model_construct(cls, _fields_set: set[str] | None = None, **values: Any) -> Self:
        """Return a record of these values. :raises InvalidRecordError: naming the field"""
        return super().model_construct(_fields_set, **values)._proven()

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with these changes. :raises InvalidRecordError: naming the field"""
        copy = super().model_copy(update=update, deep=deep)
        return copy._proven() if update else copy

    def _updated(self, at: int) -> Self:
        """Return a copy of a record that has just been read, with another `updated_at`."""
        return super().model_copy(update={"updated_at": at})

    def to_json(self) -> str:
        """Return the wire form: camelCase, known fields in declared order, then the unknown ones.

        :raises InvalidRecordError: naming the field, if reading the result would not give back
            exactly this record. That can be so although the record was checked when it was made:
            the maps and lists inside it can be changed.
        """
        text = self._serialize()
        self._check_ids()
        if not self._is_plain():
            self._prove(text)
        return text.decode()

    def _is_plain(self) -> bool:
        """Tell whether nothing inside, which was checked, can have been changed into no JSON."""
        for name, value in self.__dict__.items():
            kind = type(value)
            if kind in _UNCHANGING or (kind is int and -(2**63) <= value < 2**63):
                continue
            if isinstance(value, Record):
                plain = value._is_plain()
            else:
                # Not what is inherited: what a caller's own class declares is not known here.
                plain = name in type(self).__dict__.get("_open_fields", ()) and is_plain(value)
            if not plain:
                return False
        # A key among the unknown ones could now be that of a field.
        return not self.__pydantic_extra__

    def _proven(self) -> Self:
        self._check_ids()
        self._prove(self._serialize())
        return self

    def _check_ids(self) -> None:
        values = self.__dict__
        for name in self._id_fields:
            value = values.get(name)
            if value is not None and (problem := id_problem(value)):
                raise InvalidRecordError(self.record_kind, name, problem)

    def _serialize(self) -> bytes:
        self.__pydantic_fields_set__.update(self._generated)
        try:
            return self.__pydantic_serializer__.to_json(self, exclude_unset=True, warnings=False)
        except (PydanticSerializationError, RecursionError) as error:
            raise self._refusal(str(error).partition("\n")[0]) from error

    def _prove(self, text: bytes) -> None:
        """Refuse the record unless reading its wire form gives back exactly this."""
        try:
            again = self.__pydantic_validator__.validate_json(text)
            # As `again == self`, which would first compare the two classes at length.
            exact = (
                again.__dict__ == self.__dict__
                and again.__pydantic_extra__ == self.__pydantic_extra__
            )
        except (ValidationError, RecursionError) as error:
            raise self._refusal(str(error).partition("\n")[0]) from error
        if not exact:
            raise self._refusal("has no exact JSON form")

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
    steps = [str(step) for step in told["loc"] if "[" not in str(step) and step != TEXT_BRANCH]
    return InvalidRecordError(kind, ".".join(steps) or "record", told["msg"])


def many(record: type[R]) -> TypeAdapter[list[R]]:
    return TypeAdapter(list[record], config={"defer_build": True})  # type: ignore[valid-type]
