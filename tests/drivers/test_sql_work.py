"""How much each operation asks of a database: statements and round trips, not times."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agentx_persistence import (
    ImageRecord,
    ItemRecord,
    Persistence,
    SessionRecord,
    create_persistence,
)
from agentx_persistence.sqlite import sqlite_driver
from agentx_persistence.storage import SESSIONS
from tests.backends.backend import DATABASE_SERVER, Backend
from tests.contract.records import container, image, message, saved_session, session
from tests.servers.proxy import Proxy

STORED = [message(id="m1"), message(id="m2")]
ITEM: dict[str, Any] = {"namespace": ("box",), "key": "key"}

Operation = Callable[[Persistence], object]


def _append_and_create(persistence: Persistence, new: SessionRecord) -> None:
    persistence.sessions.add_message(new.session_id, message(), create=new)


def _append_and_pop(persistence: Persistence) -> None:
    persistence.sessions.add_message("session", message())
    assert persistence.sessions.pop_message("session") is not None


# The round trips to PostgreSQL, and to MySQL, whose transactions are opened by their first
# statement; and the statements of SQLite, for which BEGIN and COMMIT count, too.
# Each is measured as one of several in a row: between a read and a write MySQL is told once whether
# it is to commit by itself.
WORK: dict[str, tuple[Operation, int, int, int]] = {
    "append": (lambda p: p.sessions.add_message("session", message()), 1, 3, 4),
    "append 100": (
        lambda p: p.sessions.add_messages("session", [message() for _ in range(100)]),
        1,
        3,
        103,
    ),
    "append and create": (
        lambda p: _append_and_create(p, SessionRecord()),
        7,
        7,
        9,
    ),
    "append or create": (
        lambda p: p.sessions.add_message("session", message(), create=session("session")),
        1,
        3,
        4,
    ),
    "append again": (lambda p: p.sessions.add_message("session", STORED[0]), 4, 12, 10),
    "load": (lambda p: p.sessions.get_messages("session"), 1, 1, 1),
    "last": (lambda p: p.sessions.get_messages("session", last=50), 1, 1, 1),
    "above": (lambda p: p.sessions.get_messages("session", last=50, before="m2"), 1, 1, 1),
    "stream": (lambda p: [*p.sessions.iter_messages("session")], 2, 2, 2),
    "stream after": (lambda p: [*p.sessions.iter_messages("session", after="m1")], 2, 2, 2),
    "one message": (lambda p: p.sessions.get_message("session", "m1"), 1, 1, 1),
    "count": (lambda p: p.sessions.count_messages("session"), 1, 1, 1),
    "summaries": (lambda p: p.sessions.summaries(["session", "absent"]), 1, 1, 1),
    "session of an image": (lambda p: p.sessions.find_by_image("image"), 1, 1, 1),
    "active": (
        lambda p: p.sessions.find_page(container_id="box", order="active", size=20),
        1,
        1,
        1,
    ),
    "page": (lambda p: p.images.find_page(container_id="box", size=20), 1, 1, 1),
    "page by name": (lambda p: p.images.find_page(container_id="box", name="n", size=20), 1, 1, 1),
    "list": (lambda p: p.containers.find_all(limit=20), 1, 1, 1),
    "number": (lambda p: p.sessions.count(container_id="box"), 1, 1, 1),
    "get": (lambda p: p.images.get("image"), 1, 1, 1),
    "get many": (lambda p: p.images.find_many(["image", "absent", "more"]), 1, 1, 1),
    "exists": (lambda p: p.images.exists("image"), 1, 1, 1),
    "save": (lambda p: p.images.save(image("image")), 1, 1, 1),
    "save an item": (lambda p: p.items.save(ItemRecord(**ITEM, value=1)), 1, 1, 1),
    "get an item": (lambda p: p.items.find(("box",), "key"), 1, 1, 1),
    "page of items": (lambda p: p.items.find_page(namespace=("box",), size=20), 1, 1, 1),
    "items of a prefix": (
        lambda p: p.items.find_page(namespace_prefix=("box",), size=20),
        1,
        1,
        1,
    ),
    "update an item": (lambda p: p.items.update(**ITEM, change={"value": 2}), 2, 2, 2),
    "delete an item": (lambda p: p.items.delete(**ITEM), 3, 2, 4),
    "create": (lambda p: p.images.create(ImageRecord(container_id="box")), 1, 1, 1),
    "update": (lambda p: p.images.update("image", {"roleId": "r"}), 2, 2, 2),
    "change": (lambda p: p.images.update_metadata("image", {"key": "value"}), 2, 2, 2),
    "rewind": (lambda p: p.sessions.truncate_after("session", "m1"), 6, 5, 6),
    "clear": (lambda p: p.sessions.clear_messages("session"), 5, 4, 5),
    "rewrite": (
        lambda p: p.sessions.rewrite("session", after="m1", messages=[message()]),
        2,
        5,
        6,
    ),
    "append and pop": (_append_and_pop, 3, 7, 9),
    "replace": (lambda p: p.sessions.replace_message("session", STORED[0]), 5, 4, 5),
    "fork": (lambda p: p.sessions.fork("session", SessionRecord(image_id="image")), 5, 4, 5),
    "delete a session": (lambda p: p.sessions.delete("absent"), 3, 2, 3),
    "delete an old session": (
        lambda p: p.sessions._storage.delete(SESSIONS, "absent", before=1),
        *(3, 2, 3),
    ),
    "delete an image": (lambda p: p.images.delete("absent"), 4, 3, 4),
    "delete a container": (lambda p: p.containers.delete("absent"), 7, 6, 7),
    "ping": (lambda p: p.ping(), 1, 1, 1),
}


def _prepare(persistence: Persistence) -> None:
    persistence.sessions.delete("session")
    persistence.containers.save(container("box"))
    persistence.images.save(image("image", container_id="box"))
    saved_session(persistence)
    persistence.sessions.save(session(image_id="image"))
    persistence.sessions.add_messages("session", STORED)
    persistence.items.save(ItemRecord(**ITEM, value=1))


def _connections(persistence: Any) -> list[Any]:
    """Return SQLite's connections."""
    kept = persistence._storage._database._connections
    return [pooled.dbapi_connection for pooled in (kept._writer, *kept._readers)]


