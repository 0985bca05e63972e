from __future__ import annotations

from typing import Any

from benchmarks.raw.sql import STATEMENTS, RawSql, latest


def _translated(sql: str) -> str:
    """Return what MySQL, too, understands: it has neither RETURNING nor ON CONFLICT."""
    statement, _, assignments = sql.partition(" RETURNING ")[0].partition(" ON CONFLICT ")
    if not assignments:
        return statement
    names = [
        each.partition(" = ")[0].strip() for each in assignments.partition("SET ")[2].split(",")
    ]
    changed = ", ".join(f"{name} = VALUES({name})" for name in names)
    return f"{statement} ON DUPLICATE KEY UPDATE {changed}"


class RawMysql(RawSql):
    ID = "varchar(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
    TEXT = "longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
    SQL = {  # noqa: RUF012
        **{name: _translated(statement) for name, statement in STATEMENTS.items()},
        "tail": "SELECT position, body FROM raw_messages WHERE session_id = %s AND position > %s",
        "reserve": "UPDATE raw_sessions SET at = %s, latest = %s,"
        " count = LAST_INSERT_ID(count + %s) WHERE id = %s",
    }

    def _do(self, sql: str, *values: Any) -> Any:
        cursor = self._connection.cursor()
        cursor.execute(sql, values or None)
        return cursor

    def _alone(self, statement: str, *values: Any) -> Any:
        self._connection.autocommit(True)  # a round trip only where the mode changes
        return self._run(statement, *values)

    def _begin(self) -> None:
        self._connection.autocommit(False)

    def _commit(self) -> None:
        self._connection.commit()

    def _reserve(self, session_id: str, number: int, at: int) -> int | None:
        cursor = self._run("reserve", at, latest(at), number, session_id)
        return int(cursor.lastrowid) if cursor.rowcount else None

    def _cut(self, session_id: str, kept: int) -> Any:
        rows = self._run("tail", session_id, kept).fetchall()
        self._run("cut", session_id, kept)
        return rows
