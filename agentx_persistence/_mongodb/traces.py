"""Finding all that is stored of documents, hidden or not, and of logs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from agentx_persistence._mongodb.scope import Scope
from agentx_persistence.storage import SESSIONS, Kind, Trace

_PAGE = 10_000


def traces(scope: Scope, kind: Kind) -> Iterator[Trace]:
    """Yield each document, and of sessions each that has messages."""
    collections = [(scope.rows(kind), "_id")]
    if kind is SESSIONS:
        collections.append((scope.messages(), "session_id"))
    for rows, field in collections:
        last: str | None = ""
        while last is not None:
            keys = scope.run(lambda _, rows=rows, field=field, last=last: _keys(rows, field, last))
            for key in keys:
                yield Trace(key, f"mongodb, {rows.full_name}, {field} {key!r}")
            last = keys[-1] if keys else None


def _keys(rows: Any, field: str, after: str) -> list[str]:
    """Return the values after one, in order. A condition on text finds no other values."""
    found = rows.aggregate(
        [
            {"$match": {field: {"$gt": after}}},
            {"$sort": {field: 1}},
            {"$group": {"_id": f"${field}"}},
            {"$sort": {"_id": 1}},
            {"$limit": _PAGE},
        ]
    )
    return [row["_id"] for row in found]
