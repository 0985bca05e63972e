"""What messages are made of: the parts of their content, and the outputs of tools.

A part of a type that this version does not know, or of a known type in another shape, is kept whole
as `OtherPart`, and so is such an output, as `OtherOutput`.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import Field, GetCoreSchemaHandler
from pydantic_core import PydanticCustomError, core_schema

from agentx_persistence.records._fields import Count, Text
from agentx_persistence.records._json_values import Json
from agentx_persistence.records._record import Record


class _Typed(Record, kind="message part", generated=("type",)):
    """A piece of a message, told apart by its ``type``."""


class TextPart(_Typed):
    type: Literal["text"] = "text"
    text: Text


class ThinkingPart(_Typed):
    type: Literal["thinking"] = "thinking"
    reasoning: Text | None = None
    token_count: Count | None = None


class ImagePart(_Typed):
    """`data` is base64 text or a URL."""

    type: Literal["image"] = "image"
    data: Text
    media_type: Text | None = None
    name: Text | None = None


class FilePart(_Typed):
    """`data` is base64 text or a URL."""

    type: Literal["file"] = "file"
    data: Text
    media_type: Text | None = None
    filename: Text | None = None


class ToolCallPart(_Typed, open_fields=("input",)):
    """`input` is any JSON: mostly a mapping, but models also send texts, cut off or empty."""

    type: Literal["tool-call"] = "tool-call"
    id: Text
    name: Text
    input: Json


class OtherPart(_Typed, generated=(), foreign=True):
    """A part of another framework, kept whole: of an unknown type, of none, or of a known type in
    another shape."""

    type: Text | None = None

    if TYPE_CHECKING:

        def __init__(self, *, type: str | None = None, **fields: Any) -> None: ...
        def __getattr__(self, name: str) -> Any: ...


class _Listed:
    """A list or a tuple, kept as a list."""

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        (item,) = source.__args__
        items = core_schema.list_schema(handler.generate_schema(item), strict=True)
        return core_schema.json_or_python_schema(
            json_schema=items,
            python_schema=core_schema.no_info_before_validator_function(cls.validate, items),
        )

    @staticmethod
    def validate(value: object) -> object:
        if isinstance(value, list | tuple):
            return list(value)
        raise PydanticCustomError("listed", "must be a list of parts")


# In the content of a tool's output. A tool result in there is an `OtherPart`.
OutputPart: TypeAlias = Annotated[
    Annotated[
        TextPart | ThinkingPart | ImagePart | FilePart | ToolCallPart, Field(discriminator="type")
    ]
    | OtherPart,
    Field(union_mode="left_to_right"),
]


class TextOutput(_Typed):
    type: Literal["text"] = "text"
    value: Text


class JsonOutput(_Typed, open_fields=("value",)):
    type: Literal["json"] = "json"
    value: Json


class ErrorTextOutput(_Typed):
    type: Literal["error-text"] = "error-text"
    value: Text


class ErrorJsonOutput(_Typed, open_fields=("value",)):
    type: Literal["error-json"] = "error-json"
    value: Json


class ExecutionDeniedOutput(_Typed):
    type: Literal["execution-denied"] = "execution-denied"
    reason: Text | None = None


class ContentOutput(_Typed):
    type: Literal["content"] = "content"
    value: Annotated[Sequence[OutputPart], _Listed]


class OtherOutput(_Typed, generated=(), foreign=True):
    """An output of another framework, kept whole: of an unknown type, of none, or of a known type
    in another shape."""

    type: Text | None = None

    if TYPE_CHECKING:

        def __init__(self, *, type: str | None = None, **fields: Any) -> None: ...
        def __getattr__(self, name: str) -> Any: ...


ToolOutput: TypeAlias = Annotated[
    Annotated[
        TextOutput
        | JsonOutput
        | ErrorTextOutput
        | ErrorJsonOutput
        | ExecutionDeniedOutput
        | ContentOutput,
        Field(discriminator="type"),
    ]
    | OtherOutput,
    Field(union_mode="left_to_right"),
]


class ToolResultPart(_Typed):
    type: Literal["tool-result"] = "tool-result"
    id: Text
    name: Text | None = None
    output: ToolOutput


Part: TypeAlias = Annotated[
    Annotated[
        TextPart | ThinkingPart | ImagePart | FilePart | ToolCallPart | ToolResultPart,
        Field(discriminator="type"),
    ]
    | OtherPart,
    Field(union_mode="left_to_right"),
]
Parts: TypeAlias = Annotated[Sequence[Part], _Listed]
Content: TypeAlias = Annotated[Text | Parts, Field(union_mode="left_to_right")]


def plain_text(content: object) -> str:
    """Return the text of a content, or of an output, without thinking; "" if there is none."""
    if isinstance(content, str):
        return content
    if isinstance(content, TextOutput | ErrorTextOutput):
        return content.value
    if isinstance(content, ContentOutput):
        return plain_text(content.value)
    if isinstance(content, Iterable) and not isinstance(content, dict | Record):
        return "".join(map(_text_of_part, content))
    return ""


def _text_of_part(part: object) -> str:
    if isinstance(part, TextPart):
        return part.text
    if isinstance(part, str):
        return part
    fields = (part.model_extra or {}) | {"type": part.type} if isinstance(part, OtherPart) else part
    if not isinstance(fields, dict):
        return ""
    # OpenAI has the type "output_text", for example. Parts of Gemini and Bedrock have no type.
    kind, text = fields.get("type"), fields.get("text")
    texts = kind is None or (isinstance(kind, str) and kind.endswith("text"))
    return text if texts and isinstance(text, str) and fields.get("thought") is not True else ""
