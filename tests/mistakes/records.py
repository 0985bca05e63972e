"""Records and their contents."""

from __future__ import annotations

import datetime

from agentx_persistence import (
    ConfigurationError,
    ImageRecord,
    InvalidRecordError,
    ItemRecord,
    RecordConflictError,
    SessionRecord,
    ToolCallMessage,
    UserMessage,
    parse_message,
)
from tests.mistakes.mistake import Row, S

RECORDS: dict[str, Row] = {
    # Records
    "a mapping for a record": (
        lambda p: p.sessions.save({"sessionId": "x"}),
        InvalidRecordError,
        "must be SessionRecord, not dict",
    ),
    "a class for a record": (
        lambda p: p.sessions.save(SessionRecord),
        InvalidRecordError,
        "must be SessionRecord, not the class SessionRecord",
    ),
    "a title that is a number": (
        lambda p: p.sessions.update("s", {"title": 3}),
        InvalidRecordError,
        "title: must be text",
    ),
    "a list as metadata": (
        lambda p: p.sessions.update("s", {"metadata": ["a"]}),
        InvalidRecordError,
        "metadata: must be a mapping",
    ),
    "a datetime as a message's time": (
        lambda p: p.sessions.add_message(
            "s",
            UserMessage(content="x", timestamp=datetime.datetime(2026, 1, 1)),  # type: ignore[arg-type]
        ),
        InvalidRecordError,
        "not a datetime",
    ),
    "bytes as content": (
        lambda p: p.sessions.add_message("s", UserMessage(content=b"hi")),  # type: ignore[arg-type]
        InvalidRecordError,
        "content: must be text or a list of parts",
    ),
    "a datetime in an item": (
        lambda p: p.items.save(
            ItemRecord(namespace=("a",), key="k", value=datetime.datetime.now(datetime.UTC))
        ),
        InvalidRecordError,
        "value: datetime has no exact JSON form",
    ),
    "an id that is too long": (
        lambda p: p.sessions.save(SessionRecord(session_id="x" * 256)),
        InvalidRecordError,
        "1 to 255 characters, not 256",
    ),
    "a text that is no JSON": (
        lambda p: parse_message("hello"),
        InvalidRecordError,
        "is no JSON",
    ),
    "another kind of record": (
        lambda p: p.sessions.save(ImageRecord(container_id="c")),
        InvalidRecordError,
        "must be SessionRecord, not ImageRecord",
    ),
    "a record that is there": (lambda p: p.sessions.create(S), RecordConflictError, "the id 's'"),
    "a field for a change": (
        lambda p: p.sessions.update("s", "title"),
        InvalidRecordError,
        "must be a mapping or a function",
    ),
    "another id": (
        lambda p: p.sessions.update("s", {"session_id": "t"}),
        InvalidRecordError,
        "session_id: cannot change",
    ),
    "a change that returns nothing": (
        lambda p: p.sessions.update("s", lambda record: None),
        InvalidRecordError,
        "must return SessionRecord",
    ),
    "an assignment": (
        lambda p: setattr(p.sessions.get("s"), "title", "x"),
        InvalidRecordError,
        "model_copy",
    ),
    "an empty id": (
        lambda p: p.sessions.save(SessionRecord(session_id="")),
        InvalidRecordError,
        "1 to 255 characters",
    ),
    "white space at an end": (
        lambda p: p.sessions.save(SessionRecord(session_id="s\n")),
        InvalidRecordError,
        "no white space at its start or end",
    ),
    "a lone surrogate": (
        lambda p: p.sessions.add_message("s", UserMessage(content="\ud800")),
        InvalidRecordError,
        "content: a lone surrogate",
    ),
    "a misspelt field": (
        lambda p: p.sessions.add_message("s", UserMessage(contents="x")),  # type: ignore[call-arg]
        InvalidRecordError,
        "content: is missing (did you misspell it as 'contents'?)",
    ),
    "a time as text": (
        lambda p: p.sessions.add_message("s", UserMessage(content="x", timestamp="2026-01-01")),  # type: ignore[arg-type]
        InvalidRecordError,
        "Unix milliseconds",
    ),
    "a fraction of seconds": (
        lambda p: p.sessions.add_message("s", UserMessage(content="x", timestamp=1767225600.5)),  # type: ignore[arg-type]
        InvalidRecordError,
        "not seconds",
    ),
    "no number": (
        lambda p: p.items.save(ItemRecord(namespace=("a",), key="k", value=float("nan"))),
        InvalidRecordError,
        "value: NaN",
    ),
    "no JSON": (
        lambda p: p.items.save(ItemRecord(namespace=("a",), key="k", value={1})),
        InvalidRecordError,
        "value: set has no exact JSON form",
    ),
    "a tool's call without parts": (
        lambda p: p.sessions.add_message("s", ToolCallMessage(tool_call={"name": "x"})),  # type: ignore[arg-type]
        InvalidRecordError,
        "tool_call.id: is missing",
    ),
    "no subtype": (
        lambda p: parse_message({"role": "user", "content": "x"}),
        InvalidRecordError,
        "subtype: is missing; it is one of user, assistant",
    ),
    "no transaction": (lambda p: p.within(None), ConfigurationError, "within"),
}
