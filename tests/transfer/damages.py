"""Damages of every kind that a backend can have, each done to a record of its own."""

from __future__ import annotations

import importlib
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pymysql

from agentx_persistence import Persistence
from agentx_persistence._redis.keys import Keys
from agentx_persistence.storage import IMAGES, SESSIONS
from tests.backends.backend import Backend
from tests.backends.fs import place
from tests.backends.redis import connected
from tests.contract.records import container, image, item, message, session
from tests.servers.mongodb import MongodbServer

# The severity of a finding, and what it begins with.
Expected = tuple[str, str]

TEXTS: list[Expected] = [
    ("damage", "the container 'c-text' cannot be read"),
    ("damage", "the image 'i-text' cannot be read"),
    ("damage", "the session 's-text' cannot be read"),
    ("damage", "the item 'box/state//text' cannot be read"),
    ("damage", "message 2 of session 's-texts' cannot be read"),
    ("damage", "message 4 of session 's-texts' cannot be read"),
]
_MOVED = ("damage", "the listing of sessions with container_id 'moved' shows 0 records, not 1")
_MOVED_PAIR = (
    "the listing of sessions with container_id 'moved' and image_id 'image' shows 0 records, not 1"
)
_GONE = ("note", "the session 's-gone' does not exist, but some of its data is stored")
_HALF = ("note", "the session 's-half' does not exist, but some of its data is stored")
_HALF_IMAGE = ("note", "the image 'i-half' does not exist, but some of its data is stored")
_PLACE = ("damage", "the listing of sessions by time shows")
_SHORT = ("damage", "session 's-short' says that it has 5 messages, but has 4")
_GAP = ("damage", "message 2 of session 's-gap' cannot be read")
_ID = ("damage", "message 3 of session 's-id' is not found by its id 'm3'")


def fill_for_damage(persistence: Persistence) -> None:
    """Write a sound store with a record for each damage."""
    for id in ("box", "moved", "paired", "c-text", "c-head"):
        persistence.containers.save(container(id))
    for id in ("image", "i-text", "i-half"):
        persistence.images.save(image(id, name=id))
    for key in ("text", "key"):
        persistence.items.save(item(key=key))
    names = ("sound", "text", "texts", "gone", "half", "short", "gap", "id", "time", "head")
    for n, name in enumerate((*names, "moved", "paired", "unlisted", "stale", "log", "lost")):
        owner = name if name in ("moved", "paired") else "box"
        record = session(f"s-{name}", container_id=owner, created_at=n, updated_at=n)
        persistence.sessions.save(record)
        sent = [message(str(at), id=f"m{at}") for at in range(1, 6)]
        persistence.sessions.add_messages(record.session_id, sent)


def damage_texts(backend: Backend, persistence: Persistence) -> None:
    module: Any = importlib.import_module(f"tests.backends.{backend.name}")
    for kind, id, position in (
        ("containers", "c-text", None),
        ("images", "i-text", None),
        ("sessions", "s-text", None),
        ("items", "box\x1fstate\x1f\x1ftext", None),
        ("sessions", "s-texts", 2),
        ("sessions", "s-texts", 4),
    ):
        assert module.corrupt(backend, persistence, kind, id, position, b'{"broken": 1')


def damage_rest(backend: Backend) -> Sequence[Expected]:
    """Do what this backend can suffer beside damaged texts; return what has to be found."""
    if backend.name == "fs":
        return _damage_files(Path(backend.arguments[0]))
    if "redis" in backend.module:
        return _damage_redis(backend)
    if "mongodb" in backend.module:
        return _damage_mongodb(backend)
    return _damage_sql(backend)


def _damage_sql(backend: Backend) -> Sequence[Expected]:
    statements = (
        "UPDATE agentx_sessions SET container_id = 'other' WHERE session_id = 's-moved'",
        "UPDATE agentx_sessions SET owners_digest = '0' WHERE session_id = 's-paired'",
        "UPDATE agentx_sessions SET created_at = 4000000000000 WHERE session_id = 's-time'",
        "UPDATE agentx_sessions SET revision = '' WHERE session_id = 's-half'",
        "UPDATE agentx_images SET revision = '' WHERE image_id = 'i-half'",
        "DELETE FROM agentx_sessions WHERE session_id = 's-gone'",
        "DELETE FROM agentx_messages WHERE session_id = 's-short' AND position = 5",
        "DELETE FROM agentx_messages WHERE session_id = 's-gap' AND position = 2",
        "UPDATE agentx_messages SET message_id = 'x' WHERE session_id = 's-id' AND position = 3",
    )
    for statement in statements:
        assert run_sql(backend, statement) == 1
    listing = "the listing of sessions with container_id 'paired' and image_id 'image'"
    paired = f"{listing} shows 0 records, not 1"
    expected = [_MOVED, ("damage", paired), _PLACE, _HALF, _HALF_IMAGE, _GONE, _SHORT, _GAP, _ID]
    return expected


def run_sql(backend: Backend, statement: str) -> int:
    """Run the statement on a backend of the SQL family; return how many rows it has met."""
    if backend.name == "sqlite":
        with closing(sqlite3.connect(backend.arguments[0])) as connection, connection:
            return connection.execute(statement).rowcount
    options = {**backend.options}
    if backend.name == "postgresql":
        with psycopg.connect(dbname=options.pop("database"), **options) as server:
            server.autocommit = True
            return server.execute(statement.encode()).rowcount
    arguments = options.pop("connect_args")
    with pymysql.connect(**arguments, **options, autocommit=True) as other:
        return int(other.cursor().execute(statement))


