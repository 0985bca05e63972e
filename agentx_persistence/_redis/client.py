"""What this package needs of a client library; `_redis/connection.py` has it from redis-py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from agentx_persistence._redis.scripts import Script

Argument = bytes | str | int
Command = tuple[Argument, ...]
# The kind and the id of the record that an error is about.
Subject = tuple[str, str]


class Client(Protocol):
    """Replies are what Redis sends: bytes, numbers, ``None``, and lists of these."""

    def script(
        self,
        script: Script,
        subject: Subject,
        keys: Sequence[bytes],
        arguments: Sequence[Argument],
    ) -> Any:
        """Run the script; return its reply."""

    def command(self, command: Command, subject: Subject | None = None) -> Any:
        """Run the command, whose first argument is its key; return its reply."""

    def pipeline(self, commands: Sequence[Command], subjects: Sequence[Subject]) -> list[Any]:
        """Run the commands in one round trip; return their replies."""

    def fetch(
        self, keys: Sequence[bytes], versions: Sequence[bytes], subjects: Sequence[Subject]
    ) -> list[Any]:
        """Return these documents, in one round trip: `DOCUMENT_FIELDS` of each, or only text and
        `updated_at` of one whose index entries have this version."""

    def ping(self) -> None:
        """See `DocumentStore.ping`."""

    def close(self) -> None:
        """See `DocumentStore.close`."""
