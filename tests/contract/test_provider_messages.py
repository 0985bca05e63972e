"""Messages of other frameworks go in as they were sent, and come out as the same bytes."""

from __future__ import annotations

import pytest

from agentx_persistence import OtherMessage, Persistence
from tests.contract.records import saved_session
from tests.providers import ROWS, exactly


@pytest.mark.parametrize("framework", sorted({row.framework for row in ROWS}))
def test_what_a_framework_sends_comes_back_byte_for_byte(
    persistence: Persistence, framework: str
) -> None:
    rows = [row for row in ROWS if row.framework == framework]
    mapped = [row.message().model_copy(update={"id": f"m{n}"}) for n, row in enumerate(rows)]
    opaque = [
        OtherMessage(role="assistant", subtype=framework, id=f"o{n}", message=row.sent)
        for n, row in enumerate(rows)
    ]
    session_id = saved_session(persistence)
    persistence.sessions.add_messages(session_id, [*mapped, *opaque])
    stored = persistence.sessions.get_messages(session_id)
    assert [message.to_json() for message in stored] == [
        message.to_json() for message in [*mapped, *opaque]
    ]
    for row, message in zip(rows, stored[len(rows) :], strict=True):
        assert isinstance(message, OtherMessage)
        assert exactly(message.message) == exactly(row.sent)


def test_a_message_that_is_said_again_keeps_its_position(persistence: Persistence) -> None:
    session_id = saved_session(persistence)
    for position, row in enumerate(ROWS, 1):
        message = row.message().model_copy(update={"id": f"m{position}"})
        again = type(message).model_validate_json(message.to_json())
        assert persistence.sessions.add_message(session_id, message) == position
        assert persistence.sessions.add_message(session_id, again) == position
