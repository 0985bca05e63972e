"""What MongoDB is asked. Its server of the tests is too slow for times to mean anything."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from pymongo import MongoClient
from pymongo.monitoring import CommandListener, CommandStartedEvent

from agentx_persistence import ImageRecord, ItemRecord, Persistence, create_persistence
from agentx_persistence.mongodb import mongodb_driver
from benchmarks.operations import new_messages, session
from tests.servers.mongodb import start_server


class _Counter(CommandListener):
    commands = 0

    def started(self, event: CommandStartedEvent) -> None:
        self.commands += 1

    def succeeded(self, event: object) -> None:
        """Counted already."""

    failed = succeeded


def count() -> dict[str, int]:
    """Return the number of commands of each operation."""
    counter, found = _Counter(), {}
    with tempfile.TemporaryDirectory() as folder:
        server = start_server(Path(folder))
        try:
            with (
                MongoClient(
                    server.url, event_listeners=[counter], w="majority", directConnection=True
                ) as client,
                create_persistence(mongodb_driver(client=client)) as persistence,
            ):
                for name, operation in _operations(persistence).items():
                    counter.commands = 0
                    operation()
                    found[name] = counter.commands
        finally:
            server.stop()
    return found


def _operations(persistence: Persistence) -> dict[str, Callable[[], object]]:
    images, sessions, items = persistence.images, persistence.sessions, persistence.items
    image = ImageRecord(image_id="image", container_id="box", name="name")
    item = ItemRecord(namespace=("box", "notes"), key="key", value={"text": "x" * 200})
    images.save(image)
    for number in range(30):
        images.save(ImageRecord(image_id=f"image {number}", container_id="box"))
        sessions.save(session(f"session {number}", image="image" if number == 0 else "other"))
    ids = [f"session {number}" for number in range(20)]
    batch, (message, last) = new_messages(1_000), new_messages(2)
    id = ids[0]
    return {
        "append": lambda: sessions.add_message(id, message),
        "append a batch of 1,000": lambda: sessions.add_messages(id, batch),
        "load 1,000": lambda: sessions.get_messages(id, first=1_000),
        "last 50": lambda: sessions.get_messages(id, last=50),
        "rewrite the last message": lambda: sessions.rewrite(
            id, after=batch[-2].id, messages=[last]
        ),
        "pop the last message": lambda: sessions.pop_message(id),
        "fork 1,000": lambda: sessions.fork(id, session("fork", image="other")),
        "page of 20 by activity": lambda: sessions.find_page(
            container_id="box", order="active", size=20
        ),
        "summaries of 20": lambda: sessions.summaries(ids),
        "page of 20 images": lambda: images.find_page(container_id="box", size=20),
        "get an image": lambda: images.get("image"),
        "save an image": lambda: images.save(image),
        "update_metadata": lambda: images.update_metadata("image", {"key": "value"}),
        "update an image": lambda: images.update("image", {"name": "other"}),
        "put an item": lambda: items.save(item),
        "get an item": lambda: items.get(("box", "notes"), "key"),
        "update an item": lambda: items.update(("box", "notes"), "key", {"value": 1}),
        "delete an image with 1,000 messages": lambda: images.delete("image"),
    }
