"""What MongoDB is asked. Its server of the tests is too slow for times to mean anything."""

from __future__ import annotations

import tempfile
from pathlib import Path
from unittest.mock import MagicMock

from pymongo import MongoClient
from pymongo.monitoring import CommandListener, CommandStartedEvent

from agentx_persistence import create_persistence
from agentx_persistence.mongodb import mongodb_driver
from benchmarks.backends import Contest
from benchmarks.operations import operations
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
            with MongoClient(
                server.url, event_listeners=[counter], w="majority", directConnection=True
            ) as client:
                driver = mongodb_driver(client=client)
                with create_persistence(driver) as persistence:
                    # The raw side does nothing here.
                    contest = Contest(persistence, MagicMock(), driver, MagicMock(), "MongoDB")
                    for name, ours, _, _ in operations(contest, 10, 1_000, 30):
                        for _ in range(3):  # what the first calls find out, others need not
                            ours()
                        counter.commands = 0
                        ours()
                        found[name] = counter.commands
        finally:
            server.stop()
    return found
