"""Cutting and replacing messages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, bindparam, update
from sqlalchemy.engine.interfaces import DBAPICursor as Cursor

from agentx_persistence._sql import tables
from agentx_persistence._sql.attempts import answer_lost
from agentx_persistence._sql.documents import DELETED
from agentx_persistence._sql.engine import Database, DuplicateError
from agentx_persistence._sql.reading import Reading
from agentx_persistence._sql.rows import (
    CHUNK,
    VALUES,
    LogRows,
    State,
    Walk,
    entry_values,
)
from agentx_persistence._sql.statements import unsearched
from agentx_persistence.errors import RecordNotFoundError
from agentx_persistence.storage import Entry, Found, Head, Slice, Window

_sessions, _messages = tables.sessions.c, tables.messages.c


class Tail(NamedTuple):
    """The entries to put in place of those after the first `kept` ones, if the log has the expected
    number of entries and this generation."""

    log: str
    kept: int
    entries: Sequence[Entry]
    at: int
    token: str
    expected: int
    generation: str

    @property
    def removed(self) -> int:
        return self.expected - self.kept

    def values(self) -> dict[str, Any]:
        return {
            "session": self.log,
            "expected": self.expected,
            "generation": self.generation,
            "count": self.kept + len(self.entries),
            "at": self.at,
            "latest": tables.latest(self.at),
            "token": f"{self.token}.{self.removed}",
        }


class Rewriting:
    """Changes logs. A driver overrides `exchange` or `replace_tail` to need fewer round trips."""

    def __init__(self, database: Database, rows: LogRows, reading: Reading) -> None:
        self.database, self.rows, self.reading = database, rows, reading

    def exchange(
        self,
        log: str,
        window: Window,
        entries: Sequence[Entry],
        at: int,
        token: str,
        accept: Callable[[Slice], None],
    ) -> bool:
        """Do what `Storage.exchange` does in one transaction; return False if nothing was done.

        Not on PostgreSQL, where a read and a rewrite need no more round trips.
        """
        return False

    def rewrite(
        self,
        log: str,
        after: str | int | None,
        entries: Sequence[Entry],
        at: int,
        token: str,
        expected: int | None,
        generation: str | None,
    ) -> int | Found:
        self.check_sizes(log, entries)
        first = FirstAttempt(self.database)
        if isinstance(after, int) and expected is not None and generation is not None:
            tail = Tail(log, after, entries, at, token, expected, generation)
            if 0 <= tail.removed <= CHUNK and self._replaced(tail, first):
                return tail.removed

        def work(cursor: Cursor) -> int | Found:
            state = self.rows.lock_visible(cursor, log)
            done, _, number = state.generation.rpartition(".")
            if done == token:
                return int(number)
            first.check(log, state)
            head = Head(state.count, state.generation)
            ids = [entry.id for entry in entries]
            if expected not in (None, head.count) or generation not in (None, head.generation):
                return Found(head, self.rows.there(cursor, log, ids, head.count))
            if isinstance(after, str):
                kept = self.rows.position(cursor, log, after, head.count)
            else:
                kept = after or 0
                if kept > head.count:
                    raise RecordNotFoundError("message", f"#{kept}")
            if ids and (there := self.rows.there(cursor, log, ids, kept)):
                return Found(head, there)
            removed = head.count - kept
            if removed <= CHUNK:
                self.rows.delete_range(cursor, log, kept, head.count)
            if entries:
                self.rows.free(cursor, log, kept, entries)
                self.rows.insert(cursor, log, kept, entries)
            self.rows.change(cursor, log, kept + len(entries), at, f"{token}.{removed}")
            return removed

        removed = self.database.write(work, first.was_undone)
        if isinstance(removed, int) and removed > CHUNK:
            self._clear(log)
        return removed

    def _replaced(self, tail: Tail, first: FirstAttempt) -> bool:
        """Replace the tail, or return False if the log is not as expected or needs more care."""
        try:
            return self.replace_tail(tail, first)
        except DuplicateError:
            # The kept part, or a leftover (see `tables`), has one of the ids or positions. The
            # generation was still the expected one, so no earlier attempt took effect.
            first.was_undone()
            return False

    def replace_tail(self, tail: Tail, first: FirstAttempt) -> bool:
        """Replace the tail in a single statement.

        Return False, and change nothing, if the log is not as expected, or if the database has no
        such statement.

        :raises DuplicateError: if an id or a position is taken; nothing was written
        """
        return False

    def reserving(self) -> Any:
        """Return the guarded UPDATE of the session."""
        flavour = self.database.flavour
        return (
            update(tables.sessions)
            .where(
                _sessions.session_id == bindparam("session"),
                _sessions.revision != DELETED,
                _sessions.message_count == bindparam("expected"),
                _sessions.generation == bindparam("generation"),
            )
            .values(
                message_count=bindparam("count"),
                updated_at=flavour.later(_sessions.updated_at, bindparam("at", type_=BigInteger)),
                latest=flavour.earlier(_sessions.latest, bindparam("latest", type_=BigInteger)),
                generation=bindparam("token"),
            )
        )

    def _clear(self, log: str) -> None:
        """Delete the entries that a large cut has excluded from the count, in chunks."""
        walk = Walk()

        def work(cursor: Cursor) -> bool:
            state = self.rows.lock(cursor, log)
            # If the session was deleted or is being deleted, its deletion removes the messages.
            if state is None or not state.revision:
                return True
            return self.rows.clear(cursor, log, state.count, walk)

        self.rows.in_chunks(work)

    def swap(self, log: str, entry: Entry, at: int, token: str) -> None:
        self.check_sizes(log, [entry])
        first = FirstAttempt(self.database)
        columns = VALUES[1:]
        statement = self.database.statement(
            "replace message",
            lambda: (
                update(tables.messages)
                .where(
                    _messages.session_id == bindparam("session"),
                    _messages.message_id == bindparam("message"),
                    unsearched(_messages.position) <= bindparam("count"),
                )
                .values({name: bindparam(f"new_{name}") for name in columns})
            ),
        )

        def work(cursor: Cursor) -> None:
            state = self.rows.lock_visible(cursor, log)
            if state.generation == token:
                return
            first.check(log, state)
            new = zip(columns, entry_values(entry)[1:], strict=True)
            values: dict[str, Any] = {f"new_{name}": value for name, value in new}
            values |= {"session": log, "message": entry.id, "count": state.count}
            cursor.execute(statement.sql, statement.bind(values))
            if not cursor.rowcount:
                raise RecordNotFoundError("message", entry.id)
            self.rows.change(cursor, log, state.count, at, token)

        self.database.write(work, first.was_undone)

    def check_sizes(self, log: str, entries: Sequence[Entry]) -> None:
        check_size = self.database.flavour.check_size
        for entry in entries:
            check_size("message", entry.id, (log, entry.id, entry.text))


class FirstAttempt:
    """Makes sure that the earlier attempts of a repeated call have changed nothing.

    That is certain if the generation is still the one that the first attempt found.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._generation: str | None = None
        self._number = 0

    def begin(self, generation: str) -> None:
        """Begin an attempt that changes the log only if it has this generation."""
        self._generation = generation
        self._number += 1

    def end_unchanged(self) -> None:
        """End an attempt that has changed nothing, as the log was not as expected."""
        if self._number == 1:
            self.was_undone()

    def check(self, log: str, state: State) -> None:
        if self._generation not in (None, state.generation):
            raise answer_lost(self._database.flavour.backend, f"session {log!r}")
        self._generation = state.generation

    def was_undone(self) -> None:
        """Forget the generation: the attempts are certainly undone, so another call may change it
        meanwhile."""
        self._generation, self._number = None, 0
