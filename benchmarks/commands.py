"""What MongoDB is asked. Its server of the tests is too slow for times to mean anything."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from pymongo import MongoClient
from pymongo.monitoring import CommandListener, CommandStartedEvent

from agentx_persistence import (
    ContainerRecord,
    ImageRecord,
    SessionRecord,
    UserMessage,
    create_persistence,
)
from agentx_persistence.mongodb import mongodb_driver
from tests.servers.mongodb import start_server


class _Counter(CommandListener):
    def __init__(self) -> None:
        self.commands = 0

    def started(self, event: CommandStartedEvent) -> None:
        self.commands += 1

    def succeeded(self, event: object) -> None:
        """Counted already."""

    failed = succeeded


def count() -> dict[str, int]:
    """Return the number of commands of each operation."""
    counter = _Counter()
    with tempfile.TemporaryDirectory() as folder:
        server = start_server(Path(folder))
        client: MongoClient = MongoClient(
            server.url, event_listeners=[counter], w="majority", directConnection=True
        )
        try:
            return _count(client, counter)
        finally:
            client.close()
            server.stop()


def _count(client: MongoClient, counter: _Counter) -> dict[str, int]:
    found = {}
    with create_persistence(mongodb_driver(client=client)) as persistence:
        containers, images, sessions = (
            persistence.containers,
            persistence.images,
            persistence.sessions,
        )
        containers.save(ContainerRecord(container_id="box"))
        image = ImageRecord(image_id="image", container_id="box", name="name")
        images.save(image)
        for number in range(30):
            images.save(ImageRecord(image_id=f"image {number}", container_id="box"))
        session = SessionRecord(session_id="session", image_id="image", container_id="box")
        sessions.save(session)
        operations: dict[str, Callable[[], object]] = {
            "append": lambda: sessions.add_message("session", UserMessage(content="x" * 400)),
            "append a batch of 1,000": lambda: sessions.add_messages(
                "session", [UserMessage(content="x" * 400) for _ in range(1_000)]
            ),
            "load 1,000": lambda: sessions.get_messages("session", first=1_000),
            "last 50": lambda: sessions.get_messages("session", last=50),
            "page of 20 images": lambda: images.find_page(container_id="box", size=20),
            "get an image": lambda: images.get("image"),
            "save an image": lambda: images.save(image),
            "update_metadata": lambda: images.update_metadata("image", {"key": "value"}),
            "delete an image with 1,000 messages": lambda: images.delete("image"),
        }
        for name, operation in operations.items():
            counter.commands = 0
            operation()
            found[name] = counter.commands
    return found
