"""How much each operation asks of MongoDB and the file system: counts, not times."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentx_persistence import Persistence, create_persistence
from agentx_persistence._fs import files, logs, records
from agentx_persistence._fs.index import Index
from agentx_persistence.fs import fs_driver
from agentx_persistence.mongodb import mongodb_driver
from agentx_persistence.repositories import conversations
from tests.backends.backend import Backend
from tests.contract.records import container, image, item, message, session
from tests.servers.mongodb import Commands

STORED = [message(id="m1"), message(id="m2"), message(id="m3")]

# Every operation of a repository, done on what `_prepare` leaves.
OPERATIONS: dict[str, Callable[[Persistence], object]] = {
    "append": lambda p: p.sessions.add_message("session", message()),
    "append 100": lambda p: p.sessions.add_messages("session", [message() for _ in range(100)]),
    "append again": lambda p: p.sessions.add_message("session", STORED[0]),
    "append and create": lambda p: p.sessions.add_message(
        "new", message(), create=session("new", image_id="image", created_at=1)
    ),
    "append or create": lambda p: p.sessions.add_message(
        "session", message(), create=session("session")
    ),
    "load": lambda p: p.sessions.get_messages("session"),
    "last": lambda p: p.sessions.get_messages("session", last=50),
    "above": lambda p: p.sessions.get_messages("session", last=50, before="m2"),
    "stream": lambda p: list(p.sessions.iter_messages("session")),
    "count": lambda p: p.sessions.count_messages("session"),
    "message": lambda p: p.sessions.get_message("session", "m2"),
    "summaries": lambda p: p.sessions.summaries(["session", "absent"]),
    "rewrite": lambda p: p.sessions.rewrite("session", after="m1", messages=[message()]),
    "pop": lambda p: p.sessions.pop_message("session"),
    "replace a message": lambda p: p.sessions.replace_message("session", STORED[1]),
    "fork": lambda p: p.sessions.fork("session", session("new", image_id="image", created_at=1)),
    "rewind": lambda p: p.sessions.truncate_after("session", "m1"),
    "clear": lambda p: p.sessions.clear_messages("session"),
    "session of an image": lambda p: p.sessions.find_by_image("image"),
    "page": lambda p: p.images.find_page(container_id="box", size=20),
    "page by both": lambda p: p.images.find_page(container_id="box", name="n", size=20),
    "page of active ones": lambda p: p.sessions.find_page(
        container_id="box", order="active", size=20
    ),
    "number of images": lambda p: p.images.count(container_id="box"),
    "list": lambda p: p.containers.find_all(limit=20),
    "get": lambda p: p.images.get("image"),
    "get a session": lambda p: p.sessions.get("session"),
    "exists": lambda p: p.images.exists("image"),
    "save": lambda p: p.images.save(image("image", name="n", created_at=1)),
    "save a new one": lambda p: p.images.save(image("other", name="n", created_at=1)),
    "rename": lambda p: p.images.save(image("image", name="new", created_at=1)),
    "save a session": lambda p: p.sessions.save(session(image_id="image", created_at=1)),
    "create": lambda p: p.images.create(image("other", name="n", created_at=1)),
    "update": lambda p: p.images.update("image", {"roleId": "r"}),
    "change": lambda p: p.images.update_metadata("image", {"key": "value"}),
    "save an item": lambda p: p.items.save(item(key="other", created_at=1)),
    "get an item": lambda p: p.items.get(("box", "state"), "key"),
    "update an item": lambda p: p.items.update(("box", "state"), "key", {"value": 2}),
    "items": lambda p: p.items.find_page(namespace=("box", "state"), size=20),
    "items of a prefix": lambda p: p.items.find_page(namespace_prefix=("box",), size=20),
    "delete an item": lambda p: p.items.delete(("box", "state"), "key"),
    "delete nothing": lambda p: p.images.delete("absent"),
    "delete a session": lambda p: p.sessions.delete("session"),
    "delete an image": lambda p: p.images.delete("image"),
    "delete a container": lambda p: p.containers.delete("box"),
    "ping": lambda p: p.ping(),
}


# For each operation the commands that MongoDB gets.
COMMANDS = {
    "append": "find insert update",
    "append 100": "find insert update",
    "append again": "find 6 insert 2",
    "append and create": "find insert 2",
    "append or create": "find insert update",
    "load": "aggregate",
    "last": "aggregate",
    "above": "aggregate 2",
    "stream": "aggregate 2",
    "count": "find",
    "message": "aggregate",
    "summaries": "aggregate",
    "rewrite": "aggregate 3 delete 2 insert update 3",
    "pop": "aggregate 2 delete update",
    "replace a message": "aggregate delete insert update 3",
    "fork": "aggregate 2 find 2 insert",
    "rewind": "aggregate delete update",
    "clear": "aggregate delete update",
    "session of an image": "find",
    "page": "find",
    "page by both": "find",
    "page of active ones": "find",
    "number of images": "aggregate",
    "list": "find",
    "get": "find",
    "get a session": "find",
    "exists": "find",
    "save": "update",
    "save a new one": "update",
    "rename": "update",
    "save a session": "update",
    "create": "insert",
    "update": "find update",
    "change": "find update",
    "save an item": "update",
    "get an item": "find",
    "update an item": "find update",
    "items": "find",
    "items of a prefix": "find",
    "delete an item": "delete",
    "delete nothing": "commitTransaction delete find findAndModify",
    "delete a session": "delete 3 findAndModify",
    "delete an image": "commitTransaction delete 4 find 3 findAndModify update",
    "delete a container": "commitTransaction delete 6 find 9 findAndModify 2 update",
    "ping": "ping",
}
# The files that are opened, written, made durable (folders, too), put in place, and removed, and
# the statements and transactions of the index.
FILES = {
    "append": (2, 1, 1, 0, 0, 0, 0),
    "append 100": (2, 1, 1, 0, 0, 0, 0),
    "append again": (5, 0, 2, 0, 0, 0, 0),
    "append and create": (6, 3, 3, 2, 1, 0, 2),
    "append or create": (2, 1, 1, 0, 0, 0, 0),
    "load": (1, 0, 0, 0, 0, 0, 0),
    "last": (1, 0, 0, 0, 0, 0, 0),
    "above": (1, 0, 0, 0, 0, 0, 0),
    "stream": (2, 0, 0, 0, 0, 0, 0),
    "count": (1, 0, 0, 0, 0, 0, 0),
    "message": (2, 0, 0, 0, 0, 0, 0),
    "summaries": (3, 0, 0, 0, 0, 0, 0),
    "rewrite": (4, 1, 1, 0, 0, 0, 1),
    "pop": (4, 1, 1, 0, 0, 0, 1),
    "replace a message": (3, 1, 1, 0, 0, 0, 1),
    "fork": (7, 4, 3, 2, 1, 0, 2),
    "rewind": (3, 1, 1, 0, 0, 0, 1),
    "clear": (3, 1, 1, 0, 0, 0, 1),
    "session of an image": (2, 0, 0, 0, 0, 1, 0),
    "page": (1, 0, 0, 0, 0, 1, 0),
    "page by both": (1, 0, 0, 0, 0, 1, 0),
    "page of active ones": (2, 0, 0, 0, 0, 1, 0),
    "number of images": (0, 0, 0, 0, 0, 1, 0),
    "list": (1, 0, 0, 0, 0, 1, 0),
    "get": (1, 0, 0, 0, 0, 0, 0),
    "get a session": (2, 0, 0, 0, 0, 0, 0),
    "exists": (1, 0, 0, 0, 0, 0, 0),
    "save": (3, 1, 2, 1, 1, 1, 0),
    "save a new one": (5, 1, 2, 1, 1, 1, 2),
    "rename": (5, 1, 2, 1, 1, 1, 2),
    "save a session": (4, 1, 2, 1, 1, 1, 0),
    "create": (5, 1, 2, 1, 1, 1, 2),
    "update": (5, 1, 2, 1, 1, 1, 0),
    "change": (5, 1, 2, 1, 1, 1, 0),
    "save an item": (5, 1, 2, 1, 1, 1, 2),
    "get an item": (1, 0, 0, 0, 0, 0, 0),
    "update an item": (5, 1, 2, 1, 1, 1, 0),
    "items": (1, 0, 0, 0, 0, 1, 0),
    "items of a prefix": (1, 0, 0, 0, 0, 1, 0),
    "delete an item": (4, 0, 1, 0, 3, 0, 2),
    "delete nothing": (1, 0, 0, 0, 2, 2, 0),
    "delete a session": (4, 0, 1, 0, 5, 0, 2),
    "delete an image": (10, 0, 2, 0, 8, 2, 4),
    "delete a container": (23, 0, 4, 1, 13, 8, 8),
    "ping": (0, 0, 0, 0, 0, 1, 0),
}


def _prepare(persistence: Persistence) -> None:
    persistence.containers.save(container("box"))
    persistence.images.delete("other")
    persistence.sessions.delete("new")
    persistence.items.delete(("box", "state"), "other")
    persistence.items.save(item(created_at=1))
    persistence.images.save(image("image", name="n", created_at=1))
    persistence.sessions.save(session(image_id="image", created_at=1))
    persistence.sessions.clear_messages("session")
    persistence.sessions.add_messages("session", STORED)


def _work(persistence: Persistence, counted: Counter[str]) -> dict[str, Counter[str]]:
    """Return what each operation adds to `counted`."""
    found = {}
    for name, operation in OPERATIONS.items():
        for _ in range(2):  # the first time, scripts and what is remembered may be new
            _prepare(persistence)
            counted.clear()
            operation(persistence)
            found[name] = Counter(counted)
    return found


def test_each_operation_is_so_many_commands_to_mongodb(mongodb_backend: Backend) -> None:
    class Counting(Commands):
        def started(self, event: Any) -> None:
            sent[event.command_name] += 1

    sent: Counter[str] = Counter()
    driver = mongodb_driver(
        *mongodb_backend.arguments, **mongodb_backend.options, event_listeners=[Counting()]
    )
    with create_persistence(driver) as persistence:
        found = _work(persistence, sent)
    names = {
        name: " ".join(f"{what} {many}" if many > 1 else what for what, many in sorted(got.items()))
        for name, got in found.items()
    }
    assert names == COMMANDS


def test_each_operation_is_so_many_calls_of_the_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: Counter[str] = Counter()
    # Once a second an append moves its session in the index.
    monkeypatch.setattr(conversations, "now", lambda: 1_700_000_000_000)

    def count(module: Any, name: str, call: Callable[..., Any], counted: str = "") -> None:
        def counting(*arguments: Any, **options: Any) -> Any:
            called[counted or name] += 1
            return call(*arguments, **options)

        monkeypatch.setattr(module, name, counting, raising=False)

    calls = ("open", "write", "fsync", "replace", "unlink")
    for name in calls:
        count(os, name, getattr(os, name))
    for module in (files, logs, records):
        count(module, "open", open)
    for name in ("read", "write"):
        count(Index, name, getattr(Index, name), f"index {name}")
    with create_persistence(fs_driver(tmp_path / "store")) as persistence:
        found = _work(persistence, called)
    counted = (*calls, "index read", "index write")
    assert {name: tuple(got[call] for call in counted) for name, got in found.items()} == FILES
