"""What all records share: the wire form, and errors that name the field."""

from collections.abc import Container, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar, Unpack

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticSerializationError, from_json

from agentx_persistence.errors import InvalidRecordError
from agentx_persistence.records._building import Building, Rules, SnakeCaseSignature
from agentx_persistence.records._comparison import first_difference
from agentx_persistence.records._fields import id_problem
from agentx_persistence.records._json_values import Json, is_plain
from agentx_persistence.records._refusals import invalid, warn_of_misspelt

R = TypeVar("R", bound="Record")

# The types of values that cannot be changed in place.
_UNCHANGING = frozenset({str, float, bool, type(None)})
_HASHED = _UNCHANGING | {int, tuple, bytes}
# pydantic's parser takes 200 levels. Reading many records puts them into a list, and an export puts
# each into an object.
_DEEPEST = 198


class Generated(str):
    """The name, in `model_fields_set`, of a field whose value the caller did not give.

    It equals the plain name. Copies and pickles of the record keep it.
    """

    __slots__ = ()


class Record(BaseModel):
    """The base class of all records: the wire form, and errors that name the field."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True,
        extra="allow",
        alias_generator=to_camel,
        validate_by_alias=True,
        validate_by_name=True,
        serialize_by_alias=True,
        protected_namespaces=(),
        # An instance of a subclass becomes one of the declared class when the record is made, as it
        # would when it is read back.
        revalidate_instances="subclass-instances",
        hide_input_in_errors=True,
        loc_by_alias=False,
        defer_build=True,
    )
    if not TYPE_CHECKING:  # Hidden from type checkers, which would make it a required argument.
        __pydantic_extra__: dict[str, Json]
        __signature__ = SnakeCaseSignature()

    if TYPE_CHECKING:
        _rules: ClassVar[Rules]

    def __init_subclass__(
        cls,
        *,
        kind: str | None = None,
        generated: tuple[str, ...] | None = None,
        ids: tuple[str, ...] | None = None,
        open_fields: tuple[str, ...] = (),
        foreign: bool | None = None,
        abstract: bool = False,
        **config: Unpack[ConfigDict],
    ) -> None:
        # The rules are arguments of a class, not attributes in its body: pydantic would evaluate
        # their annotations again for each subclass, which takes a third of the time to make it.
        inherited = cls._rules
        reader = cls if cls.__module__.startswith(f"{__package__}.") else inherited.reader
        cls._rules = Rules(
            inherited.kind if kind is None else kind,
            inherited.generated if generated is None else frozenset(generated),
            inherited.ids if ids is None else ids,
            open_fields,
            inherited.foreign if foreign is None else foreign,
            None if abstract else reader,
        )

    if not TYPE_CHECKING:

        def __init__(self, /, **data: Any) -> None:
            try:
                if self.__pydantic_complete__:
                    super().__init__(**data)
                else:
                    Building.alone(partial(super().__init__, **data))
            except ValidationError as error:
                raise invalid(self._rules.kind, error, data) from error
            self.__pydantic_fields_set__.update(self._rules.generated)
            if self.__pydantic_extra__ and not self._rules.foreign:
                warn_of_misspelt(type(self), self.__pydantic_extra__, data)

        # Tells pydantic not to call this constructor for each record that it reads from JSON: that
        # would take 80 % longer.
        __init__.__pydantic_base_init__ = True

        def __setattr__(self, name: str, value: object) -> None:
            raise InvalidRecordError(
                self._rules.kind,
                name,
                "a record does not change; make a changed copy with"
                f" model_copy(update={{{name!r}: …}}), and save that",
            )

        def model_dump(self, **options: Any) -> dict[str, Any]:
            """Return the wire form as a dict: what was absent stays absent."""
            self.__pydantic_fields_set__.update(self._rules.generated)
            return super().model_dump(**{"exclude_unset": True, **options})

        def model_dump_json(self, **options: Any) -> str:
            """Return the wire form, like `to_json`, without checking that it can be read back."""
            self.__pydantic_fields_set__.update(self._rules.generated)
            return super().model_dump_json(**{"exclude_unset": True, **options})

        @classmethod
        def model_rebuild(cls, **options: Any) -> bool | None:
            """Build the class, at its first use: one thread at a time."""
            depth = options.pop("_parent_namespace_depth", 2)
            # Two more frames: this one, and that of `alone`.
            rebuild = partial(super().model_rebuild, _parent_namespace_depth=depth + 2, **options)
            built = Building.alone(rebuild)
            cls.__signature__ = SnakeCaseSignature()  # pydantic has just put its own there
            return built

    def __hash__(self) -> int:
        """Hash what cannot change inside: texts, numbers and times, but no maps and lists."""
        values = [value for value in self.__dict__.values() if type(value) in _HASHED]
        return hash((type(self), *values))

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """Return the record of a mapping. :raises InvalidRecordError: naming the field"""
        try:
            return super().model_validate(obj, **options)
        except ValidationError as error:
            raise invalid(cls._rules.kind, error) from error

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray, **options: Any) -> Self:
        """Return the record of its wire form. :raises InvalidRecordError: naming the field"""
        return cls._read(json_data, **options)._proven()

    @classmethod
    def _read(cls, json_data: str | bytes | bytearray, **options: Any) -> Self:
        """Return the record of its wire form, without proving that it can be given back exactly."""
        try:
            return super().model_validate_json(json_data, **options)
        except ValidationError as error:
            raise invalid(cls._rules.kind, error) from error

    @classmethod
    def model_construct(cls, _fields_set: set[str] | None = None, **values: Any) -> Self:
        """Return a record of these values. :raises InvalidRecordError: naming the field"""
        return super().model_construct(_fields_set, **values)._proven()

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with these changes. :raises InvalidRecordError: naming the field"""
        copy = super().model_copy(deep=deep)
        if not update:
            return copy
        update = {_field_name(type(self), name): value for name, value in update.items()}
        set_before = copy.__pydantic_fields_set__ | self._rules.generated
        values = {
            name: value
            for name, value in copy.__dict__.items()
            if value is not None or name in set_before
        }
        values |= copy.__pydantic_extra__ or {}
        try:
            changed: Self = self.__pydantic_validator__.validate_python({**values, **update})
        except ValidationError as error:
            raise invalid(self._rules.kind, error) from error
        # Other fields stay absent, or `Generated`.
        fields_set = changed.__pydantic_fields_set__
        fields_set.clear()
        fields_set.update(set_before.difference(update), update)
        if not self._rules.foreign:
            warn_of_misspelt(type(self), update, values)
        return changed

    def _updated(self, at: int) -> Self:
        """Return a copy with another `updated_at`, which is not checked."""
        return super().model_copy(update={"updated_at": at})

    @classmethod
    def _patch(cls, change: Mapping[str, Any]) -> dict[str, Any]:
        """Return a change of some fields as what to merge into the wire form; None removes."""
        return dict(change)

    def to_json(self) -> str:
        """Return the wire form: camelCase, known fields in declared order, then the unknown ones.

        :raises InvalidRecordError: naming the field, if reading the result would not give back
            exactly this record. The record was checked when it was made, but the maps and lists
            inside it can have been changed since. And a subclass of the caller's can allow what the
            class that reads it refuses.
        """
        text = self._serialize()
        rules, values = self._rules, self.__dict__
        self._check_ids(rules, values)
        if self.__pydantic_extra__ or not _are_plain(values, rules.open_fields):
            self._prove(text)
        if rules.reader is not type(self):
            self._prove_as_stored(text)
        return text.decode()

    def _proven(self) -> Self:
        self._check_ids(self._rules, self.__dict__)
        self._prove(self._serialize())
        return self

    def _check_ids(self, rules: Rules, values: Mapping[str, Any]) -> None:
        for name in rules.ids:
            value = values.get(name)
            if value is not None and (problem := id_problem(value)):
                raise InvalidRecordError(rules.kind, name, problem)

    def _serialize(self) -> bytes:
        self.__pydantic_fields_set__.update(self._rules.generated)
        try:
            return self.__pydantic_serializer__.to_json(self, exclude_unset=True, warnings=False)
        except (PydanticSerializationError, RecursionError) as error:
            raise self._refusal("record", str(error).partition("\n")[0]) from error

    def _prove(self, text: bytes) -> None:
        """Refuse the record unless reading its wire form gives back exactly this record."""
        try:
            again = self.__pydantic_validator__.validate_json(text)
            # Like `again == self`, which would compare the classes as well and take longer.
            exact = (
                again.__dict__ == self.__dict__
                and again.__pydantic_extra__ == self.__pydantic_extra__
            )
            if text.count(b"[") + text.count(b"{") >= _DEEPEST:
                from_json(b"[[%b]]" % text)
        except (ValidationError, RecursionError) as error:
            raise self._refusal("record", str(error).partition("\n")[0]) from error
        except ValueError as error:
            raise self._refusal("record", "nested too deep") from error
        if not exact:
            field = first_difference(self, again) or "record"
            raise self._refusal(
                field, "cannot be stored exactly: it would be read back as another value"
            )

    def _prove_as_stored(self, text: bytes) -> None:
        """Refuse the record unless the class that will read it, another one, gives it back."""
        again = self._read_back(text)
        if field := first_difference(from_json(text), from_json(again._serialize())):
            raise self._refusal(
                field, "cannot be stored exactly: it would be read back as another value"
            )

    @classmethod
    def _read_back(cls, text: bytes) -> "Record":
        record: Record = cls._rules.reader.model_validate_json(text)
        return record

    def _refusal(self, field: str, reason: str) -> InvalidRecordError:
        try:
            type(self).model_validate(self.model_dump(exclude_unset=True, warnings=False))
        except InvalidRecordError as named:
            return named
        except RecursionError:
            reason = "nested too deep"
        return InvalidRecordError(self._rules.kind, field, reason)


Record._rules = Rules()


def _are_plain(values: Mapping[str, Any], open_fields: Container[str]) -> bool:
    """Return True if all values of a record certainly come back exactly, False if that is not
    certain.
    """
    for name, value in values.items():
        kind = type(value)
        if kind is str or value is None:
            continue
        if kind in _UNCHANGING or (kind is int and -(2**63) <= value < 2**63):
            continue
        if isinstance(value, Record):
            # A key that was added to the unknown fields can be that of a known one.
            plain = not value.__pydantic_extra__ and _are_plain(
                value.__dict__, value._rules.open_fields
            )
        elif kind is tuple:
            plain = all(type(element) is str for element in value)
        else:
            plain = name in open_fields and is_plain(value)
        if not plain:
            return False
    return True


def _field_name(record: type[Record], name: str) -> str:
    """Return the field that has this name, or this one in the wire form; else the name."""
    fields = record.__pydantic_fields__
    if name in fields:
        return name
    return next((field for field, info in fields.items() if info.alias == name), name)


def many(record: type[R]) -> TypeAdapter[list[R]]:
    """Return the adapter that reads a JSON array of these records in one pass."""
    return TypeAdapter(list[record], config={"defer_build": True})  # type: ignore[valid-type]
