"""The fields by which listings are ordered, and the filters of queries.

Each document has a field `place`, and a session also has `active`. Both are texts. Sorted by code
point, `place` gives the order "newest" (backwards: "oldest"), and `active` the order "active". So
each page is one range of one index. A document that is being deleted has neither field, so that no
listing contains it.
"""

from __future__ import annotations

from typing import Any

from agentx_persistence.storage import Query

Range = dict[str, str]

_LATEST = 2**53
_FURTHEST = 10**17 - 1
_LAST_CHARACTER, _BEFORE_SURROGATES, _AFTER_SURROGATES = "\U0010ffff", "\ud7ff", "\ue000"


def place(time: int, key: str) -> str:
    """Return the value of `place` (with a time in milliseconds) or `active` (in seconds)."""
    return f"{_number(time)} {key}"


def _number(time: int) -> str:
    return f"{min(max(_LATEST - time, 0), _FURTHEST):017d}"


def filter_of(query: Query) -> dict[str, Any]:
    """Return MongoDB's filter for the documents of the query."""
    if query.order == "key":
        return {"_id": _keys(query), "place": {"$gt": ""}}
    order = order_of(query)
    return {**query.where, order: _times(query)}


def order_of(query: Query) -> str:
    return {"key": "_id", "active": "active"}.get(query.order, "place")


def _times(query: Query) -> Range:
    since, until, after = query.since, query.until, query.after
    if query.order == "active":
        since = None if since is None else since // 1000
        until = None if until is None else -(-until // 1000)
    times: Range = {"$gt": ""}
    if until is not None:
        times["$gt"] = _number(until - 1)
    if since is not None:
        times["$lt"] = _number(since - 1)
    if after is not None:
        last = place(*after)
        if query.order == "oldest":
            times["$lt"] = min(last, times.get("$lt", last))
        else:
            times["$gt"] = max(last, times["$gt"])
    return times


def _keys(query: Query) -> Range:
    keys = {"$gte": query.prefix}
    if (end := _end_of(query.prefix)) is not None:
        keys["$lt"] = end
    if query.after is not None and query.after.key >= query.prefix:
        del keys["$gte"]
        keys["$gt"] = query.after.key
    return keys


def prefix_range(prefix: str) -> Range:
    """Return the range of the keys that begin with the prefix."""
    return _keys(Query(order="key", prefix=prefix))


def _end_of(prefix: str) -> str | None:
    """Return the lowest text above all texts with this prefix, or ``None`` if there is none."""
    begin = prefix.rstrip(_LAST_CHARACTER)
    if not begin:
        return None
    last = begin[-1]
    # Surrogates cannot be encoded in UTF-8.
    after = _AFTER_SURROGATES if last == _BEFORE_SURROGATES else chr(ord(last) + 1)
    return begin[:-1] + after
