"""What reaches a server or the file system beside the values: always the same, whatever the ids.

Each test makes every call with an innocent id, then with hostile ones, and compares what was sent.
"""

from __future__ import annotations

import hashlib
import io
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest
from redis.connection import AbstractConnection

from agentx_persistence import Persistence
from tests.backends.backend import Backend
from tests.contract.calls import all_calls
from tests.contract.hostile import INJECTIONS
from tests.processes import prepared
from tests.servers.mongodb import Commands


def _use(persistence: Persistence, id: str) -> None:
    for call in all_calls(persistence, id):
        call()


def _compare(backend: Backend, sent: Callable[[], set[Any]]) -> set[Any]:
    """Return what is sent for an innocent id; fail if anything else is for a hostile one."""
    with backend.open() as persistence:
        for id in ("innocent", "innocent 2"):
            _use(persistence, id)
        innocent = set(sent())
        assert len(innocent) > 5
        for id in INJECTIONS:
            _use(persistence, id)
            assert sent() - innocent == set(), id
    return innocent


def _record(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, take: Any) -> None:
    original = getattr(owner, name)

    def recording(self: Any, *arguments: Any, **options: Any) -> Any:
        take(*arguments)
        return original(self, *arguments, **options)

    monkeypatch.setattr(owner, name, recording)


class _Cursor(sqlite3.Cursor):
    """So that it can be recorded: the methods of the module's own cannot be replaced."""

    def execute(self, *arguments: Any) -> Any:
        return super().execute(*arguments)

    def executemany(self, *arguments: Any) -> Any:
        return super().executemany(*arguments)


class _Connection(sqlite3.Connection):
    def cursor(self, factory: Any = _Cursor) -> Any:
        return super().cursor(factory)

    def execute(self, *arguments: Any) -> Any:
        return self.cursor().execute(*arguments)


@pytest.fixture(params=["sqlite", "mysql", "mariadb", "postgresql"])
def database(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A backend of the relational family, and the statements that its driver is given."""
    backend = request.getfixturevalue(f"{request.param}_backend")
    statements: set[str] = set()
    cursors: dict[str, type[Any]] = {"sqlite": _Cursor, "postgresql": psycopg.Cursor}
    cursor = cursors.get(request.param, pymysql.cursors.Cursor)
    if cursor is _Cursor:
        connect = sqlite3.connect
        for module in (sqlite3, sqlite3.dbapi2):
            monkeypatch.setattr(
                module, "connect", lambda *a, **o: connect(*a, **o, factory=_Connection)
            )

    def take(statement: object, *_: object) -> None:
        # What is no text is what PyMySQL itself has made of a statement and its values.
        if isinstance(statement, str):
            statements.add(statement)

    for name in ("execute", "executemany"):
        _record(monkeypatch, cursor, name, take)
    return backend, statements


def test_no_id_is_part_of_a_statement(database: tuple[Backend, set[str]]) -> None:
    backend, statements = database
    for statement in _compare(backend, lambda: statements):
        assert "innocent" not in statement


@pytest.fixture(params=["redis", "redis_cluster", "valkey"])
def redis_like(request: pytest.FixtureRequest) -> Backend:
    backend: Backend = request.getfixturevalue(f"{request.param}_backend")
    return backend


def _commands(data: bytes) -> Iterator[list[bytes]]:
    """Iterate over the commands in what is sent to Redis: arrays of strings with their lengths."""
    rest = io.BytesIO(data)
    while head := rest.readline():
        lengths = (int(rest.readline()[1:]) for _ in range(int(head[1:])))
        yield [rest.read(length + 2)[:-2] for length in lengths]


def test_no_id_is_part_of_a_script_or_a_pattern(
    redis_like: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: set[tuple[bytes, ...]] = set()

    def take(data: bytes | list[bytes], *_: object) -> None:
        for name, *arguments in _commands(data if isinstance(data, bytes) else b"".join(data)):
            # Of EVAL and EVALSHA the first argument is code, all others are keys and values. A
            # node of a cluster may get the code of a script late.
            if name == b"EVAL":
                sha = hashlib.sha1(arguments[0], usedforsecurity=False).hexdigest()
                name, arguments = b"EVALSHA", [sha.encode()]
            sent.add((name, *arguments[: name == b"EVALSHA"]))

    _record(monkeypatch, AbstractConnection, "send_packed_command", take)
    for name, *code in _compare(redis_like, lambda: sent):
        assert b"innocent" not in b"".join(code)
        assert name not in {b"SCAN", b"KEYS", b"HSCAN", b"ZSCAN", b"SORT", b"PSUBSCRIBE"}
    assert any(name == b"EVALSHA" for name, *_ in sent)


def _shape(value: Any) -> Any:
    """Return the value without its plain values: keys, operators and types are left."""
    if isinstance(value, dict):
        return tuple((key, _shape(each)) for key, each in value.items())
    if isinstance(value, (list, tuple)):
        return ("list", *sorted({repr(_shape(each)) for each in value}))
    return type(value).__name__


def _keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
    if isinstance(value, (dict, list, tuple)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _keys(each)


def test_no_id_is_a_key_or_an_operator(mongodb_backend: Backend) -> None:
    commands = Commands()
    options = {**mongodb_backend.options, "event_listeners": [commands]}
    plain = {"lsid", "$clusterTime", "txnNumber", "startTransaction", "autocommit"}

    shapes = set[Any]()
    seen = 0

    def sent() -> set[Any]:
        nonlocal seen
        for name, command in commands.sent[seen:]:
            shapes.add((name, repr(_shape({k: v for k, v in command.items() if k not in plain}))))
            seen += 1
        return shapes

    _compare(replace(mongodb_backend, options=options), sent)
    keys = {key for _, command in commands.sent for key in _keys(command)}
    assert keys.isdisjoint({*INJECTIONS} - {"$gt"})  # which is used, too
    assert keys.isdisjoint({"$where", "$function", "$accumulator", "$regex"})
    for expression in (each for _, command in commands.sent for each in _expressions(command)):
        # Fields and variables only: a value in there could be taken for one of them.
        assert all(text.startswith("$") for text in _texts(expression)), expression


def _expressions(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from (each for key, each in value.items() if key == "$expr")
    if isinstance(value, (dict, list, tuple)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _expressions(each)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _texts(each)
    else:
        yield repr(value)


def _touched_outside(backend: Backend) -> list[str]:
    """Return the paths outside of the store that are opened or changed for hostile ids."""
    store = backend.arguments[0]
    outside: list[str] = []
    listening = False

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if listening and (event == "open" or event.startswith(("os.", "shutil.", "subprocess."))):
            named = arguments[: 1 if event == "open" else 2]
            paths = [os.fsdecode(path) for path in named if isinstance(path, (str, bytes))]
            outside.extend(
                f"{event} {path}"
                for path in paths
                if not f"{os.path.abspath(path)}{os.sep}".startswith(f"{store}{os.sep}")
            )

    sys.addaudithook(hook)
    with backend.open() as persistence:
        _use(persistence, "innocent")
        listening = True
        for id in INJECTIONS:
            _use(persistence, id)
        listening = False
    return outside


def test_no_id_reaches_a_path_outside_of_the_store(fs_backend: Backend) -> None:
    Path(fs_backend.arguments[0]).mkdir()
    with prepared().Pool(1) as pool:
        assert pool.apply(_touched_outside, (fs_backend,)) == []