def _damage_files(base: Path) -> Sequence[Expected]:
    for kind, id in (("containers", "c-head"), ("sessions", "s-head")):
        record, _ = place(base, kind, id)
        record.write_bytes(b"\x00" + record.read_bytes()[1:])
    place(base, "sessions", "s-gone")[0].unlink()
    place(base, "sessions", "s-lost")[0].with_suffix(".jsonl").unlink()
    log, start = place(base, "sessions", "s-gap", 2)
    data = log.read_bytes()
    log.write_bytes(data[:start] + b"#" * 8 + data[start + 8 :])
    log = place(base, "sessions", "s-log")[0].with_suffix(".jsonl")
    log.write_bytes(b"#" + log.read_bytes()[1:])
    with closing(sqlite3.connect(base / "index.sqlite3")) as index, index:
        for statement in (
            "DELETE FROM sessions WHERE key = 's-unlisted'",
            "UPDATE sessions SET container_id = 'other' WHERE key = 's-moved'",
        ):
            assert index.execute(statement).rowcount
    return [
        ("damage", "the container 'c-head' cannot be read"),
        ("damage", "the session 's-head' cannot be read"),
        ("damage", "the containers cannot be listed"),
        ("damage", "the sessions cannot be listed"),
        ("damage", "the session 's-lost' cannot be read"),
        ("damage", "the session 's-log' cannot be read"),
        ("damage", "the listing of all sessions does not show the session 's-unlisted'"),
        ("note", "an index entry of the session 's-moved' is stale"),
        _GONE,
        _GAP,
        _MOVED,
        ("damage", _MOVED_PAIR),
    ]


def _damage_redis(backend: Backend) -> Sequence[Expected]:
    options = {**backend.options}
    keys = Keys(options.pop("base"))

    def member(client: Any, index: bytes, id: str) -> bytes:
        found: list[bytes] = client.zrange(index, 0, -1)
        (only,) = (each for each in found if id.encode() + b"\0" in each)
        return only

    everywhere = keys.index(SESSIONS, {})
    with connected(*backend.arguments, **options) as client:
        client.delete(keys.document(SESSIONS, "s-gone"))
        client.hdel(keys.document(SESSIONS, "s-head"), "revision")
        client.set(keys.document(SESSIONS, "s-half"), "no hash")
        client.zrem(everywhere, member(client, everywhere, "s-unlisted"))
        moved = keys.index(SESSIONS, {"container_id": "moved"})
        client.zrem(moved, member(client, moved, "s-moved"))
        stale = member(client, everywhere, "s-stale").partition(b"\0")[0] + b"\0old"
        client.zadd(keys.index(SESSIONS, {"container_id": "elsewhere"}), {stale: 0})
        client.zadd(keys.index(IMAGES, {"container_id": "box"}), {b"hi-gone": 0})
        client.rpop(keys.log("s-short")[1])
        client.zrem(keys.log("s-id")[2], "m3")
    # A single server counts what is gone, too; a cluster does not count where one is damaged.
    counted: list[Expected] = [
        ("damage", "the listing of sessions with container_id 'box' shows 14 records, not 10"),
        ("damage", "the listing of sessions with container_id 'box' and image_id 'image' shows"),
        ("damage", "the listing of sessions with image_id 'image' shows"),
    ]
    return [
        *([] if options else counted),
        ("damage", "the sessions cannot be listed"),
        ("damage", "the session 's-head' cannot be read"),
        ("damage", "the session 's-half' cannot be read"),
        ("damage", "the history of session 's-short' cannot be read"),
        ("damage", "the listing of all sessions does not show the session 's-unlisted'"),
        ("note", "an index entry of the session 's-stale' is stale"),
        ("note", "the image 'i-gone' does not exist, but some of its data is stored"),
        _GONE,
        _MOVED,
        _ID,
    ]


def _damage_mongodb(backend: Backend) -> Sequence[Expected]:
    with MongodbServer(backend.arguments[0]).connect() as client:
        database = client[backend.options["database_name"]]
        rows, messages = database["sessions"], database["messages"]
        (found,) = rows.find({"_id": "s-time"})
        changes: list[tuple[Any, str, dict[str, Any]]] = [
            (rows, "s-moved", {"$set": {"container_id": "other"}}),
            (rows, "s-half", {"$unset": {"place": "", "active": ""}}),
            (rows, "s-head", {"$unset": {"created_at": ""}}),
            (rows, "s-time", {"$set": {"place": f"{'0' * 17}{found['place'][17:]}"}}),
            (database["images"], "i-half", {"$unset": {"place": ""}}),
        ]
        for collection, id, change in changes:
            assert collection.update_one({"_id": id}, change).modified_count == 1
        assert rows.delete_one({"_id": "s-gone"}).deleted_count == 1
        for id, position in (("s-short", 5), ("s-gap", 2)):
            where = {"session_id": id, "position": position}
            assert messages.delete_one(where).deleted_count == 1
        where = {"session_id": "s-id", "position": 3}
        assert messages.update_one(where, {"$set": {"message_id": "x"}}).modified_count == 1
    return [
        ("damage", "the sessions cannot be listed"),
        ("damage", "the session 's-head' cannot be read"),
        ("damage", "message 5 of session 's-short' cannot be read"),
        ("damage", "the listing of all sessions does not show the session 's-time'"),
        _HALF,
        _HALF_IMAGE,
        _GONE,
        _GAP,
        _MOVED,
        ("damage", _MOVED_PAIR),
        _ID,
    ]
