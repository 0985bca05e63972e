"""Copying messages into new sessions."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, bindparam, delete, insert, literal_column, select
from sqlalchemy.engine.interfaces import DBAPICursor as Cursor

from agentx_persistence._sql import tables
from agentx_persistence._sql.documents import Documents
from agentx_persistence._sql.engine import Database, DuplicateError
from agentx_persistence._sql.flavour import Flavour
from agentx_persistence._sql.rows import COLUMNS, LogRows, State, Walk
from agentx_persistence._sql.windows import ends_before, entry_count, found_place, visible
from agentx_persistence.storage import Document

_sessions = tables.sessions.c


class Forking:
    def __init__(self, database: Database, documents: Documents, rows: LogRows) -> None:
        self._database, self._documents, self._rows = database, documents, rows

    def fork(self, log: str, through: str | None, document: Document) -> int | None:
        row = self._documents.checked_session(document)
        if log == document.key:  # the copy would be created first, and then found as the original
            self._database.write(lambda cursor: self._rows.lock_visible(cursor, log))
            return None
        count, again = 0, False

        def work(cursor: Cursor) -> int:
            nonlocal count
            count = self._copy(cursor, log, through, row, again)
            return count

        for _ in range(self._database.attempts):
            try:
                return self._database.write(work)
            except DuplicateError:
                taken = self._taken(row["session_id"])
            if taken is not None:
                # An earlier attempt made the session, if it has the revision or the generation of
                # this call. Others may have changed one of them since, and the number of messages.
                made = row["revision"] in (taken.revision, taken.generation)
                return count if made else None
            again = True
        raise self._database.refused("session", document.key)

    def _taken(self, key: str) -> State | None:
        """Return the state of the session that has the key, or ``None`` if there is none.

        If the session is being deleted, delete the rest of it first.
        """
        state: State | None = None

        def work(cursor: Cursor) -> bool:
            nonlocal state
            state = self._rows.lock(cursor, key)
            if state is None or state.revision:
                return True
            if self._rows.clear(cursor, key, 0, Walk()):
                statement = self._database.statement(
                    "delete session",
                    lambda: delete(tables.sessions).where(
                        _sessions.session_id == bindparam("session")
                    ),
                )
                cursor.execute(statement.sql, statement.bind({"session": key}))
            return False

        self._rows.in_chunks(work)
        return state

    def _copy(
        self, cursor: Cursor, log: str, through: str | None, row: dict[str, Any], again: bool
    ) -> int:
        key = row["session_id"]
        if self._database.locks_first:
            self._rows.lock(cursor, key)
        self._documents.insert(cursor, row)
        if again:
            # If another program has deleted the session's row, its messages can still be there.
            self._rows.delete_range(cursor, key, 0, self._rows.top(cursor, key))
        statement = self._database.statement(
            ("copy messages", through is None),
            lambda: _copying(self._database.flavour, through is None),
        )
        values = {"session": log, "message": through, "key": key}
        cursor.execute(statement.sql, statement.bind(values))
        count: int = cursor.rowcount
        if count:
            self._rows.change(cursor, key, count, row["updated_at"])
        else:
            state = self._rows.lock_visible(cursor, log)
            if through is not None:
                self._rows.position(cursor, log, through, state.count)
        return count


def _copying(flavour: Flavour, whole: bool) -> Any:
    source = tables.messages.alias("source")
    rows = select(
        bindparam("key", type_=tables.IdText).label("session_id"),
        *(source.c[name] for name in COLUMNS[1:]),
    ).where(source.c.session_id == bindparam("session"))
    end: ColumnElement[int] | None = None
    if flavour.finds_bounds_by_join:
        count: ColumnElement[int] = _sessions.message_count
        rows = rows.where(*visible())
        if not whole:
            last, conditions = found_place("message", count)
            rows, end = rows.where(*conditions), last + literal_column("1")
    else:
        count = entry_count()
        if not whole:
            last, conditions = found_place("message", count)
            end = select(last).where(*conditions).scalar_subquery() + literal_column("1")
    rows = rows.where(*ends_before(flavour, source.c.position, count, end))
    rows = flavour.from_index(rows, source, "PRIMARY")
    return insert(tables.messages).from_select(COLUMNS, rows)
