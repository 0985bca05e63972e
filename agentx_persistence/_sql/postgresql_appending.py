"""Appending on PostgreSQL: the session changes and gets its messages in one statement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    delete,
    func,
    literal_column,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY, insert

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
                ("append one", self.database.locks_first, *conditions),
                lambda: self._inserting(_row, conditions),
            )
        else:
            values |= listed_values(call.entries)
            statement = self.database.statement(
                ("append many", self.database.locks_first, *conditions),
                lambda: self._inserting(_rows, conditions),
            )
        positions = self.database.fetch(in_binary(statement.sql), statement.bind(values))
        if not positions:
            return None
        return max(int(position) for (position,) in positions)

    def _inserting(self, select_rows: Callable[[Any], Any], conditions: tuple[bool, bool]) -> Any:
        columns = tables.sessions.c
        reserving = self.reserving(*conditions)
        reserved = reserving.returning(columns.session_id, columns.message_count).cte("reserved")
        rows = select_rows(reserved)
        position = tables.messages.c.position
        adding = insert(tables.messages).from_select(COLUMNS, rows).returning(position)
        if not self.database.locks_first:
            return adding
        # If others have removed leftovers (see `tables`) since the transaction's snapshot began, it
        # would see them beside the new messages. Deleting them here makes the append fail then.
        count = reserved.c.message_count
        leftovers = delete(tables.messages).where(
            tables.messages.c.session_id == reserved.c.session_id,
            position > count - bindparam("number"),
            position <= count,
        )
        return adding.add_cte(leftovers.returning(position).cte("leftovers"))


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

    In text format psycopg escapes their elements one by one. Parameters are like ``%s`` in the
    statements of this package's engines, and like ``%(body)s`` in those of most callers.
    """
    return sql.replace("%s::TEXT[]", "%b::TEXT[]").replace(")s::TEXT[]", ")b::TEXT[]")


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

    Each id is searched for separately. If all are searched for together, PostgreSQL may filter all
    rows that meet the other conditions, if it estimates that these are few. OFFSET keeps it from
    merging the two queries.
    """
    ids = func.string_to_array(bindparam(name, type_=Text), literal_column("chr(31)"))
    # This is a subquery, because PostgreSQL otherwise estimates the number of ids in each call, and
    # so plans the statement each time.
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


def _row(reserved: Any) -> Any:
    return select(
        reserved.c.session_id,
        reserved.c.message_count,
        *(bindparam(name, type_=type) for name, type in TYPES.items()),
    )


def _rows(reserved: Any) -> Any:
    new = unnested()
    return select(
        reserved.c.session_id,
        reserved.c.message_count - bindparam("number") + new.c.ordinal,
        *(new.c[name] for name in TYPES),
    ).select_from(reserved.join(new, true()))
