"""Appending messages."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from sqlalchemy import BigInteger, bindparam, update
from sqlalchemy.engine.interfaces import DBAPICursor as Cursor

from agentx_persistence._sql import tables
from agentx_persistence._sql.documents import DELETED, Documents
from agentx_persistence._sql.engine import Database, DuplicateError
from agentx_persistence._sql.reading import Reading
from agentx_persistence._sql.rows import LogRows
from agentx_persistence.errors import RecordNotFoundError
from agentx_persistence.storage import Document, Entry, Found, Head


class Append:
    """What one call appends, and under which conditions."""

    __slots__ = ("at", "create", "entries", "expected", "generation", "log")

    def __init__(
        self,
        log: str,
        entries: Sequence[Entry],
        at: int,
        create: Document | None,
        expected: int | None,
        generation: str | None,
    ) -> None:
        self.log, self.entries, self.at, self.create = log, entries, at, create
        self.expected, self.generation = expected, generation

    def accepts(self, head: Head) -> bool:
        return self.expected in (None, head.count) and self.generation in (None, head.generation)

    def conditions(self) -> tuple[bool, bool]:
        return self.expected is not None, self.generation is not None

    def values(self) -> dict[str, Any]:
        return {
            "session": self.log,
            "number": len(self.entries),
            "at": self.at,
            "latest": tables.latest(self.at),
            "expected": self.expected,
            "generation": self.generation,
        }


class Appending:
    """Appends messages. A driver overrides `append_new` if its database needs fewer round trips."""

    def __init__(
        self, database: Database, documents: Documents, rows: LogRows, reading: Reading
    ) -> None:
        self.database, self._documents, self._rows = database, documents, rows
        self._reading = reading

    def append(self, call: Append) -> int | Found:
        check_size = self.database.flavour.check_size
        for entry in call.entries:
            check_size("message", entry.id, (call.log, entry.id, entry.text))
        if call.entries:
            taken = False
            try:
                count = self.append_new(call)
            except DuplicateError:
                count, taken = None, True
            if count is not None:
                return count
            # If no id is taken and the call brings a session to create, this session is most likely
            # missing. `_append_with_care` creates it, and makes the same checks. A lookup in a
            # snapshot of the caller's transaction may not see what has taken the id.
            if not self.database.reads_with_locks and (taken or call.create is None):
                try:
                    found = self._reading.lookup(call.log, [entry.id for entry in call.entries])
                except RecordNotFoundError:
                    if call.create is None:
                        raise
                else:
                    if found.there or not call.accepts(found.head):
                        return found
        return self._append_with_care(call)

    def append_new(self, call: Append) -> int | None:
        """Append entries whose ids are new to a session that exists; return the new count.

        Return ``None`` if there is no such session or its log is not as the call expects.

        :raises DuplicateError: if one of the ids is not new; nothing was written
        """

        def work(cursor: Cursor) -> int | None:
            count = self._reserve(cursor, call)
            if count is not None:
                self._rows.insert(cursor, call.log, count - len(call.entries), call.entries)
            return count

        return self.database.write(work)

    def _reserve(self, cursor: Cursor, call: Append) -> int | None:
        statement = self.database.statement(
            ("reserve positions", *call.conditions()),
            lambda: self.database.flavour.returning_count(
                self.reserving(*call.conditions()), tables.sessions.c.message_count
            ),
        )
        cursor.execute(statement.sql, statement.bind(call.values()))
        return self.database.flavour.count_after(cursor)

    def reserving(self, expected: bool, generation: bool) -> Any:
        """Return the UPDATE that adds to the session's count and so reserves the positions.

        :param expected: only if the log has the expected number of messages
        :param generation: only if the log has the expected generation
        """
        columns, flavour = tables.sessions.c, self.database.flavour
        reserve = update(tables.sessions).where(
            columns.session_id == bindparam("session"), columns.revision != DELETED
        )
        if expected:
            reserve = reserve.where(columns.message_count == bindparam("expected"))
        if generation:
            reserve = reserve.where(columns.generation == bindparam("generation"))
        return reserve.values(
            message_count=flavour.added(columns.message_count, bindparam("number")),
            updated_at=flavour.later(columns.updated_at, bindparam("at", type_=BigInteger)),
            latest=flavour.earlier(columns.latest, bindparam("latest", type_=BigInteger)),
        )

    def _append_with_care(self, call: Append) -> int | Found:
        row = call.create and self._documents.checked_session(call.create)
        for attempt in range(self.database.attempts):
            work = partial(self._careful, call=call, row=row, again=attempt > 0)
            # The error means that another call has created the session meanwhile, or that an
            # unfinished deletion has left messages with these ids or positions. The next attempt
            # sees the session, or removes the messages.
            with suppress(DuplicateError):
                return self.database.write(work)
        raise self.database.refused("session", call.log)

    def _careful(
        self, cursor: Cursor, call: Append, row: dict[str, Any] | None, again: bool
    ) -> int | Found:
        state = self._rows.lock(cursor, call.log)
        if state is None or not state.revision:
            if row is None:
                raise RecordNotFoundError("session", call.log)
            head = Head(0, row["revision"])
            if not call.accepts(head):
                return Found(head, {})
            self._documents.insert(cursor, row, over=state is not None)
        else:
            head = Head(state.count, state.generation)
            if call.entries or not call.accepts(head):
                ids = [entry.id for entry in call.entries]
                there = self._rows.there(cursor, call.log, ids, head.count)
                if there or not call.accepts(head):
                    return Found(head, there)
        count = head.count + len(call.entries)
        if call.entries:
            if state is not None or again:
                self._rows.free(cursor, call.log, head.count, call.entries)
            self._rows.insert(cursor, call.log, head.count, call.entries)
            self._rows.change(cursor, call.log, count, call.at)
        return count
