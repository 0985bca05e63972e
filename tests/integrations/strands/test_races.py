"""Writers at the same moment, each with a repository of its own, in a process of its own."""

from __future__ import annotations

from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from agentx_persistence import Persistence
from agentx_persistence.integrations.strands import PersistentSessionRepository
from tests.backends.backend import Backend
from tests.integrations.races import at_once


def _create(persistence: Persistence, number: int, worker: int) -> bool:
    repository = PersistentSessionRepository(persistence)
    try:
        repository.create_session(Session(f"s{number}", SessionType.AGENT, str(worker)))
    except SessionException:
        return False
    return True


def test_eight_creators_make_one_session(
    backend: Backend, persistence: Persistence, tries: int
) -> None:
    created = at_once(backend, persistence, [_create] * 8, tries)
    repository = PersistentSessionRepository(persistence)
    for number in range(tries):
        winners = [worker for worker in range(8) if created[worker][number]]
        assert len(winners) == 1
        found = repository.read_session(f"s{number}")
        assert found is not None
        assert found.created_at == str(winners[0])


def _append(persistence: Persistence, number: int, worker: int) -> bool:
    repository = PersistentSessionRepository(persistence)
    index = len(repository.list_messages("s", "a"))
    message = {"role": "user", "content": [{"text": f"{number} {worker}"}]}
    try:
        repository.create_message("s", "a", SessionMessage.from_message(message, index))
    except SessionException:
        return False
    return True


def test_a_stale_writer_is_refused_and_no_message_is_replaced(
    backend: Backend, persistence: Persistence, tries: int
) -> None:
    repository = PersistentSessionRepository(persistence)
    repository.create_session(Session("s", SessionType.AGENT))
    repository.create_agent("s", SessionAgent("a", {}, {}))
    appended = at_once(backend, persistence, [_append] * 2, tries)
    accepted = {f"{n} {w}" for w in range(2) for n in range(tries) if appended[w][n]}
    messages = repository.list_messages("s", "a")
    assert [message.message_id for message in messages] == list(range(len(accepted)))
    assert {message.message["content"][0]["text"] for message in messages} == accepted
    for number in range(tries):
        assert any(answers[number] for answers in appended)
