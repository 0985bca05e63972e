"""What users do wrong: how it is called, the class of the error, and the words that they need."""

from __future__ import annotations

import datetime
import gc
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from pymongo import AsyncMongoClient
from redis.asyncio import Redis as AsyncRedis
from sqlalchemy import create_engine, make_url

from agentx_persistence import (
    BackendUnavailableError,
    ConfigurationError,
    ImageRecord,
    InvalidRecordError,
    ItemRecord,
    MissingDependencyError,
    Persistence,
    PersistenceClosedError,
    RecordConflictError,
    RecordNotFoundError,
    SchemaError,
    SessionRecord,
    ToolCallMessage,
    UserMessage,
    create_persistence,
    memory_driver,
    parse_message,
)
from agentx_persistence.fs import fs_driver
from agentx_persistence.mongodb import mongodb_driver
from agentx_persistence.mysql import mysql_driver
from agentx_persistence.postgresql import postgresql_driver
from agentx_persistence.redis import redis_driver
from agentx_persistence.sqlite import sqlite_driver
from tests.backends.backend import Backend
from tests.backends.urls import url_of
from tests.servers.process import free_port

Row = tuple[Callable[..., object], type[Exception], str]

OPENING: dict[str, Row] = {
    # The target
    "an empty variable": (lambda: create_persistence(""), ConfigurationError, "write sqlite:///"),
    "a path": (
        lambda: create_persistence("data/a.db"),
        ConfigurationError,
        "write sqlite:///data/a.db",
    ),
    "a Path": (lambda: create_persistence(Path("a.db")), ConfigurationError, "URL or a driver"),  # type: ignore[arg-type]
    "bytes": (lambda: create_persistence(b"memory:"), ConfigurationError, "not bytes"),  # type: ignore[arg-type]
    "an engine": (
        lambda: create_persistence(create_engine("sqlite://")),  # type: ignore[arg-type]
        ConfigurationError,
        "not Engine",
    ),
    "a function": (lambda: create_persistence(memory_driver), ConfigurationError, "not function"),  # type: ignore[arg-type]
    "an unknown scheme": (
        lambda: create_persistence("postgress://u:tiger@h/d"),
        ConfigurationError,
        "'postgress' is unknown; known are file, mariadb, memory, mongodb",
    ),
    "a blank before the URL": (
        lambda: create_persistence(" sqlite:///a.db"),
        ConfigurationError,
        "is no URL",
    ),
    "options beside a driver": (
        lambda: create_persistence(memory_driver(), pool_size=3),
        ConfigurationError,
        "give it to the driver",
    ),
    "options of nothing": (lambda: create_persistence(size=3), ConfigurationError, "'size'"),
    # Options
    "memory: an option": (
        lambda: create_persistence("memory:", size=3),
        ConfigurationError,
        "'size'",
    ),
    "fs: a misspelt option": (
        lambda: create_persistence("file:a", time_out=3),
        ConfigurationError,
        "fs_driver() got an unexpected keyword argument 'time_out'",
    ),
    "sqlite: a misspelt option": (
        lambda: create_persistence("sqlite:///a.db", syncronous="FULL"),
        ConfigurationError,
        "'syncronous'",
    ),
    "postgresql: a misspelt option": (
        lambda: create_persistence("postgresql://h/d", poolsize=3),
        ConfigurationError,
        "'poolsize'",
    ),
    "mysql: a misspelt option": (
        lambda: create_persistence("mysql://h/d", poolsize=3),
        ConfigurationError,
        "'poolsize'",
    ),
    "redis: a misspelt option": (
        lambda: create_persistence("redis://127.0.0.1:1", soket_timeout=3),
        ConfigurationError,
        "'soket_timeout'",
    ),
    "mongodb: a misspelt option": (
        lambda: create_persistence("mongodb://127.0.0.1:1/d", maxPoolsSize=3),
        ConfigurationError,
        "an option is refused by pymongo",
    ),
    "fs: a time as text": (lambda: fs_driver("a", timeout="3"), ConfigurationError, "timeout"),  # type: ignore[arg-type]
    "fs: no time": (lambda: fs_driver("a", timeout=0), ConfigurationError, "timeout"),
    "sqlite: a time as text": (
        lambda: sqlite_driver("a.db", timeout="3"),  # type: ignore[arg-type]
        InvalidRecordError,
        "timeout: must be seconds, not '3'",
    ),
    "sqlite: a setting in small letters": (
        lambda: sqlite_driver("a.db", synchronous="full"),  # type: ignore[arg-type]
        InvalidRecordError,
        "FULL, NORMAL or EXTRA",
    ),
    "postgresql: a number as text": (
        lambda: postgresql_driver("postgresql://h/d", pool_size="5"),  # type: ignore[arg-type]
        InvalidRecordError,
        "pool_size: must be a number",
    ),
    "postgresql: a port that is none": (
        lambda: postgresql_driver(host="h", port="pgport", database="d"),  # type: ignore[arg-type]
        InvalidRecordError,
        "port: must be a number",
    ),
    "mysql: a number as text": (
        lambda: mysql_driver("mysql://h/d", lock_timeout="5"),  # type: ignore[arg-type]
        InvalidRecordError,
        "lock_timeout: must be a number",
    ),
    "redis: a time as text": (
        lambda: redis_driver(retry_seconds="5"),  # type: ignore[arg-type]
        InvalidRecordError,
        "retry_seconds: must be seconds",
    ),
    "mongodb: a time as text": (
        lambda: mongodb_driver(patience="5"),  # type: ignore[arg-type]
        InvalidRecordError,
        "patience: must be a positive number",
    ),
    # Paths
    "sqlite: a URL as path": (
        lambda: sqlite_driver("sqlite:///a.db"),
        InvalidRecordError,
        "must be a path; give a URL to create_persistence",
    ),
    "sqlite: a URI": (lambda: sqlite_driver("file:x?mode=ro"), InvalidRecordError, "not a URI"),
    "sqlite: nothing": (lambda: sqlite_driver(""), InvalidRecordError, "'data/agentx.db'"),
    "sqlite: bytes": (lambda: sqlite_driver(b"a.db"), InvalidRecordError, "'data/agentx.db'"),  # type: ignore[arg-type]
    "sqlite: NUL": (lambda: sqlite_driver("a\0b"), InvalidRecordError, "'data/agentx.db'"),
    "sqlite: None": (lambda: sqlite_driver(None), InvalidRecordError, "'data/agentx.db'"),  # type: ignore[arg-type]
    "sqlite: a folder": (lambda: sqlite_driver("folder/"), InvalidRecordError, "path of a file"),
    "sqlite: a URL with two slashes": (
        lambda: create_persistence("sqlite://a.db"),
        ConfigurationError,
        "write sqlite:///file.db",
    ),
    "fs: a URL as path": (
        lambda: fs_driver("file:///a"),
        ConfigurationError,
        "give a URL to create_persistence",
    ),
    "fs: nothing": (lambda: fs_driver(""), ConfigurationError, "'data/agentx'"),
    "fs: bytes": (lambda: fs_driver(b"a"), ConfigurationError, "'data/agentx'"),  # type: ignore[arg-type]
    "fs: NUL": (lambda: fs_driver("a\0"), ConfigurationError, "'data/agentx'"),
    "fs: None": (lambda: fs_driver(None), ConfigurationError, "'data/agentx'"),  # type: ignore[arg-type]
    # Addresses
    "postgresql: a name": (
        lambda: postgresql_driver("agentx"),
        InvalidRecordError,
        "write postgresql://user:password@host/database",
    ),
    "postgresql: a port in the URL that is none": (
        lambda: postgresql_driver("postgresql://u:tiger@h:port/d"),
        InvalidRecordError,
        "write postgresql://user:password@host/database",
    ),
    "postgresql: another database's URL": (
        lambda: postgresql_driver("mysql://h/d"),
        InvalidRecordError,
        "must begin with postgresql",
    ),
    "postgresql: another client library": (
        lambda: create_persistence("postgresql+asyncpg://h/d"),
        InvalidRecordError,
        "must begin with postgresql+psycopg",
    ),
    "postgresql: a password beside the URL": (
        lambda: postgresql_driver("postgresql://h/d", password="tiger"),
        InvalidRecordError,
        "is part of the URL",
    ),
    "mysql: a port in the URL that is none": (
        lambda: mysql_driver("mysql://u:tiger@h:port/d"),
        InvalidRecordError,
        "write mysql://user:password@host/database",
    ),
    "redis: no scheme": (
        lambda: redis_driver("localhost:6379"),
        InvalidRecordError,
        "must be redis://",
    ),
    "redis: a port that is none": (
        lambda: redis_driver("redis://:tiger@h:port/0"),
        InvalidRecordError,
        "must be redis://",
    ),
    "redis: a database's name": (
        lambda: redis_driver("redis://h/cache"),
        InvalidRecordError,
        "database's number",
    ),
    "redis: Sentinel without a service": (
        lambda: redis_driver("redis+sentinel://h"),
        InvalidRecordError,
        "redis+sentinel://host:26379,host:26379/service/db",
    ),
    "redis: braces in the base": (
        lambda: redis_driver(base="{}"),
        InvalidRecordError,
        "base: must be printable text without {}",
    ),
    "mongodb: no scheme": (
        lambda: create_persistence(mongodb_driver("http://localhost:27017")),
        ConfigurationError,
        "connection string",
    ),
    "mongodb: a name with a blank": (
        lambda: create_persistence(mongodb_driver(database_name="a b")),
        InvalidRecordError,
        "database_name",
    ),
    "mongodb: a prefix with a dollar": (
        lambda: create_persistence(mongodb_driver(collection_prefix="$x")),
        InvalidRecordError,
        "collection_prefix",
    ),
    # Engines and clients
    "postgresql: an engine of SQLite": (
        lambda: postgresql_driver(engine=create_engine("sqlite://")),
        InvalidRecordError,
        "must begin with postgresql",
    ),
    "postgresql: a URL as engine": (
        lambda: postgresql_driver(engine="postgresql://h/d"),  # type: ignore[arg-type]
        InvalidRecordError,
        "must be a sqlalchemy.Engine, not str",
    ),
    "mysql: a Connection as engine": (
        lambda: mysql_driver(engine=create_engine("sqlite://").connect()),  # type: ignore[arg-type]
        InvalidRecordError,
        "must be a sqlalchemy.Engine, not Connection",
    ),
    "redis: an asyncio client": (
        lambda: redis_driver(client=AsyncRedis()),  # type: ignore[arg-type]
        InvalidRecordError,
        "not an asyncio one",
    ),
    "mongodb: an asyncio client": (
        lambda: mongodb_driver(client=AsyncMongoClient(connect=False)),  # type: ignore[arg-type]
        InvalidRecordError,
        "not AsyncMongoClient",
    ),
}

