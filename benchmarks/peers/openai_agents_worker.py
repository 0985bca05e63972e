from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Any

from agents import SQLiteSession
from agents.extensions.memory import SQLAlchemySession
from sqlalchemy.ext.asyncio import create_async_engine
from worker import LAST, TEXT, Call, serve

_PROMISES = "the session is made where it is missing; items have no ids, so a retry appends twice"


class OpenaiAgents:
    """Its sessions are kept open, as by an application that serves them."""

    version = version("openai-agents")

    def __init__(self, url: str) -> None:
        self._sessions: dict[str, Any] = {}
        self._url = url

    async def fill(self, session: str, size: int) -> None:
        opened = self._sessions[session] = self._open(session)
        await opened.get_items(limit=1)  # makes the tables
        if size:
            await opened.add_items([_item() for _ in range(size)])

    def append(self, session: str) -> Call:
        items, opened = [_item()], self._sessions[session]
        return lambda: opened.add_items(items)

    def turn(self, session: str) -> Call:
        items, opened = [_item()], self._sessions[session]

        async def call() -> None:
            await opened.get_items(limit=LAST)
            await opened.add_items(items)

        return call

    def load(self, session: str) -> Call:
        opened = self._sessions[session]
        return lambda: opened.get_items(limit=LAST)

    def _open(self, session: str) -> Any:
        raise NotImplementedError


class Sqlite(OpenaiAgents):
    notes = {  # noqa: RUF012
        "append": f"{_PROMISES}; runs in a thread",
        "load": "plain dicts, unvalidated; lines that are not JSON are skipped; runs in a thread",
    }

    def _open(self, session: str) -> SQLiteSession:
        return SQLiteSession(session, self._url.removeprefix("sqlite:///"))


class Sqlalchemy(OpenaiAgents):
    notes = {  # noqa: RUF012
        "append": f"{_PROMISES}; order is by time, then by id",
        "load": "plain dicts, unvalidated; lines that are not JSON are skipped",
    }

    def __init__(self, url: str) -> None:
        super().__init__(url)
        scheme, rest = url.split(":", 1)
        driver = {"sqlite": "aiosqlite", "postgresql": "asyncpg", "mysql": "aiomysql"}[scheme]
        self._engine = create_async_engine(f"{scheme}+{driver}:{rest}")

    def _open(self, session: str) -> SQLAlchemySession:
        return SQLAlchemySession(session, engine=self._engine, create_tables=True)


class Persistent(OpenaiAgents):
    """This package's session, for the same framework."""

    notes: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, url: str) -> None:
        from agentx_persistence import create_persistence
        from agentx_persistence.integrations.openai_agents import PersistentSession

        super().__init__(url)
        migrate = {} if url.startswith("sqlite:") else {"migrate": True}
        self._persistence, self._class = create_persistence(url, **migrate), PersistentSession

    def _open(self, session: str) -> Any:
        return self._class(self._persistence, session)


def _item() -> dict[str, str]:
    return {"role": "user", "content": TEXT}


if __name__ == "__main__":
    serve({"sqlite": Sqlite, "sqlalchemy": Sqlalchemy, "persistent": Persistent}[sys.argv[1]])
