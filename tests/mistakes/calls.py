"""Calls on sessions and messages, and reading."""

from __future__ import annotations

import asyncio
import datetime
import uuid
from typing import Any

from agentx_persistence import (
    InvalidRecordError,
    RecordConflictError,
    RecordNotFoundError,
    SessionRecord,
    UserMessage,
)
from tests.mistakes.mistake import M, Row, S


async def _async_with(persistence: Any) -> None:
    async with persistence:
        pass


CALLS: dict[str, Row] = {
    # Messages
    "one message for many": (
        lambda p: p.sessions.add_messages("s", M),
        InvalidRecordError,
        "messages: must be a list of messages, not UserMessage",
    ),
    "many for one": (lambda p: p.sessions.add_message("s", [M]), InvalidRecordError, "not list"),
    "a mapping for a message": (
        lambda p: p.sessions.add_message("s", {"role": "user", "content": "x"}),
        InvalidRecordError,
        "parse_message",
    ),
    "text for a message": (
        lambda p: p.sessions.add_message("s", "hi"),
        InvalidRecordError,
        "not str",
    ),
    "arguments in the wrong order": (
        lambda p: p.sessions.add_message(M, "s"),
        InvalidRecordError,
        "id: must be a string, not UserMessage",
    ),
    "the record for its id": (
        lambda p: p.sessions.add_message(S, M),
        InvalidRecordError,
        "id: must be a string, not SessionRecord",
    ),
    "an absent session": (
        lambda p: p.sessions.add_message("absent", M),
        RecordNotFoundError,
        "no session with id 'absent'",
    ),
    "create=True": (
        lambda p: p.sessions.add_message("s", M, create=True),
        InvalidRecordError,
        "must be SessionRecord, not bool",
    ),
    "another session to create": (
        lambda p: p.sessions.add_message("s", M, create=SessionRecord()),
        InvalidRecordError,
        "create: must be the session 's'",
    ),
    "a class for a message": (
        lambda p: p.sessions.add_message("s", UserMessage),
        InvalidRecordError,
        "not the class UserMessage",
    ),
    "a generator of messages": (
        lambda p: p.sessions.add_messages("s", (each for each in [M])),
        InvalidRecordError,
        "must be a list of messages, not generator",
    ),
    "a number as text": (
        lambda p: p.sessions.add_message("s", M, expected="1"),
        InvalidRecordError,
        "expected: must be a whole number",
    ),
    "another message of this id": (
        lambda p: p.sessions.add_message("s", UserMessage(id="m", content="y")),
        RecordConflictError,
        "the two differ in content",
    ),
    "an edit of an absent message": (
        lambda p: p.sessions.replace_message("s", UserMessage(id="no", content="y")),
        RecordNotFoundError,
        "no message with id 'no'",
    ),
    "a fork into an id": (
        lambda p: p.sessions.fork("s", "t"),
        InvalidRecordError,
        "new: must be SessionRecord, not str",
    ),
    "a fork into itself": (
        lambda p: p.sessions.fork("s", S),
        RecordConflictError,
        "another session has the id 's'",
    ),
    "a cut after an absent message": (
        lambda p: p.sessions.truncate_after("s", "no"),
        RecordNotFoundError,
        "no message with id 'no'",
    ),
    # Reading
    "before=3": (
        lambda p: p.sessions.get_messages("s", before=3),
        InvalidRecordError,
        "give the id of a message",
    ),
    "limit=5": (lambda p: p.sessions.get_messages("s", limit=5), TypeError, "'limit'"),
    "first and last": (
        lambda p: p.sessions.get_messages("s", first=1, last=1),
        InvalidRecordError,
        "cannot be given together",
    ),
    "a negative number": (
        lambda p: p.sessions.get_messages("s", last=-1),
        InvalidRecordError,
        "last: must be a whole number from 0",
    ),
    "one id for many": (lambda p: p.sessions.find_many("s"), InvalidRecordError, "session ids"),
    "a UUID": (
        lambda p: p.sessions.get(uuid.uuid4()),
        InvalidRecordError,
        "must be a string, not UUID",
    ),
    "a number as id": (
        lambda p: p.sessions.get(5),
        InvalidRecordError,
        "must be a string, not int",
    ),
    "numbers as ids": (
        lambda p: p.sessions.find_many([1, 2]),
        InvalidRecordError,
        "must be a string, not int",
    ),
    "lists as ids": (
        lambda p: p.sessions.find_many([["s"]]),
        InvalidRecordError,
        "must be a string, not list",
    ),
    "one key for many": (
        lambda p: p.items.find_many("key"),
        InvalidRecordError,
        "keys: must be pairs of a namespace and a key, not str",
    ),
    "keys without namespaces": (
        lambda p: p.items.find_many(["key"]),
        InvalidRecordError,
        "keys: each must be a pair of a namespace and a key",
    ),
    "a number as owner": (
        lambda p: p.sessions.find_all(container_id=42),
        InvalidRecordError,
        "must be a string, not int",
    ),
    "a message for its id": (
        lambda p: p.sessions.truncate_after("s", M),
        InvalidRecordError,
        "must be a string, not UserMessage",
    ),
    "session and message in the wrong order": (
        lambda p: p.sessions.get_message("m", "s"),
        RecordNotFoundError,
        "no session with id 'm'",
    ),
    "seconds with a fraction": (
        lambda p: p.sessions.find_all(since=1767225600.5),
        InvalidRecordError,
        "since: must be a time in Unix milliseconds",
    ),
    "the position for a message": (
        lambda p: p.sessions.rewrite("s", after=1),
        InvalidRecordError,
        "must be a string, not int",
    ),
    "a negative limit": (
        lambda p: p.sessions.find_all(limit=-1),
        InvalidRecordError,
        "limit: must be a whole number from 0",
    ),
    "a page's size as text": (
        lambda p: p.sessions.find_page(size="10"),
        InvalidRecordError,
        "size: must be a whole number from 1",
    ),
    "an async with": (lambda p: asyncio.run(_async_with(p)), TypeError, "asynchronous context"),
    "None": (lambda p: p.sessions.get(None), InvalidRecordError, "must be a string"),
    "an unknown order": (
        lambda p: p.sessions.find_all(order="latest"),
        InvalidRecordError,
        "one of 'newest', 'oldest', 'active'",
    ),
    "activity of all": (
        lambda p: p.sessions.find_all(order="active"),
        InvalidRecordError,
        "'active' lists by container_id",
    ),
    "a datetime without a zone": (
        lambda p: p.sessions.find_all(until=datetime.datetime(2026, 1, 1)),
        InvalidRecordError,
        "Unix milliseconds",
    ),
    "a datetime": (
        lambda p: p.sessions.find_all(since=datetime.datetime.now(datetime.UTC)),
        InvalidRecordError,
        "Unix milliseconds",
    ),
    "a cursor of one's own": (
        lambda p: p.sessions.find_page(cursor="3"),
        InvalidRecordError,
        "pass `Page.next_cursor` unchanged",
    ),
    "an empty page": (lambda p: p.sessions.find_page(size=0), InvalidRecordError, "from 1 to"),
    "a namespace as text": (
        lambda p: p.items.get("user-42", "k"),
        InvalidRecordError,
        "namespace: must be a tuple of texts",
    ),
    "an empty prefix": (
        lambda p: p.items.find_page(namespace_prefix=()),
        InvalidRecordError,
        "at least one element",
    ),
    "items of everybody": (
        lambda p: p.items.find_page(),
        InvalidRecordError,
        "give either a namespace or a namespace_prefix",
    ),
}
