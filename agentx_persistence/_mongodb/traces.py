"""Reads the keys of all that is stored: of documents, hidden ones included, and of messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from agentx_persistence._mongodb.clients import Rows
from agentx_persistence._mongodb.scope import Scope
from agentx_persistence.storage import SESSIONS, Kind, Trace

_PAGE = 10_000


def traces(scope: Scope, kind: Kind) -> Iterator[Trace]:
    """Yield each document, and for sessions also each session id that messages name."""
    yield from _traces(scope, lambda: scope.rows(kind), "_id")
    if kind is SESSIONS:
        yield from _traces(scope, scope.messages, "session_id")


def _traces(scope: Scope, rows: Callable[[], Rows], field: str) -> Iterator[Trace]:
    last: str | None = ""
    while last is not None:
        name, keys = scope.run(partial(_keys, rows, field, last))
        for key in keys:
            yield Trace(key, f"mongodb, {name}, {field} {key!r}")
        last = keys[-1] if keys else None


def _keys(rows: Callable[[], Rows], field: str, after: str, again: bool) -> tuple[str, list[str]]:
    """Return the collection's name, and the next values of the field, in order.

    `$gt` with a text finds texts only, so a damaged value of another type is left out.
    """
    found = rows().aggregate(
        [
            {"$match": {field: {"$gt": after}}},
            {"$sort": {field: 1}},
            {"$group": {"_id": f"${field}"}},
            {"$sort": {"_id": 1}},
            {"$limit": _PAGE},
        ]
    )
    return rows().full_name, [row["_id"] for row in found]