M = UserMessage(id="m", content="x")
S = SessionRecord(session_id="s")

CALLS: dict[str, Row] = {
    # Messages
    "one message for many": (
        lambda p: p.sessions.add_messages("s", M),
        InvalidRecordError,
        "messages: must be a list of messages, not UserMessage",
    ),
    "many for one": (lambda p: p.sessions.add_message("s", [M]), InvalidRecordError, "not list"),
    "a mapping for a message": (
        lambda p: p.sessions.add_message("s", {"role": "user", "content": "x"}),
        InvalidRecordError,
        "parse_message",
    ),
    "text for a message": (
        lambda p: p.sessions.add_message("s", "hi"),
        InvalidRecordError,
        "not str",
    ),
    "arguments in the wrong order": (
        lambda p: p.sessions.add_message(M, "s"),
        InvalidRecordError,
        "id: must be a string, not UserMessage",
    ),
    "the record for its id": (
        lambda p: p.sessions.add_message(S, M),
        InvalidRecordError,
        "id: must be a string, not SessionRecord",
    ),
    "an absent session": (
        lambda p: p.sessions.add_message("absent", M),
        RecordNotFoundError,
        "no session with id 'absent'",
    ),
    "create=True": (
        lambda p: p.sessions.add_message("s", M, create=True),
        InvalidRecordError,
        "must be SessionRecord, not bool",
    ),
    "another session to create": (
        lambda p: p.sessions.add_message("s", M, create=SessionRecord()),
        InvalidRecordError,
        "create: must be the session 's'",
    ),
    "a number as text": (
        lambda p: p.sessions.add_message("s", M, expected="1"),
        InvalidRecordError,
        "expected: must be a whole number",
    ),
    "another message of this id": (
        lambda p: p.sessions.add_message("s", UserMessage(id="m", content="y")),
        RecordConflictError,
        "differs in content",
    ),
    "an edit of an absent message": (
        lambda p: p.sessions.replace_message("s", UserMessage(id="no", content="y")),
        RecordNotFoundError,
        "no message with id 'no'",
    ),
    "a fork into an id": (
        lambda p: p.sessions.fork("s", "t"),
        InvalidRecordError,
        "new: must be SessionRecord, not str",
    ),
    "a fork into itself": (
        lambda p: p.sessions.fork("s", S),
        RecordConflictError,
        "another session has the id 's'",
    ),
    "a cut after an absent message": (
        lambda p: p.sessions.truncate_after("s", "no"),
        RecordNotFoundError,
        "no message with id 'no'",
    ),
    # Reading
    "before=3": (
        lambda p: p.sessions.get_messages("s", before=3),
        InvalidRecordError,
        "give the id of a message",
    ),
    "limit=5": (lambda p: p.sessions.get_messages("s", limit=5), TypeError, "'limit'"),
    "first and last": (
        lambda p: p.sessions.get_messages("s", first=1, last=1),
        InvalidRecordError,
        "cannot be given together",
    ),
    "a negative number": (
        lambda p: p.sessions.get_messages("s", last=-1),
        InvalidRecordError,
        "last: must be a whole number from 0",
    ),
    "one id for many": (lambda p: p.sessions.find_many("s"), InvalidRecordError, "session ids"),
    "a UUID": (
        lambda p: p.sessions.get(uuid.uuid4()),
        InvalidRecordError,
        "must be a string, not UUID",
    ),
    "None": (lambda p: p.sessions.get(None), InvalidRecordError, "must be a string"),
    "an unknown order": (
        lambda p: p.sessions.find_all(order="latest"),
        InvalidRecordError,
        "one of 'newest', 'oldest', 'active'",
    ),
    "activity of all": (
        lambda p: p.sessions.find_all(order="active"),
        InvalidRecordError,
        "'active' lists by container_id",
    ),
    "a datetime": (
        lambda p: p.sessions.find_all(since=datetime.datetime.now(datetime.UTC)),
        InvalidRecordError,
        "Unix milliseconds",
    ),
    "a cursor of one's own": (
        lambda p: p.sessions.find_page(cursor="3"),
        InvalidRecordError,
        "pass `Page.next_cursor` unchanged",
    ),
    "an empty page": (lambda p: p.sessions.find_page(size=0), InvalidRecordError, "from 1 to"),
    "a namespace as text": (
        lambda p: p.items.get("user-42", "k"),
        InvalidRecordError,
        "namespace: must be a tuple of texts",
    ),
    "an empty prefix": (
        lambda p: p.items.find_page(namespace_prefix=()),
        InvalidRecordError,
        "at least one element",
    ),
    "items of everybody": (
        lambda p: p.items.find_page(),
        InvalidRecordError,
        "give either a namespace or a namespace_prefix",
    ),
    # Records
    "a mapping for a record": (
        lambda p: p.sessions.save({"sessionId": "x"}),
        InvalidRecordError,
        "must be SessionRecord, not dict",
    ),
    "another kind of record": (
        lambda p: p.sessions.save(ImageRecord(container_id="c")),
        InvalidRecordError,
        "must be SessionRecord, not ImageRecord",
    ),
    "a record that is there": (lambda p: p.sessions.create(S), RecordConflictError, "the id 's'"),
    "a field for a change": (
        lambda p: p.sessions.update("s", "title"),
        InvalidRecordError,
        "must be a mapping or a function",
    ),
    "another id": (
        lambda p: p.sessions.update("s", {"session_id": "t"}),
        InvalidRecordError,
        "session_id: cannot change",
    ),
    "a change that returns nothing": (
        lambda p: p.sessions.update("s", lambda record: None),
        InvalidRecordError,
        "must return SessionRecord",
    ),
    "an assignment": (
        lambda p: setattr(p.sessions.get("s"), "title", "x"),
        InvalidRecordError,
        "model_copy",
    ),
    "an empty id": (
        lambda p: p.sessions.save(SessionRecord(session_id="")),
        InvalidRecordError,
        "1 to 255 characters",
    ),
    "white space at an end": (
        lambda p: p.sessions.save(SessionRecord(session_id="s\n")),
        InvalidRecordError,
        "no white space at its start or end",
    ),
    "a lone surrogate": (
        lambda p: p.sessions.add_message("s", UserMessage(content="\ud800")),
        InvalidRecordError,
        "content: a lone surrogate",
    ),
    "a misspelt field": (
        lambda p: p.sessions.add_message("s", UserMessage(contents="x")),  # type: ignore[call-arg]
        InvalidRecordError,
        "content: is missing (was it meant by 'contents'?)",
    ),
    "a time as text": (
        lambda p: p.sessions.add_message("s", UserMessage(content="x", timestamp="2026-01-01")),  # type: ignore[arg-type]
        InvalidRecordError,
        "Unix milliseconds",
    ),
    "a fraction of seconds": (
        lambda p: p.sessions.add_message("s", UserMessage(content="x", timestamp=1767225600.5)),  # type: ignore[arg-type]
        InvalidRecordError,
        "not seconds",
    ),
    "no number": (
        lambda p: p.items.save(ItemRecord(namespace=("a",), key="k", value=float("nan"))),
        InvalidRecordError,
        "value: NaN",
    ),
    "no JSON": (
        lambda p: p.items.save(ItemRecord(namespace=("a",), key="k", value={1})),
        InvalidRecordError,
        "value: set has no exact JSON form",
    ),
    "a tool's call without parts": (
        lambda p: p.sessions.add_message("s", ToolCallMessage(tool_call={"name": "x"})),  # type: ignore[arg-type]
        InvalidRecordError,
        "tool_call.id: is missing",
    ),
    "no subtype": (
        lambda p: parse_message({"role": "user", "content": "x"}),
        InvalidRecordError,
        "subtype: is missing; it is one of user, assistant",
    ),
    "no transaction": (lambda p: p.within(None), ConfigurationError, "within"),
}


