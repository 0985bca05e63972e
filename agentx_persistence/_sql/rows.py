"""The rows of logs inside a transaction that holds the lock of the session's row."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import Select, bindparam, delete, insert, literal_column, select, update
from sqlalchemy.engine.interfaces import DBAPICursor as Cursor

from agentx_persistence._sql import tables
from agentx_persistence._sql.engine import Database
from agentx_persistence._sql.statements import Statement, chunks, unsearched
from agentx_persistence.errors import RecordNotFoundError
from agentx_persistence.storage import Entry, Text

# The columns of a message besides its session and position.
VALUES = ("message_id", "role", "subtype", "timestamp", "size", "body")
COLUMNS = ("session_id", "position", *VALUES)
# How many rows one transaction deletes at most, because appends to the session wait until it ends.
CHUNK = 5000

_sessions, _messages = tables.sessions.c, tables.messages.c


class State(NamedTuple):
    """A session's row. Its `revision` is empty while it is being deleted."""

    count: int  # type: ignore[assignment]  # hides the method `tuple.count`
    generation: str
    revision: str


class Walk:
    """The place that a deletion in chunks has reached.

    Each chunk starts where the one before ended, because databases take long to pass over rows that
    were just deleted. If a transaction is rolled back and repeated, the place may have passed rows
    that still exist. So a walk only ends with a chunk that started at the beginning and left
    nothing.
    """

    def __init__(self) -> None:
        self.place: Sequence[Any] = ()

    def reached(self, place: Sequence[Any] | None) -> bool:
        """Store where a chunk ended (``None``: nothing is left); return whether the walk ends."""
        over = place is None and not self.place
        self.place = place or ()
        return over


def entry_values(entry: Entry) -> tuple[Any, ...]:
    """Return the values of `VALUES` for this entry."""
    id, text, role, subtype, timestamp = entry
    size = len(text) if text.isascii() else len(text.encode())
    return id, _short(role), _short(subtype), timestamp, size, text


def _short(value: object) -> str | None:
    # For NUL, see `documents.row_of`.
    return value[:255].replace("\x00", "\ufffd") if isinstance(value, str) else None


