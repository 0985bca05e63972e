"""A message as pieces to show: text, thinking, calls and results of tools, and files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from pydantic_core import to_json

from agentx_persistence.records import Message, SessionRecord
from agentx_persistence.records.messages import (
    ErrorMessage,
    OtherMessage,
    ToolCallMessage,
    ToolResultMessage,
)
from agentx_persistence.records.parts import (
    ContentOutput,
    ErrorTextOutput,
    FilePart,
    ImagePart,
    TextOutput,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolResultPart,
    plain_text,
)

Shape = Literal["text", "thinking", "call", "result", "file", "other"]


class Piece(NamedTuple):
    """A piece of a message. `label` is the tool's name, or what a file is."""

    shape: Shape
    text: str
    label: str = ""


def pieces(message: Message) -> Iterator[Piece]:
    """Yield the pieces of the message in their order."""
    if isinstance(message, ToolCallMessage):
        yield from _part(message.tool_call)
    elif isinstance(message, ToolResultMessage):
        yield from _part(message.tool_result)
    elif isinstance(message, OtherMessage):
        text = message.text or _nested_text(message.model_extra)
        yield Piece("text", text) if text else Piece("other", _json(message.model_extra))
    else:
        if isinstance(message, ErrorMessage) and message.error_code:
            yield Piece("other", message.error_code, "error code")
        yield from _content(message.content)


def _content(content: object) -> Iterator[Piece]:
    if isinstance(content, str):
        yield Piece("text", content)
    elif isinstance(content, Iterable):
        for part in content:
            yield from _part(part)


def _part(part: Any) -> Iterator[Piece]:
    if isinstance(part, TextPart):
        yield Piece("text", part.text)
    elif isinstance(part, ThinkingPart):
        yield Piece("thinking", part.reasoning or "")
    elif isinstance(part, ToolCallPart):
        yield Piece("call", _json(part.input), part.name)
    elif isinstance(part, ToolResultPart):
        yield Piece("result", _output(part.output), part.name or part.id)
    elif isinstance(part, ImagePart):
        yield Piece("file", _size(part.data), part.media_type or "image")
    elif isinstance(part, FilePart):
        yield Piece("file", _size(part.data), part.filename or part.media_type or "file")
    else:
        yield Piece("other", _json(part.model_dump()), part.type or "part")


def _output(output: Any) -> str:
    if isinstance(output, TextOutput | ErrorTextOutput):
        return output.value
    if isinstance(output, ContentOutput):
        return "\n".join(
            piece.text if piece.shape == "text" else f"[{piece.label} {piece.text}]"
            for piece in _content(output.value)
        )
    values = output.model_dump()
    return _json(values.get("value", values))


def _nested_text(fields: object) -> str:
    """Return the text of a message of another framework that is kept in a field."""
    if not isinstance(fields, dict):
        return ""
    nested = [value for value in fields.values() if isinstance(value, dict)]
    texts = (plain_text(value.get("content")) or _nested_text(value) for value in nested)
    return next(filter(None, texts), "")


def _size(data: str) -> str:
    """Return the size of base64 data, or the URL."""
    if data.startswith("data:"):
        data = data.partition(",")[2]
    elif data.startswith(("http:", "https:", "file:")):
        return data
    return human_size(len(data.rstrip("=")) * 3 // 4)


def human_size(size: float) -> str:
    """Return a number of bytes as people read it."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def date(millis: int) -> str:
    """Return a time as people read it, in UTC."""
    try:
        return datetime.fromtimestamp(millis / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return str(millis)


def markdown(session: SessionRecord, messages: Iterable[Message]) -> Iterator[str]:
    """Yield the conversation as Markdown, message by message."""
    yield f"# {_line(session.title or session.session_id)}\n\n"
    yield f"Session `{_line(session.session_id)}`, created {date(session.created_at)} UTC\n\n"
    for message in messages:
        yield f"## {_line(message.role)} ({date(message.timestamp)})\n\n"
        for piece in pieces(message):
            yield _markdown(piece)


def _markdown(piece: Piece) -> str:
    if piece.shape == "text":
        return f"{piece.text}\n\n"
    if piece.shape == "thinking":
        return "".join(f"> {line}\n" for line in piece.text.splitlines() or [""]) + "\n"
    if piece.shape == "file":
        return f"*[{_line(piece.label)}, {_line(piece.text)}]*\n\n"
    title = {"call": "call of ", "result": "result of "}.get(piece.shape, "")
    longest = max((len(run) for run in piece.text.split() if set(run) == {"`"}), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{title}`{_line(piece.label)}`\n\n{fence}\n{piece.text}\n{fence}\n\n"


def _line(text: str) -> str:
    return " ".join(text.split())


def _json(value: object) -> str:
    return to_json(value).decode()
