"""The tables of a database, read by the database's own client."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pymysql

from agentx_persistence._sql.documents import digest
from tests.backends.backend import Backend
from tests.faults.raw import Raw

Ask = Callable[[str], Sequence[Any]]

_COLUMNS = {
    "containers": ("container_id",),
    "images": ("image_id", "container_id", "session_id", "name"),
    "sessions": ("session_id", "image_id", "container_id"),
}
# The columns that are searched by instead of others.
_DIGESTS = {"images": "name_digest", "sessions": "owners_digest"}
_FIELDS = {
    "container_id": "containerId",
    "image_id": "imageId",
    "session_id": "sessionId",
    "name": "name",
}


def read_sqlite(backend: Backend) -> Raw:
    path = Path(backend.arguments[0])
    with closing(sqlite3.connect(path)) as connection:
        raw = _read(lambda statement: connection.execute(statement).fetchall())
        found = connection.execute("PRAGMA integrity_check").fetchall()
        if found != [("ok",)]:
            raw.problems.append(f"integrity_check: {found[:5]}")
    return raw


def read_mysql(backend: Backend) -> Raw:
    options = {**backend.options}
    arguments = options.pop("connect_args")
    with pymysql.connect(**arguments, **options, autocommit=True, charset="utf8mb4") as connection:

        def ask(statement: str) -> Sequence[Any]:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall()

        # On Galera, wait for what other nodes have committed.
        ask("SET SESSION autocommit = 1 /*M!100600 , wsrep_sync_wait = 7 */")
        raw = _read(ask)
        for table in (*_COLUMNS, "messages", "items"):
            # Compares each index with the rows.
            for row in ask(f"CHECK TABLE agentx_{table} EXTENDED"):
                if row[-1] not in ("OK", "Table is already up to date"):
                    raw.problems.append(f"CHECK TABLE {table}: {row}")
    return raw


def read_postgresql(backend: Backend) -> Raw:
    options = {**backend.options}
    options.pop("prepare_threshold", None)
    with psycopg.connect(dbname=options.pop("database"), autocommit=True, **options) as connection:
        ask: Ask = lambda statement: connection.execute(statement).fetchall()  # noqa: E731
        raw = _read(ask)
        counts = []
        for scan in ("seqscan", "indexscan"):
            # What the rows themselves say, and what the primary keys' indexes say.
            for name in ("seqscan", "indexscan", "bitmapscan", "indexonlyscan"):
                value = "on" if name == scan else "off"
                ask(f"SELECT set_config('enable_{name}', '{value}', false)")
            counts.append(
                [
                    ask(f"SELECT {columns[0]} FROM agentx_{table} ORDER BY 1")  # noqa: S608
                    for table, columns in _COLUMNS.items()
                ]
            )
        if counts[0] != counts[1]:
            raw.problems.append("an index and its table differ")
    return raw


def _read(ask: Ask) -> Raw:
    raw = Raw()
    for table, columns in _COLUMNS.items():
        searched = _DIGESTS.get(table, "")
        names = f"body, created_at, newest, {', '.join(columns)}{searched and f', {searched}'}"
        # What has no revision is being deleted.
        for row in ask(f"SELECT {names} FROM agentx_{table} WHERE revision <> ''"):  # noqa: S608
            body, created_at, newest, *values = row
            raw.ids[table].add(values[0])
            record = json.loads(body)
            said = [record.get(_FIELDS[column]) for column in columns]
            if table == "images":
                said.append(digest(record["name"]))
            elif table == "sessions":
                said.append(digest(record["containerId"], record["imageId"]))
            if [record["createdAt"], -record["createdAt"], *said] != [created_at, newest, *values]:
                raw.problems.append(f"{table} {values[0]}: columns {values} differ from the body")
    for session, position, id, body in ask(
        "SELECT m.session_id, position, message_id, m.body"
        " FROM agentx_messages m JOIN agentx_sessions s ON s.session_id = m.session_id"
        " WHERE position <= message_count AND revision <> ''"
        " ORDER BY m.session_id, position"
    ):
        raw.messages.setdefault(session, []).append((position, id))
        if json.loads(body)["id"] != id:
            raw.problems.append(f"message {session} {position}: the body has another id")
    raw.counts = dict(
        ask("SELECT session_id, message_count FROM agentx_sessions WHERE revision <> ''")
    )
    orphans = ask(
        "SELECT session_id, count(*) FROM agentx_messages"
        " WHERE session_id NOT IN (SELECT session_id FROM agentx_sessions) GROUP BY session_id"
    )
    raw.problems.extend(f"messages without a session: {orphan}" for orphan in orphans)
    return raw
