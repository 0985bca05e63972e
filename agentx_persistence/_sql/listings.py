"""Listings of documents: which rows, from which index, and where the next page starts."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Column, ColumnElement, Select, Table, bindparam, func, literal_column, select

from agentx_persistence._sql.connections import Rows
from agentx_persistence._sql.documents import is_there, key_values, search_values
from agentx_persistence._sql.engine import Database
from agentx_persistence._sql.statements import new
from agentx_persistence._sql.tables import TABLES
from agentx_persistence.storage import ITEMS, Kind, Listing, Place, Query, Stored
from agentx_persistence.storage.kinds import SEPARATOR, item_key

_NAMESPACE_END = SEPARATOR * 2
# Joins the columns of a row. No key has it, and the text, which may have it, is the last of them.
_JOINT = "\x1e"
# The row of a document whose columns together are longer than the server's max_allowed_packet.
_NOT_JOINED = (None,)
# Columns hold times negated, so that ascending order begins with the latest.
_COMPARISONS: dict[str, Callable[[Any, Any], ColumnElement[bool]]] = {
    "since": operator.le,
    "until": operator.gt,
    "from": operator.ge,
    "to": operator.lt,
    "is": operator.eq,
}


class _Shape(NamedTuple):
    """The parts of a query that determine its SQL; the other parts are bound as values."""

    kind: Kind
    fields: tuple[str, ...]
    order: str
    bounds: tuple[str, ...]
    after: bool
    limited: bool
    size: int | None  # if the limit is a part of the SQL


class Listings:
    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, kind: Kind, query: Query) -> Listing:
        size = query.limit if query.limit in self._database.flavour.planned_sizes else None
        shape, values = _parse(kind, query, size)
        if query.limit is not None:
            values["limit"] = query.limit + 1
        rows = self._rows(shape, values, joined=self._database.flavour.joins_values)
        shown = rows if query.limit is None else rows[: query.limit]
        if kind is ITEMS:
            keys = [item_key(*row[-3:-1]) for row in shown]
        else:
            keys = [row[-2] for row in shown]
        documents = [
            new(Stored, (key, row[-1], int(row[0]), ""))
            for key, row in zip(keys, shown, strict=True)
        ]
        if len(shown) == len(rows) or not shown:
            return Listing(documents, None)
        time = 0 if query.order == "key" else int(shown[-1][len(_times_of(query.order)) - 1])
        place = Place(time // 1000 if query.order == "active" else time, keys[-1])
        return Listing(documents, place)

    def _rows(self, shape: _Shape, values: dict[str, Any], *, joined: bool) -> Rows:
        """Return for each document its times, the columns of its key, and its text."""
        statement = self._database.statement(
            ("find", joined, *shape), lambda: self._listing(shape, joined=joined)
        )
        rows = self._database.fetch(statement.sql, statement.bind(values))
        if not joined:
            return rows
        if _NOT_JOINED in rows:
            return self._rows(shape, values, joined=False)
        last = len(_times_of(shape.order)) + len(TABLES[shape.kind].primary_key)
        return [row[0].split(_JOINT, last) for row in rows]

    def count(self, kind: Kind, query: Query) -> int:
        shape, values = _parse(kind, query)
        statement = self._database.statement(("count", *shape), lambda: self._count(shape))
        if query.limit is not None:
            values["limit"] = query.limit
        count: int = self._database.fetch(statement.sql, statement.bind(values))[0][0]
        return count

    def _count(self, shape: _Shape) -> Select[Any]:
        if not shape.limited:
            return self._chosen(shape, select(func.count()).select_from(TABLES[shape.kind]))
        rows = self._chosen(shape, select(next(iter(TABLES[shape.kind].primary_key))))
        return select(func.count()).select_from(rows.limit(bindparam("limit")).subquery())

    def _listing(self, shape: _Shape, *, joined: bool) -> Select[Any]:
        table = TABLES[shape.kind]
        times = [table.c[name] for name in _times_of(shape.order)]
        text = self._database.flavour.body(table.c.body)
        columns: list[ColumnElement[Any]] = [*times, *table.primary_key, text]
        if joined:
            columns = [func.concat_ws(bindparam("joint", _JOINT), *columns)]
        order = _order(table, shape)
        listing = _sorted(self._chosen(shape, select(*columns)), order, shape)
        if shape.limited:
            listing = listing.limit(bindparam("limit"))
        if shape.size is None:
            return listing
        # PostgreSQL keeps one plan for all values. It reads an index in order because of the number
        # in the SQL if listings are long on average, and because of the parameter if they are
        # short. With the number alone, it would read and sort the whole of a longer listing.
        page = listing.add_columns(*(c for c in order if not c.primary_key)).subquery("page")
        rows = _sorted(select(*[*page.c][: len(columns)]), [page.c[c.name] for c in order], shape)
        return rows.limit(literal_column(str(shape.size + 1)))

    def _chosen(self, shape: _Shape, rows: Select[Any]) -> Select[Any]:
        table = TABLES[shape.kind]
        order = _order(table, shape)
        conditions: list[ColumnElement[bool]] = [
            table.c[field] == bindparam(field) for field in shape.fields
        ]
        for bound in shape.bounds:
            name, _, comparison = bound.rpartition("_")
            conditions.append(_COMPARISONS[comparison](table.c[name], bindparam(bound)))
        flavour = self._database.flavour
        if shape.after:
            places: list[ColumnElement[Any]] = [bindparam(f"after_{c.name}") for c in order]
            reverse = shape.order == "oldest"
            conditions.append(flavour.comes_after(order, places, reverse=reverse))
        rows = rows.where(*conditions, *is_there(table))
        if shape.order != "key" and (shape.fields or shape.after or shape.bounds):
            index = "_".join(("ix", table.name, *shape.fields, *(c.name for c in order)))
            rows = flavour.from_index(rows, table, index)
        return rows


def _sorted(rows: Select[Any], order: Sequence[ColumnElement[Any]], shape: _Shape) -> Select[Any]:
    return rows.order_by(*(c.desc() if shape.order == "oldest" else c for c in order))


def _order(table: Table, shape: _Shape) -> list[Column[Any]]:
    keys = list(table.primary_key)
    if shape.order == "key":
        return keys
    time = table.c.latest if shape.order == "active" else table.c.newest
    return [time, *(key for key in keys if key.name not in shape.fields)]


def _parse(kind: Kind, query: Query, size: int | None = None) -> tuple[_Shape, dict[str, Any]]:
    fields = search_values(kind, dict(query.where))
    values: dict[str, Any] = dict(fields)
    bounds = _prefix(kind, query.prefix) if query.order == "key" else _times(query)
    values |= bounds
    if query.after is not None:
        place = key_values(kind, query.after.key)
        values |= {f"after_{name}": value for name, value in place.items()}
        values["after_newest"] = -query.after.time
        values["after_latest"] = -query.after.time
    limited = query.limit is not None
    shape = _Shape(
        kind, tuple(fields), query.order, tuple(bounds), query.after is not None, limited, size
    )
    return shape, values


def _times(query: Query) -> dict[str, int]:
    column, since, until = "newest", query.since, query.until
    if since is None and until is None:
        return {}
    if query.order == "active":
        column = "latest"
        since = since if since is None else since // 1000
        until = until if until is None else -(-until // 1000)
    bounds = {f"{column}_since": since, f"{column}_until": until}
    return {name: -time for name, time in bounds.items() if time is not None}


def _prefix(kind: Kind, prefix: str) -> dict[str, str]:
    columns = [column.name for column in TABLES[kind].primary_key]
    bounds: dict[str, str] = {}
    if len(columns) == 2 and _NAMESPACE_END in prefix:
        namespace, prefix = prefix.split(_NAMESPACE_END)
        bounds["namespace_is"] = namespace + SEPARATOR
        columns = columns[1:]
    if prefix:
        # MySQL pads the shorter text with spaces for a comparison, and a space is greater than the
        # U+001F that ends an element.
        partial = len(columns) == 2 and not prefix.endswith(SEPARATOR)
        least = "\x01" if partial else ""
        bounds[f"{columns[0]}_from"] = prefix + least
        if end := _end(prefix):
            bounds[f"{columns[0]}_to"] = end + least
    return bounds


def _end(prefix: str) -> str:
    """Return the lowest text above all texts with this prefix; "" if there is none."""
    for index in range(len(prefix) - 1, -1, -1):
        following = ord(prefix[index]) + 1
        if 0xD800 <= following < 0xE000:  # surrogates, which UTF-8 cannot encode
            following = 0xE000
        if following <= 0x10FFFF:
            return prefix[:index] + chr(following)
    return ""


def _times_of(order: str) -> tuple[str, ...]:
    """Return the columns of the times that a listing reads; the last one is that of the order."""
    return ("updated_at",) if order == "active" else ("updated_at", "created_at")
