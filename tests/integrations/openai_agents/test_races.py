from __future__ import annotations

import asyncio
from typing import Any

from agentx_persistence import Persistence
from agentx_persistence.integrations.openai_agents import PersistentSession
from tests.backends.backend import Backend
from tests.integrations.races import at_once


def item(text: object) -> Any:
    return {"role": "user", "content": str(text)}


def add(persistence: Persistence, number: int, worker: int) -> Any:
    session = PersistentSession(persistence, f"race {number}")
    asyncio.run(session.add_items([item(f"added by {worker}")]))


def pop(persistence: Persistence, number: int, worker: int) -> Any:
    return asyncio.run(PersistentSession(persistence, f"race {number}").pop_item())


def given(persistence: Persistence, number: int, *texts: str) -> None:
    session = PersistentSession(persistence, f"race {number}")
    asyncio.run(session.add_items([item(text) for text in texts]))


def left(persistence: Persistence, number: int) -> list[str]:
    session = PersistentSession(persistence, f"race {number}")
    return [str(found["content"]) for found in asyncio.run(session.get_items())]  # type: ignore[typeddict-item]


def test_a_pop_beside_an_addition_loses_nothing(backend: Backend, tries: int) -> None:
    with backend.open() as persistence:
        for number in range(tries):
            given(persistence, number, "first")
        _, popped = at_once(backend, persistence, [add, pop], tries)
        for number in range(tries):
            found = [popped[number]["content"], *left(persistence, number)]
            assert sorted(found) == ["added by 0", "first"]


def test_two_pops_take_different_items(backend: Backend, tries: int) -> None:
    with backend.open() as persistence:
        for number in range(tries):
            given(persistence, number, "first", "second")
        one, other = at_once(backend, persistence, [pop, pop], tries)
        for number in range(tries):
            taken = [one[number]["content"], other[number]["content"]]
            assert sorted(taken) == ["first", "second"]
            assert left(persistence, number) == []


def test_eight_creators_make_one_session_and_lose_nothing(backend: Backend, tries: int) -> None:
    with backend.open() as persistence:
        at_once(backend, persistence, [add] * 8, tries)
        assert persistence.sessions.count() == tries
        for number in range(tries):
            assert sorted(left(persistence, number)) == [f"added by {n}" for n in range(8)]
