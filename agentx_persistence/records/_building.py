"""Building the classes of records at their first use; their signatures."""

from __future__ import annotations

import os
from threading import RLock
from typing import Any


class Building:
    """One lock for building the schemas of all records.

    pydantic before 2.14 builds a class twice if two threads use it first, and the second one takes
    away what the first one is using.
    """

    lock = RLock()

    @classmethod
    def renew(cls) -> None:
        """In a forked child, replace the lock: the thread that held it is not there."""
        cls.lock = RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=Building.renew)


class SnakeCaseSignature:
    """The `inspect.signature` of a record: its fields in snake_case.

    pydantic's own has the camelCase of the wire form.
    """

    def __get__(self, record: object, owner: Any) -> Any:
        from inspect import Parameter, Signature  # imported late: few ask for a signature

        parameters = [
            Parameter(
                name,
                Parameter.KEYWORD_ONLY,
                annotation=field.annotation,
                default=Parameter.empty if field.is_required() else field.get_default(),
            )
            for name, field in owner.__pydantic_fields__.items()
        ]
        return Signature([*parameters, Parameter("data", Parameter.VAR_KEYWORD, annotation=Any)])