def _refused(call: Callable[[], object], error: type[Exception], words: str) -> None:
    with pytest.raises(error) as raised:
        call()
    assert type(raised.value) is error
    assert words in str(raised.value)
    assert "tiger" not in str(raised.value)


@pytest.mark.parametrize("mistake", OPENING)
def test_a_mistake_in_opening_says_what_to_do(
    mistake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _refused(*OPENING[mistake])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mistake", CALLS)
def test_a_mistake_in_a_call_says_what_to_do_and_writes_nothing(
    persistence: Persistence, mistake: str
) -> None:
    persistence.sessions.add_message("s", M, create=S)
    before = persistence.sessions.get("s")
    call, error, words = CALLS[mistake]
    _refused(lambda: call(persistence), error, words)
    assert persistence.sessions.find_all() == [before]
    assert persistence.sessions.get_messages("s") == [M]


def test_a_call_after_closing_says_so(backend: Backend) -> None:
    persistence = backend.open()
    persistence.close()
    _refused(lambda: persistence.sessions.find("s"), PersistenceClosedError, "closed")


def _with(url: str, **parts: str) -> str:
    """Return the URL with another part; its password is `tiger` unless it is that of the server."""
    changed = make_url(url)
    query = parts.pop("query", None)
    changed = changed.set(**parts)  # type: ignore[arg-type]
    if query:
        changed = changed.update_query_string(query)
    return changed.render_as_string(hide_password=False)


# The backend, the change of the URL that works, and what is said.
PLACES: dict[str, tuple[str, dict[str, str], type[Exception], str]] = {
    "mysql: a wrong password": ("mysql", {"password": "tiger"}, ConfigurationError, "password"),
    "mysql: no such user": ("mysql", {"username": "nobody"}, ConfigurationError, "check user"),
    "mysql: no such database": ("mysql", {"database": "no"}, ConfigurationError, "create the dat"),
    "mysql: an unknown option": ("mysql", {"query": "schema=public"}, ConfigurationError, "schema"),
    "mariadb: a wrong password": ("mariadb", {"password": "tiger"}, ConfigurationError, "password"),
    "mariadb: no such database": ("mariadb", {"database": "no"}, ConfigurationError, "create the"),
    "postgresql: no such role": ("postgresql", {"username": "no"}, ConfigurationError, "role"),
    "postgresql: no such database": ("postgresql", {"database": "no"}, ConfigurationError, "names"),
    "postgresql: no such schema": (
        "postgresql",
        {"query": "schema=nowhere"},
        SchemaError,
        "schema=nowhere",
    ),
    "postgresql: a misspelt option": (
        "postgresql",
        {"query": "sslmod=require"},
        ConfigurationError,
        "check the options in the URL",
    ),
    "redis: a database that is not there": (
        "redis",
        {"database": "99"},
        ConfigurationError,
        "out of range",
    ),
    "redis: a password where there is none": (
        "redis",
        {"username": "nobody", "password": "tiger"},
        ConfigurationError,
        "password",
    ),
    "redis: a server as a cluster": (
        "redis",
        {"drivername": "redis+cluster"},
        ConfigurationError,
        "open it without cluster=True",
    ),
    "redis: a node of a cluster as a server": (
        "redis_cluster",
        {},
        ConfigurationError,
        "cluster=True",
    ),
}


@pytest.mark.parametrize("mistake", PLACES)
def test_a_place_that_is_not_there_is_no_error_to_repeat(
    request: pytest.FixtureRequest, mistake: str
) -> None:
    name, changes, error, words = PLACES[mistake]
    backend: Backend = request.getfixturevalue(f"{name}_backend")
    url, options = url_of(backend, name.partition("_")[0])
    _refused(lambda: create_persistence(_with(url, **changes), **options), error, words)
    gc.collect()  # redis-py leaves the connection open on which it finds no cluster


@pytest.mark.parametrize("scheme", ["mysql", "postgresql", "redis", "mongodb"])
def test_a_wrong_port_is_said_with_the_address(scheme: str) -> None:
    port = free_port()
    _refused(
        lambda: create_persistence(f"{scheme}://u:tiger@127.0.0.1:{port}/0"),
        BackendUnavailableError,
        f"127.0.0.1:{port}",
    )


def test_a_file_that_is_no_database_is_left_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("no database, but long enough to be taken for one\n" * 99)
    before = file.read_bytes()
    _refused(
        lambda: create_persistence(f"sqlite:///{file}"),
        ConfigurationError,
        "give the path of a SQLite database, or of a file that does not exist yet",
    )
    assert file.read_bytes() == before
    _refused(lambda: create_persistence(f"file://{file}"), ConfigurationError, "not a folder")


@pytest.mark.parametrize(
    ("url", "extra", "package"),
    [
        ("sqlite:///a.db", "sqlite", "sqlalchemy"),
        ("postgresql://h/d", "postgresql", "psycopg"),
        ("mysql://h/d", "mysql", "pymysql"),
        ("redis://h", "redis", "redis"),
        ("mongodb://h/d", "mongodb", "pymongo"),
    ],
)
def test_a_missing_extra_is_named(
    url: str, extra: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in list(sys.modules):
        if module == f"agentx_persistence.{extra}" or module.partition(".")[0] == package:
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    _refused(
        lambda: create_persistence(url),
        MissingDependencyError,
        f"pip install 'agentx-persistence[{extra}]'",
    )
