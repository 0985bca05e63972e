"""Messages as entries of a log."""

from __future__ import annotations

from collections.abc import Sequence

from agentx_persistence.errors import InvalidRecordError, RecordConflictError
from agentx_persistence.records import Message, MessageRecord, difference
from agentx_persistence.repositories._arguments import named
from agentx_persistence.storage import Entry

# `Entry(…)` calls this from a Python function, which takes longer than all of `entry_of` except
# making the JSON.
_new = tuple.__new__


def entry_of(message: Message) -> Entry:
    """Return the message's id, its wire form, and the values that SQL users query by.

    :raises InvalidRecordError: if it is no message, or cannot be given back exactly
    """
    if not isinstance(message, MessageRecord):
        reason = f"must be a message, not {named(message)}; see parse_message"
        raise InvalidRecordError("message", "message", reason)
    text = message.to_json()
    values = message.__dict__
    return _new(Entry, (values["id"], text, values["role"], values["subtype"], values["timestamp"]))


def unique_entries(messages: Sequence[Message]) -> dict[str, Entry]:
    """Return the entries of the messages by their ids; the same message may be given twice.

    :raises RecordConflictError: if different messages have the same id
    """
    if isinstance(messages, MessageRecord) or not isinstance(messages, Sequence):
        reason = f"must be a list of messages, not {named(messages)}"
        raise InvalidRecordError("argument", "messages", reason)
    first: dict[str, Message] = {}
    entries: dict[str, Entry] = {}
    for message in messages:
        entry = entry_of(message)
        if entry.id in first:
            if field := difference(first[entry.id], message):
                raise RecordConflictError("message", entry.id, field=field)
        else:
            first[entry.id], entries[entry.id] = message, entry
    return entries
