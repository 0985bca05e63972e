"""The messages of a session: one union, told apart by ``subtype``.

`Message` is the type to annotate with; `parse_message` reads any one of them, `MESSAGES` a JSON
array in one pass. A message whose subtype this version does not know is kept whole as
`OtherMessage`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError, from_json

from agentx_persistence.errors import InvalidRecordError
from agentx_persistence.records._building import ready
from agentx_persistence.records._comparison import first_difference
from agentx_persistence.records._fields import NOW, Count, Id, Millis, Text, id_field
from agentx_persistence.records._record import Generated, Record
from agentx_persistence.records._refusals import invalid
from agentx_persistence.records.parts import Content, ToolCallPart, ToolResultPart, plain_text

_SUBTYPES = ("user", "assistant", "tool-call", "tool-result", "error", "system")


class Usage(Record, kind="usage"):
    """Counted tokens, and whatever else the provider reports."""

    input_tokens: Count | None = None
    output_tokens: Count | None = None
    total_tokens: Count | None = None


class MessageRecord(
    Record,
    kind="message",
    generated=("id", "role", "subtype", Generated("timestamp")),
    ids=("id", "parent_id"),
    abstract=True,
):
    """The base class of all messages, for annotations. Make messages with its subclasses."""

    id: Id = id_field("msg")

    @property
    def text(self) -> str:
        """The plain text of the message, without thinking; "" if there is none."""
        return plain_text(getattr(self, "content", None))

    @classmethod
    def _read_back(cls, text: bytes) -> Record:
        for name in ("subtype", "role", "timestamp"):
            if name not in cls.__pydantic_fields__:
                reason = "is not a field of {}; use one of its subclasses, or parse_message"
                raise InvalidRecordError("message", name, reason.format(cls.__name__))
        return parse_message(text)


class UserMessage(MessageRecord):
    role: Literal["user"] = "user"
    subtype: Literal["user"] = "user"
    content: Content
    timestamp: Millis = NOW
    parent_id: Id | None = None


class AssistantMessage(MessageRecord):
    role: Literal["assistant"] = "assistant"
    subtype: Literal["assistant"] = "assistant"
    content: Content | None = None
    timestamp: Millis = NOW
    parent_id: Id | None = None
    usage: Usage | None = None


class ToolCallMessage(MessageRecord):
    role: Literal["assistant"] = "assistant"
    subtype: Literal["tool-call"] = "tool-call"
    tool_call: ToolCallPart
    timestamp: Millis = NOW
    parent_id: Id | None = None


class ToolResultMessage(MessageRecord):
    role: Literal["tool"] = "tool"
    subtype: Literal["tool-result"] = "tool-result"
    tool_result: ToolResultPart
    tool_call_id: Text
    timestamp: Millis = NOW
    parent_id: Id | None = None

    @property
    def text(self) -> str:
        return plain_text(self.tool_result.output)


class ErrorMessage(MessageRecord):
    role: Literal["error"] = "error"
    subtype: Literal["error"] = "error"
    content: Content
    error_code: Text | None = None
    timestamp: Millis = NOW
    parent_id: Id | None = None


class SystemMessage(MessageRecord):
    """Instructions to the model: a system prompt, or a message of the role "developer"."""

    role: Literal["system", "developer"] = "system"
    subtype: Literal["system"] = "system"
    content: Content
    timestamp: Millis = NOW
    parent_id: Id | None = None


def _unknown(subtype: str) -> str:
    """Refuse a known subtype: its own class has refused the message already."""
    if subtype in _SUBTYPES:
        raise PydanticCustomError(
            "known", "'{subtype}' has its own class; use that class", {"subtype": subtype}
        )
    return subtype


class OtherMessage(MessageRecord, generated=("id", Generated("timestamp")), foreign=True):
    """A message of a subtype that this version does not know, kept whole.

    Use it to keep another framework's message exactly: with the name of the framework as subtype.
    """

    role: Text
    subtype: Annotated[Text, AfterValidator(_unknown)]
    timestamp: Millis = NOW
    parent_id: Id | None = None

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            role: str,
            subtype: str,
            id: str = ...,
            timestamp: int = ...,
            parent_id: str | None = None,
            **fields: Any,
        ) -> None: ...
        def __getattr__(self, name: str) -> Any: ...

    @property
    def text(self) -> str:
        """The text of what other frameworks call ``content``, ``parts`` or ``text``; else "".

        If they keep a whole message in ``item`` or ``message``, it is the text of that one.
        """
        fields = self.__pydantic_extra__ or {}
        for found in (fields, fields.get("item"), fields.get("message")):
            if isinstance(found, dict):
                for name in ("content", "parts", "text"):
                    if text := plain_text(found.get(name)):
                        return text
        return ""


Message: TypeAlias = Annotated[
    Annotated[
        UserMessage
        | AssistantMessage
        | ToolCallMessage
        | ToolResultMessage
        | ErrorMessage
        | SystemMessage,
        Field(discriminator="subtype"),
    ]
    | OtherMessage,
    Field(union_mode="left_to_right"),
]

MESSAGES: TypeAdapter[list[Message]] = TypeAdapter(list[Message], config={"defer_build": True})


def parse_message(value: Mapping[str, Any] | str | bytes | bytearray) -> Message:
    """Return the message of a mapping or of JSON, whichever class it is.

    :raises InvalidRecordError: naming the field
    """
    if isinstance(value, str | bytes | bytearray):
        try:
            value = from_json(value, allow_inf_nan=False)
        except ValueError as error:
            raise InvalidRecordError("message", "record", f"is no JSON: {error}") from error
    if not isinstance(value, Mapping):
        reason = f"must be a mapping or JSON text, not {type(value).__name__}"
        raise InvalidRecordError("message", "record", reason)
    if "subtype" not in value:
        known = ", ".join(_SUBTYPES)
        reason = f"is missing; it is one of {known}, or the name of another framework"
        raise InvalidRecordError("message", "subtype", reason)
    try:
        (message,) = ready(MESSAGES).validate_python([dict(value)])
    except ValidationError as error:
        raise invalid("message", error, value, listed=True) from error
    return message


def difference(stored: Message, given: Message) -> str | None:
    """Return the first field in which two messages with one id differ, or ``None``: then they are
    the same message.

    The field is a path of wire names, such as ``content.0.text``. A null in a declared field equals
    an absent one, and a `timestamp` that the caller did not give equals any. All else is compared
    as JSON, in which 1, 1.0 and true differ; the order of keys does not matter.
    """
    names = given.model_fields_set
    generated = "timestamp" not in names or any(type(name) is Generated for name in names)
    if given._rules.reader is not type(given):
        given = parse_message(given.to_json())
    return first_difference(stored, given, ignored="timestamp" if generated else "")
