"""The index: a SQLite file of the places of documents and log entries.

It can be rebuilt from the other files. A document that is not changing has one row, whose `sure` is
1. Before its file changes, `sure` becomes 0, and a second row for the document's new place is added
with 0. After the change one row with 1 is left. If a process is killed in between, the rows with 0
stay. The file then decides where the document is listed, so no document gets lost.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from agentx_persistence._fs.index_file import IndexFile
from agentx_persistence._fs.listings import conditions_of
from agentx_persistence._fs.log import Line, Log
from agentx_persistence._fs.records import Row
from agentx_persistence._fs.schema import COLUMNS, forget_log, insertion, sweep
from agentx_persistence.storage import KINDS, SESSIONS, Kind, Query

_PAGE = 500
# `Line(…)` calls this from a Python function, and takes more than twice as long.
_new = tuple.__new__


class Index(IndexFile):
    # Documents

    def rows(self, kind: Kind, key: str) -> list[Row]:
        """Return the document's rows, each with `sure` as its last value."""
        columns = ", ".join(COLUMNS[kind])
        return self.read(f"SELECT {columns}, sure FROM {kind} WHERE key = ?", (key,))

    def keys(self, kind: Kind, after: str) -> list[str]:
        """Return a page of the keys that have rows, in order."""
        statement = f"SELECT DISTINCT key FROM {kind} WHERE key > ? ORDER BY key LIMIT {_PAGE}"
        return [key for (key,) in self.read(statement, (after,))]

    def announce(self, kind: Kind, key: str, row: Row | None) -> None:
        """Record that the document is about to move to this row, or (``None``) to be deleted."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(f"UPDATE {kind} SET sure = 0 WHERE key = ?", (key,))
            if row is not None:
                connection.execute(insertion(kind), (*row, 0))

        # A power failure must not undo a new row, without which no listing finds the document. It
        # must not undo the mark of a session's deletion, which shows that the log is a leftover.
        # Other marks may be undone: `FileDocuments.find` skips and removes a row without a file.
        self.write(work, durable=row is not None or kind is SESSIONS)

    def settle(
        self, kind: Kind, key: str, row: Row | None, log: str | None = None, *, wait: bool = True
    ) -> None:
        """Record that the document is at this row, or (``None``) that it is deleted.

        :param log: the name of a log to forget in the same transaction
        """

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(f"DELETE FROM {kind} WHERE key = ?", (key,))
            if row is not None:
                connection.execute(insertion(kind), (*row, 1))
            if log is not None:
                forget_log(connection, log)
            sweep(connection, 16)

        self.write(work, wait=wait)

    def unsure(self) -> list[tuple[Kind, str]]:
        return [
            (kind, key)
            for kind in KINDS
            for (key,) in self.read(f"SELECT DISTINCT key FROM {kind} WHERE sure = 0")
        ]

    def find(self, kind: Kind, query: Query) -> list[Row]:
        """Return the rows of the query, in order."""
        condition, direction, values = conditions_of(query)
        return self.read(
            f"SELECT {', '.join(COLUMNS[kind])} FROM {kind} WHERE {condition} "
            f"ORDER BY {direction} LIMIT ?",
            (*values, -1 if query.limit is None else query.limit),
        )

    def count(self, kind: Kind, query: Query) -> tuple[int, set[str]]:
        """Return the number of rows whose `sure` is 1, and the keys of the others."""
        condition, _, values = conditions_of(query)
        ((number, unsure),) = self.read(
            "SELECT count(*) FILTER (WHERE sure), json_group_array(key) FILTER (WHERE NOT sure) "
            f"FROM {kind} WHERE {condition}",
            values,
        )
        return number, set(json.loads(unsure))

    # Logs

    def forget(self, name: str) -> None:
        self.write(lambda connection: forget_log(connection, name))

    def head(self, name: str) -> Log | None:
        """Return the log as far as it is indexed, or ``None`` if it is not."""
        columns = "header, end, count, generation, at, damaged, number, count"
        for found in self.read(f"SELECT {columns} FROM heads WHERE name = ?", (name,)):
            return Log(*(*found, {}, {}))._replace(damaged=frozenset(json.loads(found[5])))
        return None

    def flush(self, name: str, log: Log, dead: int = 0) -> tuple[Log, int]:
        """Move the log's `lines` to the index; return the log without them, and its dead bytes.

        :param dead: how many bytes of the file this call made dead: they belong to entries that
            were cut off or replaced
        """

        def work(connection: sqlite3.Connection) -> tuple[Log, int]:
            found = connection.execute(
                "SELECT number, dead FROM heads WHERE name = ? AND header = ?", (name, log.header)
            ).fetchall()
            if not found:
                forget_log(connection, name)
            number, known = found[0] if found else (None, 0)
            number = connection.execute(
                "INSERT OR REPLACE INTO heads VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(number, name, log.header, log.end, log.count, log.generation, log.at),
                    *(json.dumps(sorted(log.damaged)), known + dead),
                ),
            ).lastrowid
            connection.executemany(
                "INSERT OR REPLACE INTO lines VALUES (?, ?, ?, ?, ?, ?)",
                [(number, position, *line) for position, line in log.lines.items()],
            )
            sweep(connection, 2 * len(log.lines))
            # The caller holds the log's lock, so no writer can take the last call back.
            indexed = log._replace(number=number, indexed=log.count, lines={}, ids={}, newest=None)
            return indexed, known + dead

        return self.write(work)

    def lines(self, log: Log, first: int, last: int) -> dict[int, Line]:
        """Return the indexed entries at the positions from `first` to `last`, in order."""
        rows = self.read(
            "SELECT position, id, offset, length, size FROM lines "
            "WHERE number = ? AND position BETWEEN ? AND ? ORDER BY position",
            (log.number, first, min(last, log.indexed)),
        )
        return {row[0]: _new(Line, row[1:]) for row in rows}

    def positions(self, log: Log, ids: Sequence[str]) -> dict[str, int]:
        """Return the positions of the indexed entries among these ids."""
        found: dict[str, int] = {}
        for start in range(0, len(ids) if log.indexed else 0, _PAGE):
            page = ids[start : start + _PAGE]
            marks = ", ".join("?" * len(page))
            found.update(
                self.read(
                    f"SELECT id, position FROM lines WHERE number = ? AND position <= ? "
                    f"AND id IN ({marks})",
                    (log.number, log.indexed, *page),
                )
            )
        return found
