"""Keyword arguments that resemble a field."""

from __future__ import annotations

import warnings
from collections.abc import Container, Iterable
from functools import lru_cache

from pydantic import BaseModel

from agentx_persistence.records._refusals import nearest


class MisspeltFieldWarning(UserWarning):
    """A keyword argument of a record is no field, but resembles one. It is kept as it is."""


def warn_of_misspelt(record: type[BaseModel], names: Iterable[str], given: Container[str]) -> None:
    """Warn the caller of the caller of each name that is probably a misspelt field.

    :param given: names that were given; such a field is not the one that was meant
    """
    for name in names:
        meant = _misspelt_field(record, name)
        if meant and meant not in given:
            message = f"{record.__name__} has no field {name!r}: is {meant!r} meant?"
            warnings.warn(message, MisspeltFieldWarning, stacklevel=3)


@lru_cache(maxsize=1024)
def _misspelt_field(record: type[BaseModel], name: str) -> str | None:
    fields = record.__pydantic_fields__
    return None if name in fields else nearest(name, fields)
