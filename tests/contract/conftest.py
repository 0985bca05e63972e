from __future__ import annotations

import pytest

from agentx_persistence import Persistence
from tests.contract.records import message, saved_session


@pytest.fixture
def ten(persistence: Persistence) -> list[str]:
    """A session with the messages "1" to "10"; their ids."""
    messages = [message(str(number)) for number in range(1, 11)]
    persistence.sessions.add_messages(saved_session(persistence), messages)
    return [m.id for m in messages]
