from __future__ import annotations

from importlib.metadata import version
from typing import Any

from agents import SQLiteSession
from agents.extensions.memory import SQLAlchemySession
from sqlalchemy.ext.asyncio import create_async_engine

from agentx_persistence.integrations.openai_agents import PersistentSession
from benchmarks.peers.ours import ASYNC, LAST, TEXT, Ours, opened, with_driver


class Sqlite:
    version = version("openai-agents")

    def __init__(self, url: str) -> None:
        self._sessions: dict[str, Any] = {}  # kept open, as by an application that serves them
        self._url = url

    def _open(self, session: str) -> Any:
        return SQLiteSession(session, self._url.removeprefix("sqlite:///"))

    async def fill(self, session: str, size: int) -> None:
        kept = self._sessions[session] = self._open(session)
        await kept.get_items(limit=1)  # makes the tables
        if size:
            await kept.add_items([self.message(session) for _ in range(size)])

    def message(self, session: str) -> Any:
        return {"role": "user", "content": TEXT}

    async def append(self, session: str, item: Any) -> None:
        await self._sessions[session].add_items([item])

    async def turn(self, session: str, item: Any) -> None:
        await self.load(session)
        await self.append(session, item)

    async def load(self, session: str) -> Any:
        return await self._sessions[session].get_items(limit=LAST)


class Sqlalchemy(Sqlite):
    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._engine = create_async_engine(with_driver(url, **ASYNC))

    def _open(self, session: str) -> SQLAlchemySession:
        return SQLAlchemySession(session, engine=self._engine, create_tables=True)


class Persistent(Sqlite):
    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._persistence = opened(url)

    def _open(self, session: str) -> PersistentSession:
        return PersistentSession(self._persistence, session)


PAIRS = {
    "openai-agents SQLiteSession": (Ours, Sqlite),
    "openai-agents SQLAlchemySession": (Ours, Sqlalchemy),
    "PersistentSession beside SQLiteSession": (Persistent, Sqlite),
    "PersistentSession beside SQLAlchemySession": (Persistent, Sqlalchemy),
}