@pytest.mark.needs(DATABASE_SERVER)
def test_each_operation_takes_its_round_trips_and_no_more(
    backend: Backend, request: pytest.FixtureRequest
) -> None:
    server: Any = request.getfixturevalue(f"{backend.name}_server")
    found = {}
    with (
        Proxy(server.url.host, server.url.port).open() as proxy,
        create_persistence(
            server.driver(backend.options["database"], port=proxy.port)
        ) as persistence,
    ):
        for name, (operation, *_) in WORK.items():
            _prepare(persistence)
            for _ in range(8):  # the first ones are not prepared yet
                before = proxy.round_trips
                operation(persistence)
                found[name] = proxy.round_trips - before
    which = 1 if backend.name == "postgresql" else 2
    assert found == {name: row[which] for name, row in WORK.items()}


def test_each_operation_of_sqlite_is_as_many_statements_and_no_more(tmp_path: Path) -> None:
    found = {}
    with create_persistence(sqlite_driver(tmp_path / "agentx.db")) as persistence:
        statements: list[str] = []
        _prepare(persistence)
        persistence.ping()
        for connection in _connections(persistence):
            connection.set_trace_callback(statements.append)
        for name, (operation, *_) in WORK.items():
            _prepare(persistence)
            statements.clear()
            operation(persistence)
            found[name] = len(statements)
    assert found == {name: row[3] for name, row in WORK.items()}


def test_sqlite_reads_what_it_replaces_on_the_connection_that_writes(tmp_path: Path) -> None:
    statements: list[str] = []
    with create_persistence(sqlite_driver(tmp_path / "agentx.db")) as persistence:
        _prepare(persistence)
        persistence.ping()
        for reader in _connections(persistence)[1:]:  # each write empties its cache
            reader.set_trace_callback(statements.append)
        persistence.sessions.rewrite("session", after="m1", messages=[message()])
        persistence.sessions.pop_message("session")
        assert not statements
        persistence.sessions.count_messages("session")
    assert len(statements) == 1


def test_no_call_of_sqlite_reads_a_whole_session(tmp_path: Path) -> None:
    """SQLite takes some ten steps of its virtual machine for a row; to begin elsewhere takes one
    for each row that is passed over."""
    long = [message(id=f"m{number}") for number in range(10_000)]
    with create_persistence(sqlite_driver(tmp_path / "agentx.db")) as persistence:
        saved_session(persistence)
        sessions = persistence.sessions
        sessions.add_messages("session", long)
        persistence.ping()
        hundreds = [0]

        def count() -> int:
            hundreds[0] += 1
            return 0

        for connection in _connections(persistence):
            connection.set_progress_handler(count, 100)

        def steps(call: Callable[[], object], expected: object) -> int:
            before = hundreds[0]
            assert call() == expected
            return 100 * (hundreds[0] - before)

        def windows(**bounds: str) -> list[dict[str, Any]]:
            return [{**bounds, "first": 50}, {**bounds, "last": 50}]

        start, end = long[:30], long[-30:]
        for window, expected in (
            ({"before": "m30"}, start),
            *((window, start) for window in windows(before="m30")),
            ({"after": "m9969"}, end),
            *((window, end) for window in windows(after="m9969")),
            ({"after": "m4999", "before": "m5030"}, long[5000:5030]),
            *((window, long[5000:5030]) for window in windows(after="m4999", before="m5030")),
            ({"after": "m99", "last": 30}, end),
            ({"before": "m9900", "first": 30}, start),
        ):
            taken = steps(partial(sessions.get_messages, "session", **window), expected)
            assert 0 < taken < 2000, window
        forward = steps(lambda: list(sessions.iter_messages("session")), long)
        backward = steps(lambda: list(sessions.iter_messages("session", reverse=True)), long[::-1])
        assert backward < 1.2 * forward
        for through in (19, 29):
            fork = partial(sessions.fork, "session", SessionRecord(), through=f"m{through}")
            assert 0 < steps(fork, through + 1) < 4000
