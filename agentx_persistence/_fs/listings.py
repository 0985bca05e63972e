"""The order of listings, in SQL and in Python."""

from __future__ import annotations

from typing import Any

from agentx_persistence._fs.records import FIELDS, Row
from agentx_persistence.storage import Kind, Place, Query


def rank(query: Query, row: Row) -> tuple[Any, ...]:
    """Return the part of the row by which the query sorts."""
    if query.order == "key":
        return (row[0],)
    return row[2 if query.order == "active" else 1], row[0]


def place(query: Query, row: Row) -> Place:
    *time, key = rank(query, row)
    return Place(-time[0] if time else 0, key)


def listed(kind: Kind, query: Query, row: Row) -> bool:
    """Return whether the query includes a document with this row."""
    unit, time = (1000, -row[2]) if query.order == "active" else (1, -row[1])
    after = None if query.after is None else (-query.after.time, query.after.key)
    if query.order == "key":
        return row[0].startswith(query.prefix) and (after is None or row[0] > after[1])
    return (
        all(row[3 + FIELDS[kind].index(name)] == value for name, value in query.where.items())
        and (query.since is None or time >= query.since // unit)
        and (query.until is None or time < -(-query.until // unit))
        and (
            after is None
            or (rank(query, row) < after if query.order == "oldest" else rank(query, row) > after)
        )
    )


def conditions_of(query: Query) -> tuple[str, str, list[Any]]:
    """Return an SQL condition, an order, and the values of the condition."""
    where, order, prefix, since, until, after, _ = query
    time = "active" if order == "active" else "time"
    conditions, values = [f"{name} = ?" for name in where], list[Any](where.values())
    columns, compared, direction = f"({time}, key)", ">", f"{time}, key"
    if order == "key":
        columns, direction = "key", "key"
        if prefix:
            conditions.append("key >= ? AND key < CAST(? AS TEXT)")
            values += [prefix, prefix.encode() + b"\xff"]  # above all bytes of UTF-8
    elif order == "oldest":
        compared, direction = "<", "time DESC, key DESC"
    unit = 1000 if order == "active" else 1
    if since is not None:
        conditions.append(f"{time} <= ?")
        values.append(-(since // unit))
    if until is not None:
        conditions.append(f"{time} > ?")
        values.append(until // -unit)
    if after is not None:
        conditions.append(f"{columns} {compared} {'?' if order == 'key' else '(?, ?)'}")
        values += [after.key] if order == "key" else [-after.time, after.key]
    return " AND ".join([*conditions, "true"]), direction, values
