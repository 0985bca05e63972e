"""Writers at the same moment, each with a service of its own, in a process of its own."""

from __future__ import annotations

import asyncio
from typing import Any

from google.adk.errors import StaleSessionError
from google.adk.errors.already_exists_error import AlreadyExistsError

from agentx_persistence import Persistence
from agentx_persistence.integrations.google_adk import PersistentSessionService
from tests.backends.backend import Backend
from tests.integrations.google_adk.events import WHERE, changing
from tests.integrations.races import at_once


def _create(persistence: Persistence, number: int, worker: int) -> bool:
    service = PersistentSessionService(persistence)
    state = {"app:winner": worker, f"app:{number}": worker, "own": worker}
    try:
        asyncio.run(service.create_session(**WHERE, session_id=f"s{number}", state=state))
    except AlreadyExistsError:
        return False
    return True


def test_eight_creators_make_one_session(
    backend: Backend, persistence: Persistence, tries: int
) -> None:
    created = at_once(backend, persistence, [_create] * 8, tries)
    service = PersistentSessionService(persistence)
    for number in range(tries):
        winners = [worker for worker in range(8) if created[worker][number]]
        assert len(winners) == 1
        found: Any = asyncio.run(service.get_session(**WHERE, session_id=f"s{number}"))
        assert found.state["own"] == found.state[f"app:{number}"] == winners[0]


async def _merge_once(persistence: Persistence, number: int, worker: int) -> None:
    service = PersistentSessionService(persistence)
    session = await service.create_session(**WHERE)
    key = f"{number}_{worker}"
    await service.append_event(session, changing(**{f"app_{key}": worker, f"user_{key}": worker}))


def _merge(persistence: Persistence, number: int, worker: int) -> None:
    asyncio.run(_merge_once(persistence, number, worker))


def test_eight_merges_of_state_are_all_kept(
    backend: Backend, persistence: Persistence, tries: int
) -> None:
    at_once(backend, persistence, [_merge] * 8, tries)
    service = PersistentSessionService(persistence)
    session = asyncio.run(service.create_session(**WHERE))
    expected = {f"{number}_{worker}": worker for number in range(tries) for worker in range(8)}
    for scope in ("app", "user"):
        assert {key: session.state.get(f"{scope}:{key}") for key in expected} == expected


async def _append_once(persistence: Persistence, number: int, worker: int) -> bool:
    service = PersistentSessionService(persistence)
    session: Any = await service.get_session(**WHERE, session_id=f"s{number}")
    await asyncio.sleep(0.01)  # most have loaded it when the first one writes
    try:
        await service.append_event(session, changing(**{f"k{worker}": worker}))
    except StaleSessionError:
        return False
    return True


def _append(persistence: Persistence, number: int, worker: int) -> bool:
    return asyncio.run(_append_once(persistence, number, worker))


async def _create_many(persistence: Persistence, tries: int) -> None:
    service = PersistentSessionService(persistence)
    for number in range(tries):
        await service.create_session(**WHERE, session_id=f"s{number}")


def test_of_eight_writers_the_stale_ones_are_refused_and_leave_nothing(
    backend: Backend, persistence: Persistence, tries: int
) -> None:
    asyncio.run(_create_many(persistence, tries))
    appended = at_once(backend, persistence, [_append] * 8, tries)
    service = PersistentSessionService(persistence)
    for number in range(tries):
        accepted = {worker for worker in range(8) if appended[worker][number]}
        found: Any = asyncio.run(service.get_session(**WHERE, session_id=f"s{number}"))
        assert accepted
        assert found.state == {f"k{worker}": worker for worker in accepted}
        assert len(found.events) == len(accepted)
    assert not all(all(answers) for answers in appended)
