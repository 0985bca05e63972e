"""The storage inside a transaction of the caller on MySQL and MariaDB.

In REPEATABLE READ, a transaction reads the rows of a snapshot, except those that it has changed
itself: InnoDB shows these in their latest form
(https://dev.mysql.com/doc/refman/8.4/en/innodb-consistent-read.html). After the transaction has
changed the row of a session, it sees the latest count and generation, but the messages of the
snapshot. If others have changed the log in between, the two do not fit, and no statement without
locks shows the messages that do. So reading such a log raises `RecordConflictError`. Changes do
not raise it: they read with locks, which gives the latest rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import bindparam, select

from agentx_persistence._sql import tables
from agentx_persistence._sql.joined import JoinedDatabase
from agentx_persistence._sql.reading import expected_places
from agentx_persistence._sql.storage import SqlStorage
from agentx_persistence.errors import (
    CorruptRecordError,
    RecordConflictError,
    RecordNotFoundError,
)
from agentx_persistence.storage import (
    SESSIONS,
    Document,
    Entry,
    Found,
    Head,
    Kind,
    Slice,
    Window,
)

_sessions = tables.sessions.c
# The key in `Connection.info` for the outermost transaction and its mixed logs: those whose head it
# sees in the latest form, but whose messages it sees as in its snapshot. The value of each log is
# the head in the snapshot.
_MIXED = "agentx_persistence.mixed"
# The isolation levels in which each statement reads what is there at one moment.
_CONSISTENT = ("READ COMMITTED", "SERIALIZABLE")
# How often a window between ids is read, if the messages are cut between its two statements.
_TRIES = 3


class MysqlJoinedStorage(SqlStorage):
    joined = True

    _database: JoinedDatabase
    _level: str | None = None

    def put(self, kind: Kind, document: Document) -> None:
        if kind is not SESSIONS or not self._reads_snapshots():
            super().put(kind, document)
        elif self._head(document.key):
            self._before_change(document.key)
            super().put(kind, document)
        else:
            # The row is not locked first: two creators that lock where it will be are a deadlock.
            super().put(kind, document)
            count, _ = self._head(document.key) or (0, "")
            if count:
                self._mixed()[document.key] = None

    def replace(self, kind: Kind, document: Document, revision: str) -> bool:
        if kind is SESSIONS:
            self._before_change(document.key)
        return super().replace(kind, document, revision)

    def amend(self, kind: Kind, document: Document, revision: str) -> bool:
        if kind is SESSIONS:
            self._before_change(document.key)
        return super().amend(kind, document, revision)

    def append(
        self,
        log: str,
        entries: Sequence[Entry],
        at: int,
        *,
        create: Document | None = None,
        expected: int | None = None,
        generation: str | None = None,
    ) -> int | Found:
        self._before_change(log)
        return super().append(
            log, entries, at, create=create, expected=expected, generation=generation
        )

    def rewrite(
        self,
        log: str,
        after: str | int | None,
        entries: Sequence[Entry],
        at: int,
        token: str,
        *,
        expected: int | None = None,
        generation: str | None = None,
    ) -> int | Found:
        self._before_change(log)
        return super().rewrite(
            log, after, entries, at, token, expected=expected, generation=generation
        )

    def exchange(
        self,
        log: str,
        window: Window,
        entries: Sequence[Entry],
        at: int,
        token: str,
        accept: Callable[[Slice], None],
    ) -> Found | None:
        self._before_change(log)
        return super().exchange(log, window, entries, at, token, accept)

    def swap(self, log: str, entry: Entry, at: int, token: str) -> None:
        self._before_change(log)
        super().swap(log, entry, at, token)

    def read(self, log: str, window: Window) -> Slice:
        self._require_one_moment(log)
        window = window._replace(headed=True)
        for _ in range(_TRIES):
            head, placed = self._placed(log, window)
            with self._conflicts(log):
                found = super().read(log, placed)
                assert found.head is not None  # as the window asks for it
                missing = expected_places(placed, found.head.count)
                if missing and not found.texts:
                    where = self.where(SESSIONS, log, missing[0])
                    raise CorruptRecordError("message", f"#{missing[0]}", where)
            if head is None or head.generation == found.head.generation:
                return found
        raise _conflict(log)

    def lookup(self, log: str, ids: Sequence[str]) -> Found:
        self._require_one_moment(log)
        return super().lookup(log, ids)

    def newest(self, logs: Sequence[str]) -> dict[str, Slice]:
        for log in logs:
            self._require_one_moment(log)
        try:
            return super().newest(logs)
        except CorruptRecordError:
            found: dict[str, Slice] = {}
            for log in logs:
                with self._conflicts(log):
                    found |= super().newest([log])
            return found

    def _placed(self, log: str, window: Window) -> tuple[Head | None, Window]:
        """Return the window with positions instead of ids, and the head with which these were
        found."""
        bounds = {"after": window.after, "before": window.before}
        ids = [bound for bound in bounds.values() if isinstance(bound, str)]
        if not ids:
            return None, window
        found = super().lookup(log, ids)
        for id in ids:
            if id not in found.there:
                raise RecordNotFoundError("message", id)
        places = {
            name: found.there[bound][0] for name, bound in bounds.items() if isinstance(bound, str)
        }
        return found.head, window._replace(**places)  # type: ignore[arg-type]

    def _isolation(self) -> str:
        if self._level is None:
            self._level = self._database.connection.get_isolation_level()
        return self._level

    def _reads_snapshots(self) -> bool:
        return self._isolation() == "REPEATABLE READ"

    def _before_change(self, log: str) -> None:
        """Lock the session, and remember its log if the snapshot has it in another state.

        The lock comes first, because a transaction that has read nothing yet begins its snapshot
        with the second statement.
        """
        if self._reads_snapshots():
            latest, seen = self._head(log, locked=True), self._head(log)
            if latest != seen:
                self._mixed().setdefault(log, seen)

    def _head(self, log: str, *, locked: bool = False) -> Sequence[Any] | None:
        query = select(_sessions.message_count, _sessions.generation).where(
            _sessions.session_id == bindparam("session")
        )
        statement = self._database.statement(
            ("head of row", locked), lambda: query.with_for_update() if locked else query
        )
        rows = self._database.fetch(statement.sql, statement.bind({"session": log}))
        return tuple(rows[0]) if rows else None

    def _mixed(self) -> dict[str, Sequence[Any] | None]:
        connection = self._database.connection
        transaction = connection.get_transaction()
        known = connection.info.get(_MIXED)
        if known is None or known[0] is not transaction:
            known = connection.info[_MIXED] = (transaction, {})
        logs: dict[str, Sequence[Any] | None] = known[1]
        return logs

    def _require_one_moment(self, log: str) -> None:
        if _MIXED not in self._database.connection.info or log not in self._mixed():
            return
        # The heads are equal again if the change was refused, or undone with a savepoint.
        if self._head(log) != self._mixed()[log]:
            raise _conflict(log)

    @contextmanager
    def _conflicts(self, log: str) -> Iterator[None]:
        """Take a message that is missing for one that the transaction does not see."""
        try:
            yield
        except CorruptRecordError as error:
            if self._isolation() in _CONSISTENT:
                raise
            raise _conflict(log) from error


def _conflict(log: str) -> RecordConflictError:
    reason = (
        "your transaction sees only a part of what others have changed meanwhile; begin it anew, or"
        " let it use READ COMMITTED (if this error persists, run: agentx-persistence doctor)"
    )
    return RecordConflictError("session", log, reason)
