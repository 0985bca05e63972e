from __future__ import annotations

from importlib.metadata import version
from typing import Any

from google.adk.events import Event
from google.adk.sessions import DatabaseSessionService
from google.adk.sessions.base_session_service import GetSessionConfig
from google.genai import types
from sqlalchemy import event
from worker import LAST, PAGE, TEXT, Call, serve

_NAMES = {"app_name": "app", "user_id": "user"}


class Adk:
    version = version("google-adk")
    notes = {  # noqa: RUF012
        "append": (
            "append_event, given the session object: an unknown session, one that another has"
            " added to and a used event id are refused, so a retry is an error; order is by time"
        ),
        "turn": (
            "what the Runner does: get_session, which reads the whole history, then append_event;"
            " ours reads the last 50 and appends"
        ),
        "load": "get_session with num_recent_events=50",
        "list": "list_sessions, which has no limit: the owner has just 20",
    }

    def __init__(self, url: str) -> None:
        scheme, rest = url.split(":", 1)
        driver = {"sqlite": "aiosqlite", "postgresql": "asyncpg", "mysql": "aiomysql"}[scheme]
        self._service = DatabaseSessionService(f"{scheme}+{driver}:{rest}")
        if scheme == "sqlite":

            @event.listens_for(self._service.db_engine.sync_engine, "connect")
            def set_journal(connection: Any, record: object) -> None:
                cursor = connection.cursor()
                cursor.execute("PRAGMA journal_mode = WAL")
                cursor.execute("PRAGMA synchronous = FULL")
                cursor.close()

        self._sessions: dict[str, Any] = {}

    async def fill(self, session: str, size: int) -> None:
        made = await self._service.create_session(**_NAMES, session_id=session)
        if size:
            # One by one through its interface takes minutes.
            row = self._service._get_schema_classes().StorageEvent
            async with self._service.database_session_factory() as unit:
                unit.add_all([row.from_event(made, _event()) for _ in range(size)])
                await unit.commit()
        self._sessions[session] = made

    def append(self, session: str) -> Call:
        opened, added = self._sessions[session], _event()
        return lambda: self._service.append_event(opened, added)

    def turn(self, session: str) -> Call:
        added = _event()

        async def call() -> None:
            found = await self._service.get_session(**_NAMES, session_id=session)
            await self._service.append_event(found, added)

        return call

    def load(self, session: str) -> Call:
        recent = GetSessionConfig(num_recent_events=LAST)

        async def call() -> Any:
            found = await self._service.get_session(**_NAMES, session_id=session, config=recent)
            return found.events

        return call

    async def fill_list(self, count: int) -> None:
        row = self._service._get_schema_classes().StorageSession
        for start in range(0, count, PAGE):
            owner = f"owner {start // PAGE}"
            await self._service.create_session(app_name="app", user_id=owner)
            async with self._service.database_session_factory() as unit:
                others = range(start + 1, min(start + PAGE, count))
                unit.add_all([row(app_name="app", user_id=owner, state={}) for _ in others])
                await unit.commit()

    def list(self, owner: str) -> Call:
        async def call() -> Any:
            found = await self._service.list_sessions(app_name="app", user_id=owner)
            return found.sessions

        return call


def _event() -> Event:
    content = types.Content(role="user", parts=[types.Part(text=TEXT)])
    return Event(author="user", invocation_id="invocation", content=content)


if __name__ == "__main__":
    serve(Adk)
