"""Whether two messages are the same one."""

from __future__ import annotations

from agentx_persistence.records.messages import Message


def difference(stored: Message, given: Message) -> str | None:
    """Return the first field in which the two differ, or ``None`` if they are the same message."""
    if type(stored) is not type(given):
        return "subtype"
    one, other = stored.model_dump(), given.model_dump()
    for field in [*one, *other]:
        if one.get(field) != other.get(field):
            return field
    return None
