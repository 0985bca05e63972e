"""The head of a session's log, and the rule by which a message is in the log.

A log is one document for each message, and a head in the session's document: `log` (which
incarnation of the session this is), `term` (how often something was cut off) and `count`. A message
is in the log if its position is at most `count`: that is the whole rule for readers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bson import Int64, ObjectId

from agentx_persistence._mongodb.database import Database
from agentx_persistence.documents.store import SESSIONS
from agentx_persistence.errors import CorruptRecordError, RecordNotFoundError

# Documents that are being deleted have no `place` any more.
HEAD = {"log": 1, "term": 1, "count": 1, "place": 1}


@dataclass(frozen=True, slots=True)
class Head:
    log: ObjectId
    term: int
    count: int

    def is_past(self, other: Head) -> bool:
        """Tell whether something was cut off, or the session made again, between the two."""
        return (self.log, self.term) != (other.log, other.term)


def new_head() -> dict[str, Any]:
    """Return the fields of the head of an empty log."""
    return {"log": ObjectId(), "term": Int64(0), "count": Int64(0)}


def head_of(database: Database, session_id: str, row: Mapping[str, Any] | None) -> Head:
    """:raises RecordNotFoundError: if there is no such session"""
    if row is None or "place" not in row:
        raise RecordNotFoundError("session", session_id)
    try:
        return Head(row["log"], row["term"], row["count"])
    except KeyError as error:
        where = f"{database.where(SESSIONS, session_id)}, field {error}"
        raise CorruptRecordError("session", session_id, where) from error


def latest_head(database: Database, session_id: str) -> Head:
    """Return what those who write have to start from.

    :raises RecordNotFoundError: if there is no such session
    """
    row = database.rows(SESSIONS, latest=True).find_one({"_id": session_id}, HEAD)
    return head_of(database, session_id, row)
