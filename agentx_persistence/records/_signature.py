"""What `inspect.signature` says of a record: its fields as attributes are called, in snake_case."""

from __future__ import annotations

from typing import Any


class SnakeCaseSignature:
    """Stands in for pydantic's own, which has the camelCase of the wire form."""

    def __get__(self, record: object, owner: Any) -> Any:
        from inspect import Parameter, Signature  # for what asks for it only

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
