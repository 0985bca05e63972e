"""Sessions: the conversations."""

from agentx_persistence.records._fields import NOW, Id, Millis, Text, id_field
from agentx_persistence.records._json_values import JsonObject
from agentx_persistence.records._record import Record, many


class ForkOrigin(Record, kind="fork origin"):
    """Where a session was forked from: another session, up to and including one message."""

    session_id: Id
    message_id: Id | None = None


class SessionRecord(
    Record,
    kind="session",
    generated=("session_id", "image_id", "container_id", "created_at", "updated_at"),
    ids=("session_id", "image_id", "container_id"),
    open_fields=("metadata",),
):
    """A conversation; it owns messages."""

    session_id: Id = id_field("sess")
    image_id: Id = id_field("img")
    container_id: Id = "default"
    title: Text | None = None
    metadata: JsonObject | None = None
    forked_from: ForkOrigin | None = None
    created_at: Millis = NOW
    updated_at: Millis = NOW


SESSIONS = many(SessionRecord)