class LogRows:
    def __init__(self, database: Database) -> None:
        self._database = database

    def in_chunks(self, work: Callable[[Cursor], bool]) -> None:
        """Run `work` in one transaction after another until it returns True."""
        while not self._database.write(work):
            time.sleep(self._database.flavour.rest)

    def lock(self, cursor: Cursor, log: str) -> State | None:
        """Lock the session's row until the end of the transaction."""
        statement = self._database.statement(
            "lock session",
            lambda: (
                select(_sessions.message_count, _sessions.generation, _sessions.revision)
                .where(_sessions.session_id == bindparam("session"))
                .with_for_update()
            ),
        )
        cursor.execute(statement.sql, statement.bind({"session": log}))
        row = cursor.fetchone()
        return None if row is None else State(*row)

    def lock_visible(self, cursor: Cursor, log: str) -> State:
        """Lock the row of a session that must exist."""
        state = self.lock(cursor, log)
        if state is None or not state.revision:
            raise RecordNotFoundError("session", log)
        return state

    def position(self, cursor: Cursor, log: str, id: str, count: int) -> int:
        """Return the position of an entry that must be among the first `count` ones."""
        statement = self._database.statement(
            ("position of message", self._database.reads_with_locks),
            lambda: self._latest(
                select(_messages.position).where(
                    _messages.session_id == bindparam("session"),
                    _messages.message_id == bindparam("message"),
                    unsearched(_messages.position) <= bindparam("count"),
                )
            ),
        )
        values = {"session": log, "message": id, "count": count}
        cursor.execute(statement.sql, statement.bind(values))
        row = cursor.fetchone()
        if row is None:
            raise RecordNotFoundError("message", id)
        position: int = row[0]
        return position

    def there(
        self, cursor: Cursor, log: str, ids: Sequence[str], count: int
    ) -> Mapping[str, tuple[int, Text]]:
        """Return the entries with these ids that are among the first `count` ones."""
        found: dict[str, tuple[int, Text]] = {}
        for chunk in chunks(ids):
            statement = self._database.statement(
                ("messages by id", len(chunk), self._database.reads_with_locks),
                partial(self._by_ids, len(chunk)),
            )
            values = {"session": log, "count": count, **self._database.flavour.sought("ids", chunk)}
            cursor.execute(statement.sql, statement.bind(values))
            found.update({id: (position, text) for id, position, text in cursor.fetchall()})
        return found

    def _by_ids(self, size: int) -> Any:
        flavour = self._database.flavour
        columns = _messages.message_id, _messages.position, flavour.body(tables.messages.c.body)
        conditions = (
            _messages.session_id == bindparam("session"),
            unsearched(_messages.position) <= bindparam("count"),
        )
        rows = flavour.rows_among(columns, conditions, _messages.message_id, "ids", size)
        return self._latest(rows)

    def _latest(self, query: Select[Any]) -> Select[Any]:
        """Make the query read the latest rows, which the lock of the session's row keeps as they
        are, instead of those of the transaction's snapshot."""
        return query.with_for_update(read=True) if self._database.reads_with_locks else query

    def insert(self, cursor: Cursor, log: str, count: int, entries: Sequence[Entry]) -> None:
        """Insert the entries after the first `count` ones."""
        statement = self._database.statement(
            "insert message", lambda: insert(tables.messages), COLUMNS
        )
        rows = [
            statement.row((log, position, *entry_values(entry)))
            for position, entry in enumerate(entries, count + 1)
        ]
        if len(rows) == 1:
            cursor.execute(statement.sql, rows[0])
        elif rows:
            self._database.flavour.prepare_many(cursor)
            cursor.executemany(statement.sql, rows)

    def free(self, cursor: Cursor, log: str, count: int, entries: Sequence[Entry]) -> None:
        """Remove leftovers (see `tables`) whose ids or positions the new entries need.

        :param count: after how many entries the new ones are inserted
        """
        self.delete_range(cursor, log, count, count + len(entries))
        for chunk in chunks([entry.id for entry in entries]):
            statement = self._database.statement(
                ("delete leftovers", len(chunk)),
                partial(self._deleting, len(chunk)),
            )
            values = {"session": log, "count": count, **self._database.flavour.sought("ids", chunk)}
            cursor.execute(statement.sql, statement.bind(values))

    def _deleting(self, size: int) -> Any:
        conditions = (
            _messages.session_id == bindparam("session"),
            unsearched(_messages.position) > bindparam("count"),
        )
        return self._database.flavour.deletion_among(
            tables.messages, conditions, _messages.message_id, "ids", size
        )

    def delete_range(self, cursor: Cursor, log: str, after: int, through: int) -> None:
        statement = self._database.statement(
            "delete messages",
            lambda: delete(tables.messages).where(
                _messages.session_id == bindparam("session"),
                _messages.position > bindparam("after"),
                _messages.position <= bindparam("through"),
            ),
        )
        values = {"session": log, "after": after, "through": through}
        cursor.execute(statement.sql, statement.bind(values))

    def top(self, cursor: Cursor, log: str) -> int:
        """Return the highest position of a row, leftovers included, or 0."""
        return self._end(cursor, log, 0, last=True) or 0

    def _end(self, cursor: Cursor, log: str, after: int, *, last: bool) -> int | None:
        """Return the position of the first row after this position, or of the last one."""
        # With a lock, MySQL reads the latest rows instead of those of the transaction's snapshot.
        statement = self._database.statement(
            ("position of row", last),
            lambda: (
                select(_messages.position)
                .where(
                    _messages.session_id == bindparam("session"),
                    _messages.position > bindparam("after"),
                )
                .order_by(_messages.position.desc() if last else _messages.position)
                .limit(literal_column("1"))
                .with_for_update()
            ),
        )
        cursor.execute(statement.sql, statement.bind({"session": log, "after": after}))
        row = cursor.fetchone()
        return None if row is None else int(row[0])

    def clear(self, cursor: Cursor, log: str, count: int, walk: Walk) -> bool:
        """Delete a chunk of the rows after the first `count`; return whether none are left."""
        (place,) = walk.place or (0,)
        # The order is ascending, because InnoDB takes twice as long in descending order.
        first = self._end(cursor, log, max(count, place), last=False)
        if first is None:
            return walk.reached(None)
        last = first - 1 + CHUNK
        self.delete_range(cursor, log, first - 1, last)
        return walk.reached((last,))

    def change(
        self, cursor: Cursor, log: str, count: int, at: int, generation: str | None = None
    ) -> None:
        """Store the number of entries, the time, and, if given, the generation."""
        statement = self.changing(generation is not None)
        values = {"session": log, "count": count, "at": at, "generation": generation}
        values["latest"] = tables.latest(at)
        cursor.execute(statement.sql, statement.bind(values))

    def changing(self, renew: bool) -> Statement:
        flavour = self._database.flavour
        return self._database.statement(
            ("change session", renew),
            lambda: (
                update(tables.sessions)
                .where(_sessions.session_id == bindparam("session"))
                .values(
                    message_count=bindparam("count"),
                    updated_at=flavour.later(_sessions.updated_at, bindparam("at")),
                    latest=flavour.earlier(_sessions.latest, bindparam("latest")),
                    **({"generation": bindparam("generation")} if renew else {}),
                )
            ),
        )
