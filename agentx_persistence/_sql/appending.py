"""Appending messages."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.engine.interfaces import DBAPICursor as Cursor

from agentx_persistence._sql import tables
from agentx_persistence._sql.engine import Database, DuplicateError
from agentx_persistence.errors import RecordConflictError, RecordNotFoundError

COLUMNS = ("session_id", "position", "message_id", "body")

# A message's id and its JSON text.
IdAndBody = tuple[str, str]


class Appending:
    """Where a database has a shorter way for new messages, its driver overrides `append_new`."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def append(self, session_id: str, messages: Sequence[IdAndBody], at: int) -> list[int]:
        """Append the messages that are not there yet, all or none; return each one's position."""
        for id, body in messages:
            self.database.flavour.check_size("message", id, (session_id, id, body))
        if messages:
            try:
                last = self.append_new(session_id, messages, at)
            except DuplicateError:
                return self._append_missing(session_id, messages, at)
            return list(range(last - len(messages) + 1, last + 1))
        return self._append_missing(session_id, messages, at)

    def append_new(self, session_id: str, messages: Sequence[IdAndBody], at: int) -> int:
        """Append messages whose ids are new; return the position of the last one.

        :raises DuplicateError: if one of the ids is not new; nothing was written
        """

        def work(cursor: Cursor) -> int:
            last = self.reserve(cursor, session_id, len(messages), at)
            if last is None:
                raise RecordNotFoundError("session", session_id)
            self.insert(cursor, session_id, last - len(messages), messages)
            return last

        return self.database.write(work)

    def reserve(self, cursor: Cursor, session_id: str, added: int, at: int) -> int | None:
        """Reserve positions; return the last one, or ``None`` if there is no such session."""
        statement = self.database.statement(
            "reserve positions",
            lambda: (
                update(tables.sessions)
                .where(tables.sessions.c.session_id == bindparam("session"))
                .values(
                    message_count=tables.sessions.c.message_count + bindparam("added"),
                    updated_at=bindparam("at"),
                )
                .returning(tables.sessions.c.message_count)
            ),
        )
        values = {"session": session_id, "added": added, "at": at}
        cursor.execute(statement.sql, statement.bind(values))
        row = cursor.fetchone()
        return row and row[0]

    def insert(
        self, cursor: Cursor, session_id: str, count: int, messages: Sequence[IdAndBody]
    ) -> None:
        """Insert the messages behind the first `count` ones."""
        statement = self.database.statement(
            "insert message", lambda: insert(tables.messages), COLUMNS
        )
        rows = [
            statement.bind(
                {"session_id": session_id, "position": position, "message_id": id, "body": body}
            )
            for position, (id, body) in enumerate(messages, count + 1)
        ]
        if len(rows) == 1:
            cursor.execute(statement.sql, rows[0])
        else:
            cursor.executemany(statement.sql, rows)

    def _append_missing(self, session_id: str, messages: Sequence[IdAndBody], at: int) -> list[int]:
        lock = self.database.statement(
            "lock session",
            lambda: (
                select(tables.sessions.c.message_count)
                .where(tables.sessions.c.session_id == bindparam("session"))
                .with_for_update()
            ),
        )
        find = self.database.statement(
            "find message",
            lambda: select(
                tables.messages.c.position, self.database.flavour.body(tables.messages.c.body)
            ).where(
                tables.messages.c.session_id == bindparam("session"),
                tables.messages.c.message_id == bindparam("message"),
            ),
        )
        touch = self.database.statement(
            "touch session",
            lambda: (
                update(tables.sessions)
                .where(tables.sessions.c.session_id == bindparam("session"))
                .values(message_count=bindparam("count"), updated_at=bindparam("at"))
            ),
        )

        def work(cursor: Cursor) -> list[int]:
            cursor.execute(lock.sql, lock.bind({"session": session_id}))
            row = cursor.fetchone()
            if row is None:
                raise RecordNotFoundError("session", session_id)
            count: int = row[0]
            there: dict[str, tuple[int, str]] = {}
            new: list[IdAndBody] = []
            for id, body in messages:
                if id not in there:
                    cursor.execute(find.sql, find.bind({"session": session_id, "message": id}))
                    found = cursor.fetchone()
                    if found is None:
                        new.append((id, body))
                        found = (count + len(new), body)
                    place, text = found
                    if isinstance(text, bytes):  # and perhaps damaged, then equal to none
                        text = text.decode(errors="surrogateescape")
                    there[id] = (place, text)
                if there[id][1] != body:
                    raise RecordConflictError("message", id)
            if new:
                values = {"session": session_id, "count": count + len(new), "at": at}
                cursor.execute(touch.sql, touch.bind(values))
                self.insert(cursor, session_id, count, new)
            return [there[id][0] for id, _ in messages]

        return self.database.write(work)
