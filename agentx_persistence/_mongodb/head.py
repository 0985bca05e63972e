"""The head of a log: its fields in the document of the session. `log.py` explains them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bson import Int64, ObjectId

from agentx_persistence._mongodb.database import Row
from agentx_persistence.storage import Found, Head

FIELDS = ("log", "term", "count", "generation", "pending", "held", "place")
HEAD = dict.fromkeys(FIELDS, 1)
ROW = {"_id": 0, "log": 1, "term": 1, "position": 1, "message_id": 1, "text": 1}


@dataclass(frozen=True, slots=True)
class LogHead:
    log: ObjectId
    term: int
    count: int
    generation: str
    pending: Mapping[str, Any] | None = None
    held: Mapping[str, Any] | None = None

    @property
    def public(self) -> Head:
        return Head(int(self.count), self.generation)

    def is_past(self, other: LogHead | None) -> bool:
        """Return whether anything other than simple appends happened between the two heads."""
        return other is None or (self.log, self.term) != (other.log, other.term)

    def only_grew(self, before: LogHead) -> bool:
        """Return whether only appends happened since `before`."""
        return self.log == before.log and self.generation == before.generation

    def holds(self, row: Row) -> bool:
        return bool(row["log"] == self.log and row["position"] <= self.count)


def new_head(generation: str, log: ObjectId | None = None, count: int = 0) -> Row:
    """Return the fields of the head of a new log."""
    return {
        "log": log or ObjectId(),
        "term": Int64(0),
        "count": Int64(count),
        "generation": generation,
    }


def text_of(row: Row) -> str:
    """Return the stored text; for a damaged one, a text that cannot be parsed as a record."""
    text = row.get("text")
    if isinstance(text, bytes):
        return text.decode(errors="surrogateescape")
    return text if isinstance(text, str) else ""


def found_of(head: LogHead, rows: Mapping[str, Row]) -> Found:
    there = {id: (int(row["position"]), text_of(row)) for id, row in rows.items()}
    return Found(head.public, there)
