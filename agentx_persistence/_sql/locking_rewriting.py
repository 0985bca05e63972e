"""Rewriting on MySQL, MariaDB and SQLite: messages are read and replaced in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, bindparam, literal_column, select
from sqlalchemy.engine.interfaces import DBAPICursor as Cursor

from agentx_persistence._sql import tables
from agentx_persistence._sql.documents import DELETED
from agentx_persistence._sql.engine import DuplicateError
from agentx_persistence._sql.rewriting import FirstAttempt, Rewriting
from agentx_persistence._sql.rows import CHUNK, State
from agentx_persistence.errors import RecordNotFoundError
from agentx_persistence.storage import Entry, Head, Slice, Window

_sessions, _messages = tables.sessions.c, tables.messages.c


class LockingRewriting(Rewriting):
    """Reads the tail in the transaction that replaces it, and locks it there.

    A read before the transaction would not save a statement. On MySQL, it would also switch the
    autocommit mode twice. On SQLite, another connection would read, and that one fetches its pages
    anew after each write.
    """

    def exchange(
        self,
        log: str,
        window: Window,
        entries: Sequence[Entry],
        at: int,
        token: str,
        accept: Callable[[Slice], None],
    ) -> bool:
        self.check_sizes(log, entries)
        first = FirstAttempt(self.database)
        statement = self.database.statement(
            ("lock tail", window.after is not None, window.last),
            lambda: _locking(window, self.database.flavour.body(tables.messages.c.body)),
        )
        values = statement.bind({"session": log, "after": window.after, "most": CHUNK + 1})

        def work(cursor: Cursor) -> bool:
            cursor.execute(statement.sql, values)
            rows = cursor.fetchall()
            if not rows:
                raise RecordNotFoundError("session", log)
            _, _, count, generation, kept = rows[0]
            if generation.rpartition(".")[0] == token:
                return True
            first.check(log, State(count, generation, token))
            if kept is None:
                raise RecordNotFoundError("message", str(window.after))
            if len(rows) > CHUNK:
                return False
            kept = max(kept, 0)
            tail = sorted((row for row in rows if row[0] is not None), key=itemgetter(0))
            self.reading.require_whole(log, tail, kept + 1, count)
            accept(Slice([row[1] for row in tail], kept + 1, Head(count, generation)))
            if tail or not window.last:
                new = f"{token}.{len(tail)}"
                self.rows.change(cursor, log, kept + len(entries), at, new)
                if tail:
                    self.rows.delete_range(cursor, log, kept, count)
                if entries:
                    self.rows.insert(cursor, log, kept, entries)
            return True

        try:
            return self.database.write(work, first.was_undone)
        except DuplicateError:
            return False  # the kept part, or a leftover (see `tables`), has one of the ids


def _locking(window: Window, text: ColumnElement[Any]) -> Select[Any]:
    """Return the query of position and text of the entries in the window, of the head, and of the
    number of entries that are kept. It locks what it reads.

    A subquery for that number would read what was there before the query waited for the lock.
    """
    kept: Any = literal_column("0")
    rows: Any = tables.sessions
    if window.last:
        kept = _sessions.message_count - literal_column(str(window.last))
    elif window.after is not None:
        bound = tables.messages.alias("bound")
        kept = bound.c.position
        is_bound = and_(
            bound.c.session_id == _sessions.session_id,
            bound.c.message_id == bindparam("after"),
            bound.c.position <= _sessions.message_count,
        )
        rows = rows.outerjoin(bound, is_bound)
    is_cut = and_(
        _messages.session_id == _sessions.session_id,
        _messages.position > kept,
        _messages.position <= _sessions.message_count,
    )
    head = _sessions.message_count, _sessions.generation
    return (
        select(_messages.position, text, *head, kept.label("kept"))
        .select_from(rows.outerjoin(tables.messages, is_cut))
        .where(_sessions.session_id == bindparam("session"), _sessions.revision != DELETED)
        .limit(bindparam("most"))
        .with_for_update()
    )
