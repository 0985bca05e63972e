"""Appending on PostgreSQL: the session changes and gets its messages in one statement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Select,
    String,
    Text,
    any_,
    bindparam,
    func,
    literal_column,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.sql import ClauseElement

from agentx_persistence._sql import tables
from agentx_persistence._sql.appending import Append, Appending
from agentx_persistence._sql.engine import Database
from agentx_persistence._sql.rows import COLUMNS, VALUES, entry_values
from agentx_persistence.storage import Entry

# The columns of a message besides its session and position.
TYPES: dict[str, Any] = {
    "message_id": Text,
    "role": Text,
    "subtype": Text,
    "timestamp": BigInteger,
    "size": Integer,
    "body": Text,
}


class PostgresqlAppending(Appending):
    """Appends in a single statement: one round trip, and a transaction of its own."""

    def append_new(self, call: Append) -> int | None:
        if not fits(self.database, call.entries):
            return super().append_new(call)
        values = call.values()
        conditions = call.conditions()
        if len(call.entries) == 1:
            values.update(zip(VALUES, entry_values(call.entries[0]), strict=True))
            statement = self.database.statement(
                ("append one", *conditions), lambda: _append_one(self.reserving(*conditions))
            )
        else:
            values |= listed_values(call.entries)
            statement = self.database.statement(
                ("append many", *conditions), lambda: _append_many(self.reserving(*conditions))
            )
        positions = self.database.fetch(in_binary(statement.sql), statement.bind(values))
        if not positions:
            return None
        return max(int(position) for (position,) in positions)


def fits(database: Database, entries: Sequence[Entry]) -> bool:
    """Return whether one statement can carry all the entries, even with 4 bytes a character."""
    return len(entries) == 1 or (
        4 * sum(len(entry.text) for entry in entries) < database.flavour.row_limit
    )


def listed_values(entries: Sequence[Entry]) -> dict[str, list[Any]]:
    """Return for each of `VALUES` a list with those of all entries."""
    columns = zip(*map(entry_values, entries), strict=True)
    return {name: list(column) for name, column in zip(VALUES, columns, strict=False)}


def in_binary(sql: str) -> str:
    """Return the statement with its arrays of texts in binary format.

    In text format psycopg escapes their elements one by one.
    """
    return sql.replace(")s::TEXT[]", ")b::TEXT[]")


def in_array(column: ColumnElement[Any], name: str) -> ColumnElement[bool]:
    """Return the condition that the column has one of the texts in this parameter, an array."""
    return column == any_(bindparam(name, type_=ARRAY(String)))


def rows_of_each(
    columns: Sequence[ColumnElement[Any]],
    conditions: Sequence[ColumnElement[bool]],
    column: ColumnElement[Any],
    name: str,
) -> Select[Any]:
    """Return the query of rows whose column has one of the ids in this parameter, which joins them
    by U+001F: psycopg takes long to send an array.

    Each id is searched for by itself. If all are searched for together, PostgreSQL may filter all
    rows that meet the other conditions, if it thinks that these are few. OFFSET prevents that it
    merges the two queries.
    """
    ids = func.string_to_array(bindparam(name, type_=Text), literal_column("chr(31)"))
    # In a subquery, because PostgreSQL otherwise estimates their number anew in each call, and so
    # plans the statement each time.
    wanted = (
        func.unnest(select(ids).scalar_subquery())
        .table_valued("id", name="wanted")
        .render_derived()
    )
    one = select(*columns).where(*conditions, column == wanted.c.id)
    row = one.offset(literal_column("0")).lateral("row")
    return select(*row.c).select_from(wanted.join(row, true()))


def unnested() -> Any:
    """Return the new entries as a table, whose column `ordinal` counts them from 1 up."""
    return (
        func.unnest(*(bindparam(name, type_=ARRAY(type)) for name, type in TYPES.items()))
        .table_valued(*TYPES, with_ordinality="ordinal", name="new")
        .render_derived()
    )


def _reserved(reserving: Any) -> Any:
    columns = tables.sessions.c
    return reserving.returning(columns.session_id, columns.message_count).cte("reserved")


def _append_one(reserving: Any) -> ClauseElement:
    reserved = _reserved(reserving)
    row = select(
        reserved.c.session_id,
        reserved.c.message_count,
        *(bindparam(name, type_=type) for name, type in TYPES.items()),
    )
    return insert(tables.messages).from_select(COLUMNS, row).returning(tables.messages.c.position)


def _append_many(reserving: Any) -> ClauseElement:
    reserved = _reserved(reserving)
    new = unnested()
    rows = select(
        reserved.c.session_id,
        reserved.c.message_count - bindparam("number") + new.c.ordinal,
        *(new.c[name] for name in TYPES),
    ).select_from(reserved.join(new, true()))
    return insert(tables.messages).from_select(COLUMNS, rows).returning(tables.messages.c.position)
