"""The error for a field that is wrong, and the warning for one that is misspelt."""

from __future__ import annotations

import warnings
from collections.abc import Container, Iterable
from functools import lru_cache
from importlib import import_module

from pydantic import BaseModel, ValidationError

from agentx_persistence.errors import InvalidRecordError
from agentx_persistence.records._building import Building
from agentx_persistence.records._json_values import LONE_SURROGATE

# pydantic's name, in the place of an error, for the branch of a union that takes `_fields.Text`.
_TEXT_BRANCH = "constrained-str"
_MAPPING = "must be a mapping"
_WHOLE = "must be a whole number"
_MEANT = {
    "missing": "is missing",
    "string_type": "must be text",
    "string_unicode": LONE_SURROGATE,
    "int_type": _WHOLE,
    "int_from_float": _WHOLE,
    "dict_type": _MAPPING,
    "model_type": _MAPPING,
    "model_attributes_type": _MAPPING,
    "union_tag_not_found": "is missing",
}


def invalid(
    kind: str, error: ValidationError, given: Iterable[str] = (), *, listed: bool = False
) -> InvalidRecordError:
    """Return the error for the field that was meant.

    :param given: the names that the caller gave
    :param listed: whether the record was the only one of a list
    """
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    # A union reports an error for each branch. The deepest one is of the branch that was meant.
    told = max(errors, key=lambda entry: len(entry["loc"]))
    steps = _steps(told["loc"])
    field = ".".join(steps[1:] if listed else steps)
    reason = _MEANT.get(told["type"], told["msg"])
    if told["type"] == "string_type" and told["loc"][-1] == _TEXT_BRANCH:
        reason = "must be text or a list of parts"
    if told["type"] == "missing" and (meant := nearest(field, given)):
        reason += f" (did you misspell it as {meant!r}?)"
    return InvalidRecordError(kind, field or "record", reason)


def _steps(place: tuple[int | str, ...]) -> list[str]:
    """Return the fields and indexes on the way, without the branches of unions."""
    steps: list[str] = []
    branch = False
    for step in place:
        # pydantic names the schema of a branch, as "list[…]".
        if step == _TEXT_BRANCH or (isinstance(step, str) and "[" in step):
            continue
        if branch:
            branch = False  # the tag or the class of a part or an output
            continue
        steps.append(str(step))
        branch = isinstance(step, int) or step == "output"
    return steps


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name of which this one is probably a misspelling."""
    # A module stays locked in a child that is forked while another thread imports it.
    difflib = Building.alone(lambda: import_module("difflib"))  # late: few names are misspelt
    found = difflib.get_close_matches(name, known, n=1, cutoff=0.81)
    return found[0] if found else None


class MisspeltFieldWarning(UserWarning):
    """A keyword argument of a record is no field, but resembles one. It is kept as it is."""


def warn_of_misspelt(record: type[BaseModel], names: Iterable[str], given: Container[str]) -> None:
    """Warn the caller of the caller of each name that is probably a misspelt field.

    :param given: names that were given; such a field is not the one that was meant
    """
    for name in names:
        meant = _misspelt_field(record, name)
        if meant and meant not in given:
            message = f"{record.__name__} has no field {name!r}: did you mean {meant!r}?"
            warnings.warn(message, MisspeltFieldWarning, stacklevel=3)


@lru_cache(maxsize=1024)
def _misspelt_field(record: type[BaseModel], name: str) -> str | None:
    fields = record.__pydantic_fields__
    return None if name in fields else nearest(name, fields)
