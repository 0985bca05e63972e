"""The tables of the index, and how a log is removed from them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from agentx_persistence._fs.records import FIELDS
from agentx_persistence.storage import KINDS, Kind

# An index of another version is rebuilt.
VERSION = 1
COLUMNS = {kind: ("key", "time", "active", *FIELDS[kind]) for kind in KINDS}


def insertion(kind: Kind) -> str:
    return f"INSERT INTO {kind} VALUES ({', '.join('?' * (len(COLUMNS[kind]) + 1))})"


def statements() -> Iterable[str]:
    yield "CREATE TABLE meta (stamp TEXT)"
    yield (
        "CREATE TABLE heads (number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE, "
        "header BLOB, end INTEGER, count INTEGER, generation TEXT, at INTEGER, damaged TEXT, "
        "dead INTEGER)"
    )
    yield "CREATE TABLE dead (number INTEGER PRIMARY KEY)"
    yield (
        "CREATE TABLE lines (number INTEGER, position INTEGER, id TEXT, offset INTEGER, "
        "length INTEGER, size INTEGER, PRIMARY KEY (number, position)) WITHOUT ROWID"
    )
    yield "CREATE INDEX line_ids ON lines (number, id)"
    for kind in KINDS:
        columns = "key TEXT, time INTEGER, active INTEGER" + "".join(
            f", {name} TEXT" for name in FIELDS[kind]
        )
        yield f"CREATE TABLE {kind} ({columns}, sure INTEGER)"
        yield f"CREATE INDEX {kind}_key ON {kind} (key)"
        yield f"CREATE INDEX {kind}_unsure ON {kind} (key) WHERE sure = 0"
        for names in kind.indexes:
            ordered = ", ".join((*names, "time", "key", "sure"))
            yield f"CREATE INDEX {'_'.join((kind.name, *names, 'time'))} ON {kind} ({ordered})"
        for names in kind.active:
            ordered = ", ".join((*names, "active", "key", "sure"))
            yield f"CREATE INDEX {'_'.join((kind.name, *names, 'active'))} ON {kind} ({ordered})"


def forget_log(connection: sqlite3.Connection, name: str) -> None:
    # `sweep` removes the lines, a few with each later change.
    connection.execute("INSERT INTO dead SELECT number FROM heads WHERE name = ?", (name,))
    connection.execute("DELETE FROM heads WHERE name = ?", (name,))


def sweep(connection: sqlite3.Connection, limit: int) -> None:
    """Remove at most `limit` lines of forgotten logs."""
    for (number,) in connection.execute("SELECT number FROM dead LIMIT 1").fetchall():
        removed = connection.execute(
            "DELETE FROM lines WHERE number = ? AND position IN "
            "(SELECT position FROM lines WHERE number = ? LIMIT ?)",
            (number, number, limit),
        ).rowcount
        if removed < limit:
            connection.execute("DELETE FROM dead WHERE number = ?", (number,))
