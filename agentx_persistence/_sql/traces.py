"""Looks for rows that no listing and no reading returns; `tables` describes them."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Table, select

from agentx_persistence._sql.documents import DELETED
from agentx_persistence._sql.engine import Database
from agentx_persistence._sql.tables import TABLES, messages
from agentx_persistence.storage import IMAGES, SESSIONS, Kind, Trace


def traces(database: Database, kind: Kind) -> Iterator[Trace]:
    """Yield the images and sessions whose deletion was interrupted, and the sessions that have
    messages but no row of their own."""
    if kind not in (IMAGES, SESSIONS):
        return
    table = TABLES[kind]
    key = table.c[kind.key]
    hidden = database.statement(
        (kind.name, "hidden"), lambda: select(key).where(table.c.revision == DELETED)
    )
    yield from _found(database, hidden.sql, hidden.bind({}), kind, table)
    if kind is SESSIONS:
        column = messages.c.session_id
        orphans = database.statement(
            ("messages", "orphans"),
            lambda: select(column).where(~select(key).where(key == column).exists()).distinct(),
        )
        yield from _found(database, orphans.sql, orphans.bind({}), kind, messages)


def _found(
    database: Database, sql: str, parameters: object, kind: Kind, table: Table
) -> Iterator[Trace]:
    where = f"{database.flavour.place}, table {table.name}, {kind.key} ="
    for (key,) in database.fetch(sql, parameters):
        yield Trace(key, f"{where} {key!r}")
