"""The messages of a session: one union, told apart by ``subtype``.

`Message` is the type to annotate and to read with; `MESSAGES` reads a JSON array of any of them in
one pass. A message whose subtype this version does not know is kept whole as `OtherMessage`, and so
is a part or an output of an unknown type, as `OtherPart` and `OtherOutput`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, Strict, TypeAdapter
from pydantic_core import PydanticCustomError

from agentx_persistence.records._fields import Count, Id, Millis, Text, id_field, now_field
from agentx_persistence.records._json_values import Json, JsonObject
from agentx_persistence.records._record import Record


def _unknown(known: frozenset[str]) -> AfterValidator:
    """Keep the fallback from taking in what a known class has just refused."""

    def check(tag: str) -> str:
        if tag in known:
            raise PydanticCustomError("known_tag", "does not fit here as '{tag}'", {"tag": tag})
        return tag

    return AfterValidator(check)


class _Typed(Record):
    """A piece of a message, told apart by its ``type``."""

    record_kind = "message part"
    _generated = frozenset({"type"})


class TextPart(_Typed):
    type: Literal["text"] = "text"
    text: Text


class ThinkingPart(_Typed):
    type: Literal["thinking"] = "thinking"
    reasoning: Text
    token_count: Count | None = None


class ImagePart(_Typed):
    """`data` is base64 text or a URL."""

    type: Literal["image"] = "image"
    data: Text
    media_type: Text
    name: Text | None = None


class FilePart(_Typed):
    """`data` is base64 text or a URL."""

    type: Literal["file"] = "file"
    data: Text
    media_type: Text
    filename: Text | None = None


class ToolCallPart(_Typed):
    _open_fields = frozenset({"input"})

    type: Literal["tool-call"] = "tool-call"
    id: Text
    name: Text
    input: JsonObject


_PART_TYPES = frozenset({"text", "thinking", "image", "file", "tool-call", "tool-result"})


class OtherPart(_Typed):
    """A part of a type that this version does not know, kept whole."""

    type: Annotated[Text, _unknown(_PART_TYPES)]


UserPart = Annotated[
    Annotated[TextPart | ImagePart | FilePart, Field(discriminator="type")] | OtherPart,
    Field(union_mode="left_to_right"),
]
AssistantPart = Annotated[
    Annotated[TextPart | ThinkingPart | FilePart | ToolCallPart, Field(discriminator="type")]
    | OtherPart,
    Field(union_mode="left_to_right"),
]


class TextOutput(_Typed):
    type: Literal["text"] = "text"
    value: Text


class JsonOutput(_Typed):
    _open_fields = frozenset({"value"})

    type: Literal["json"] = "json"
    value: Json


class ErrorTextOutput(_Typed):
    type: Literal["error-text"] = "error-text"
    value: Text


class ErrorJsonOutput(_Typed):
    _open_fields = frozenset({"value"})

    type: Literal["error-json"] = "error-json"
    value: Json


class ExecutionDeniedOutput(_Typed):
    type: Literal["execution-denied"] = "execution-denied"
    reason: Text | None = None


class ContentOutput(_Typed):
    type: Literal["content"] = "content"
    value: Annotated[list[UserPart], Strict()]


class OtherOutput(_Typed):
    """An output of a type that this version does not know, kept whole."""

    type: Annotated[
        Text,
        _unknown(
            frozenset({"text", "json", "error-text", "error-json", "execution-denied", "content"})
        ),
    ]


ToolOutput = Annotated[
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
    name: Text
    output: ToolOutput


class Usage(Record):
    """Counted tokens, and whatever else the provider reports."""

    record_kind = "usage"

    input_tokens: Count | None = None
    output_tokens: Count | None = None
    total_tokens: Count | None = None


class MessageRecord(Record):
    record_kind = "message"
    _generated = frozenset({"id", "role", "subtype", "timestamp"})
    _id_fields = ("id", "parent_id")

    id: Id = id_field("msg")


class UserMessage(MessageRecord):
    role: Literal["user"] = "user"
    subtype: Literal["user"] = "user"
    content: Annotated[
        Text | Annotated[list[UserPart], Strict()], Field(union_mode="left_to_right")
    ]
    timestamp: Millis = now_field()
    parent_id: Id | None = None


class AssistantMessage(MessageRecord):
    role: Literal["assistant"] = "assistant"
    subtype: Literal["assistant"] = "assistant"
    content: Annotated[
        Text | Annotated[list[AssistantPart], Strict()], Field(union_mode="left_to_right")
    ]
    timestamp: Millis = now_field()
    parent_id: Id | None = None
    usage: Usage | None = None


class ToolCallMessage(MessageRecord):
    role: Literal["assistant"] = "assistant"
    subtype: Literal["tool-call"] = "tool-call"
    tool_call: ToolCallPart
    timestamp: Millis = now_field()
    parent_id: Id | None = None


class ToolResultMessage(MessageRecord):
    role: Literal["tool"] = "tool"
    subtype: Literal["tool-result"] = "tool-result"
    tool_result: ToolResultPart
    tool_call_id: Text
    timestamp: Millis = now_field()
    parent_id: Id | None = None


class ErrorMessage(MessageRecord):
    role: Literal["error"] = "error"
    subtype: Literal["error"] = "error"
    content: Text
    error_code: Text | None = None
    timestamp: Millis = now_field()
    parent_id: Id | None = None


class OtherMessage(MessageRecord):
    """A message of a subtype that this version does not know, kept whole."""

    _generated = frozenset({"id", "timestamp"})

    role: Text
    subtype: Annotated[
        Text, _unknown(frozenset({"user", "assistant", "tool-call", "tool-result", "error"}))
    ]
    timestamp: Millis = now_field()
    parent_id: Id | None = None


Message = Annotated[
    Annotated[
        UserMessage | AssistantMessage | ToolCallMessage | ToolResultMessage | ErrorMessage,
        Field(discriminator="subtype"),
    ]
    | OtherMessage,
    Field(union_mode="left_to_right"),
]

MESSAGES: TypeAdapter[list[Message]] = TypeAdapter(list[Message], config={"defer_build": True})
