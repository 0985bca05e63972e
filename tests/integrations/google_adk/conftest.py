from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from google.adk.sessions import BaseSessionService, DatabaseSessionService, InMemorySessionService

from agentx_persistence import Persistence
from agentx_persistence.integrations.google_adk import PersistentSessionService


@pytest.fixture(params=["ours", "in memory", "database"])
async def service(
    request: pytest.FixtureRequest, persistence: Persistence, tmp_path: Path
) -> AsyncIterator[BaseSessionService]:
    """Ours, and two of ADK's own: they prove that a test states what ADK's services do."""
    if request.param == "ours":
        yield PersistentSessionService(persistence)
    elif request.param == "in memory":
        yield InMemorySessionService()
    else:
        async with DatabaseSessionService(f"sqlite+aiosqlite:///{tmp_path}/own.db") as own:
            yield own
