"""Random conversations, copied into each backend and out of each backend."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from agentx_persistence import Persistence, create_persistence
from agentx_persistence.transfer import compare, copy
from tests.contract.records import walk
from tests.transfer.conversations import write_conversations

# The long form: AGENTX_TEST_COPY_EXAMPLES=1000.
_CONVERSATIONS = int(os.environ.get("AGENTX_TEST_COPY_EXAMPLES", "20"))


def test_random_conversations_are_copied_into_a_backend(
    persistence: Persistence, report: Callable[[str], None]
) -> None:
    with create_persistence() as source:
        write_conversations(source, _CONVERSATIONS, seed=19)
        report(f"memory → {persistence!r}: {_copied(source, persistence)}")


def test_random_conversations_are_copied_out_of_a_backend(
    persistence: Persistence, report: Callable[[str], None]
) -> None:
    """They are written by the backend, which forks and cuts in its own way."""
    write_conversations(persistence, _CONVERSATIONS, seed=91)
    with create_persistence() as target:
        report(f"{persistence!r} → memory: {_copied(persistence, target)}")


def _copied(source: Persistence, target: Persistence) -> str:
    """Copy, and compare in each way there is; return what was compared."""
    copied = copy(source, target)
    found = compare(source, target)
    assert copied.complete
    assert (found.differences, compare(target, source).count) == ([], 0)
    for kind in ("containers", "images", "sessions"):
        assert _listed(source, kind) == _listed(target, kind)
    for session in source.sessions.find_all():
        id, container = session.session_id, session.container_id
        read = [m.to_json() for m in source.sessions.get_messages(id)]
        assert [m.to_json() for m in target.sessions.get_messages(id)] == read
        assert target.sessions.summaries([id]) == source.sessions.summaries([id])
        for message in source.sessions.get_messages(id, first=3):
            assert target.sessions.get_message(id, message.id) == message
        active: dict[str, Any] = {"container_id": container, "order": "active"}
        assert _listed(source, "sessions", **active) == _listed(target, "sessions", **active)
        for prefix in ((container,), (container, "a")):
            kept = _listed(source, "items", namespace_prefix=prefix)
            assert _listed(target, "items", namespace_prefix=prefix) == kept
    again = copy(source, target)
    assert (again.records, again.messages, again.rewritten) == ({}, 0, 0)
    return f"{found.records} records and {found.messages} messages, no difference"


def _listed(persistence: Persistence, kind: str, **asked: Any) -> list[str]:
    return [record.to_json() for record in walk(getattr(persistence, kind), 50, **asked)]
