"""Sessions: the conversations."""

from __future__ import annotations

from agentx_persistence.records._fields import Id, Millis, id_field, now_field
from agentx_persistence.records._record import Record, many


class SessionRecord(Record):
    """The thread of an image; it owns messages."""

    record_kind = "session"
    _generated = frozenset({"session_id", "created_at", "updated_at"})
    _id_fields = ("session_id", "image_id", "container_id")

    session_id: Id = id_field("sess")
    image_id: Id
    container_id: Id
    created_at: Millis = now_field()
    updated_at: Millis = now_field()


# Reads a JSON array of sessions in one pass.
SESSIONS = many(SessionRecord)
