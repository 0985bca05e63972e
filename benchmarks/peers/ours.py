"""This package, asked as a peer is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agentx_persistence import (
    ImageRecord,
    Persistence,
    SessionRecord,
    UserMessage,
    __version__,
    create_persistence,
)

TEXT = "x" * 400  # makes a message of about 500 bytes of JSON
LAST = 50
PAGE = 20
ASYNC = {"sqlite": "aiosqlite", "postgresql": "asyncpg", "mysql": "aiomysql"}


def opened(url: str) -> Persistence:
    migrate = {} if url.startswith(("sqlite:", "redis:")) else {"migrate": True}
    return create_persistence(url, **migrate)


def with_driver(url: str, **drivers: str) -> str:
    """Return the URL with the driver for its scheme, as SQLAlchemy spells it."""
    scheme, rest = url.split(":", 1)
    return f"{scheme}+{drivers[scheme]}:{rest}" if scheme in drivers else url


def write_ahead(connection: Any, record: object = None) -> None:
    """Set a connection of SQLite as this package does."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.close()


class Ours:
    version = __version__

    def __init__(self, url: str) -> None:
        self.persistence = opened(url)
        self._images, self._sessions = self.persistence.images, self.persistence.sessions

    def fill(self, session: str, size: int) -> None:
        self._sessions.save(SessionRecord(session_id=session))
        for start in range(0, size, 1000):
            messages = [self.message(session) for _ in range(min(size - start, 1000))]
            self._sessions.add_messages(session, messages)

    def message(self, session: str) -> UserMessage:
        return UserMessage(content=TEXT)

    def append(self, session: str, message: UserMessage) -> None:
        self._sessions.add_message(session, message)

    def turn(self, session: str, message: UserMessage) -> None:
        self.load(session)
        self.append(session, message)

    def load(self, session: str) -> Sequence[Any]:
        return self._sessions.get_messages(session, last=LAST)

    def fill_list(self, count: int) -> None:
        for number in range(count):
            owner, name = f"owner {number // PAGE}", f"name {number}"
            self._images.save(ImageRecord(container_id=owner, name=name, system_prompt="Be brief."))

    def list(self, owner: str) -> Sequence[Any]:
        return self._images.find_all(container_id=owner, limit=PAGE)


PAIRS = {"agentx-persistence": (Ours, Ours)}
