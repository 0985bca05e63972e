from __future__ import annotations

import sqlite3
from typing import Any

from benchmarks.raw.sql import STATEMENTS, RawSql


class RawSqlite(RawSql):
    ID = "TEXT"
    SQL = {name: s.replace("%s", "?").replace(" FOR UPDATE", "") for name, s in STATEMENTS.items()}  # noqa: RUF012

    def __init__(self, path: str, synchronous: str, *, make: bool = True) -> None:
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute("PRAGMA foreign_keys = ON")
        super().__init__(connection, make=make)
        connection.execute("SELECT count(*) FROM (SELECT 1 FROM raw_images LIMIT 1)")

    def _do(self, sql: str, *values: Any) -> Any:
        return self._connection.execute(sql, values)

    def _begin(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def close(self) -> None:
        self._connection.close()
