from __future__ import annotations

from importlib.metadata import version
from typing import Any

from google.adk.events import Event
from google.adk.sessions import DatabaseSessionService
from google.adk.sessions.base_session_service import GetSessionConfig
from google.genai import types
from sqlalchemy.event import listen

from agentx_persistence.integrations.google_adk import PersistentSessionService
from benchmarks.peers.ours import ASYNC, LAST, PAGE, TEXT, Ours, opened, with_driver, write_ahead

_APP = {"app_name": "app"}
_NAMES = {**_APP, "user_id": "user"}


class Adk:
    version = version("google-adk")

    def __init__(self, url: str) -> None:
        self._service = self._open(url)
        self._sessions: dict[str, Any] = {}

    def _open(self, url: str) -> Any:
        service = DatabaseSessionService(with_driver(url, **ASYNC))
        if url.startswith("sqlite"):
            listen(service.db_engine.sync_engine, "connect", write_ahead)
        return service

    async def fill(self, session: str, size: int) -> None:
        self._sessions[session] = await self._service.create_session(**_NAMES, session_id=session)
        for _ in range(size):
            await self.append(session, self.message(session))

    def message(self, session: str) -> Event:
        content = types.Content(role="user", parts=[types.Part(text=TEXT)])
        return Event(author="user", invocation_id="invocation", content=content)

    async def append(self, session: str, event: Event) -> None:
        await self._service.append_event(self._sessions[session], event)

    async def turn(self, session: str, event: Event) -> None:
        found = await self._service.get_session(**_NAMES, session_id=session)
        await self._service.append_event(found, event)

    async def load(self, session: str) -> Any:
        recent = GetSessionConfig(num_recent_events=LAST)
        found = await self._service.get_session(**_NAMES, session_id=session, config=recent)
        return found.events

    async def fill_list(self, count: int) -> None:
        for number in range(count):
            await self._service.create_session(**_APP, user_id=f"owner {number // PAGE}")

    async def list(self, owner: str) -> Any:
        return (await self._service.list_sessions(**_APP, user_id=owner)).sessions


class Persistent(Adk):
    def _open(self, url: str) -> Any:
        return PersistentSessionService(opened(url))


PAIRS = {
    "google-adk": (Ours, Adk),
    "PersistentSessionService beside google-adk's": (Persistent, Adk),
}
