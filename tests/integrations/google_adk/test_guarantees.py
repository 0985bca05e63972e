"""What is promised beyond ADK's interface: one writer, nothing lost, nothing half-visible."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from google.adk.agents import LlmAgent
from google.adk.errors import StaleSessionError
from google.adk.models import BaseLlm, LlmRequest, LlmResponse
from google.adk.runners import Runner
from google.adk.sessions import Session
from google.genai import types

from agentx_persistence import InvalidRecordError, Persistence, RecordConflictError
from agentx_persistence.integrations.google_adk import PersistentSessionService
from tests.integrations.google_adk.events import WHERE, changing, loaded


def test_its_types_are_sound(mypy: Callable[..., str]) -> None:
    assert mypy("google.adk", "google_adk") == ""


@pytest.fixture
def service(persistence: Persistence) -> PersistentSessionService:
    return PersistentSessionService(persistence)


async def test_a_stale_session_is_refused_and_stays_as_it_was(
    service: PersistentSessionService,
) -> None:
    stale = await service.create_session(**WHERE, session_id="s")
    current = await loaded(service, stale)
    await service.append_event(current, changing(k=1))
    with pytest.raises(StaleSessionError, match="modified in storage"):
        await service.append_event(stale, changing(k=2, app_a=2, user_u=2, temp_t=2))
    assert stale.events == []
    stored = await loaded(service, stale)
    assert stored.state == {"k": 1}
    assert stored == current
    await service.append_event(stored, changing(k=3))


@pytest.mark.parametrize("events", [0, 2])
async def test_a_writer_whose_session_was_deleted_and_created_anew_is_refused(
    service: PersistentSessionService, events: int
) -> None:
    async def created() -> Session:
        session = await service.create_session(**WHERE, session_id="s")
        for number in range(events):
            await service.append_event(session, changing(k=number))
        return session

    stale = await created()
    await service.delete_session(**WHERE, session_id="s")
    current = await created()
    with pytest.raises(StaleSessionError):
        await service.append_event(stale, changing(k=-1, app_a=-1))
    assert await loaded(service, stale) == current
    await service.append_event(current, changing(k=9))


async def test_an_event_that_meets_a_session_created_anew_is_not_shown_in_it(
    persistence: Persistence, service: PersistentSessionService
) -> None:
    slow = PersistentSessionService(persistence)
    stale = await service.create_session(**WHERE, session_id="s")
    seen = slow._seen

    def recreated_meanwhile(*args: Any) -> Any:
        answer = seen(*args)
        asyncio.run(service.delete_session(**WHERE, session_id="s"))
        asyncio.run(service.create_session(**WHERE, session_id="s", state={"k": 0}))
        return answer

    slow._seen = recreated_meanwhile  # type: ignore[method-assign]
    await slow.append_event(stale, changing(k=-1))
    current = await loaded(service, stale)
    assert (current.state, current.events) == ({"k": 0}, [])
    await service.append_event(Session.model_validate_json(current.model_dump_json()), changing())
    current = await loaded(service, stale)
    await service.append_event(current, changing(k=1))
    assert await loaded(service, stale) == current
    assert (current.state, len(current.events)) == ({"k": 1}, 2)
    (listed,) = (await service.list_sessions(**WHERE)).sessions
    assert listed.state == {"k": 1}


async def test_a_session_that_was_sent_as_json_is_judged_by_its_last_event(
    service: PersistentSessionService,
) -> None:
    session = await service.create_session(**WHERE)
    for number in range(2):
        sent = Session.model_validate_json(session.model_dump_json())
        await service.append_event(session, changing(k=number))
        with pytest.raises(StaleSessionError):
            await service.append_event(sent, changing(k=-1))
        fresh = Session.model_validate_json(session.model_dump_json())
        await service.append_event(fresh, changing(fresh=number))
        session = await loaded(service, session)
    assert session.state == {"k": 1, "fresh": 1}
    assert len(session.events) == 4


async def test_events_that_are_appended_at_once_through_one_session_are_all_kept(
    service: PersistentSessionService,
) -> None:
    session = await service.create_session(**WHERE)
    events = [changing(**{f"k{number}": number}) for number in range(8)]
    await asyncio.gather(*(service.append_event(session, event) for event in events))
    assert (await loaded(service, session)) == session
    assert {event.id for event in session.events} == {event.id for event in events}


async def test_a_number_that_is_not_finite_is_refused_before_anything_is_written(
    service: PersistentSessionService,
) -> None:
    session = await service.create_session(**WHERE)
    with pytest.raises(InvalidRecordError, match="NaN and infinities"):
        await service.append_event(session, changing(k={"deep": [float("nan")]}))
    assert (await loaded(service, session)).events == []
    with pytest.raises(InvalidRecordError, match="NaN and infinities"):
        await service.create_session(**WHERE, session_id="other", state={"k": float("inf")})
    assert await service.get_session(**WHERE, session_id="other") is None


async def test_another_event_with_a_used_id_is_refused(service: PersistentSessionService) -> None:
    session = await service.create_session(**WHERE)
    event = changing(k=1)
    await service.append_event(session, event)
    other = changing(k=2)
    other.id = event.id
    with pytest.raises(RecordConflictError):
        await service.append_event(session, other)
    assert (await loaded(service, session)).state == {"k": 1}


async def test_names_with_any_characters_stay_apart(service: PersistentSessionService) -> None:
    names = [("a/b", "c", "d"), ("a", "b/c", "d"), ("a", "b", "c/d"), ("a%2Fb", "c", "d")]
    for app, user, id in names:
        await service.create_session(app_name=app, user_id=user, session_id=id)
    for app, user, id in names:
        sessions = (await service.list_sessions(app_name=app, user_id=user)).sessions
        assert [(one.app_name, one.user_id, one.id) for one in sessions] == [(app, user, id)]
    padded = await service.create_session(**WHERE, session_id=" s ")
    assert padded.id == "s"
    assert await service.get_session(**WHERE, session_id="s  ") == padded


async def test_names_that_no_record_can_have_are_refused(service: PersistentSessionService) -> None:
    with pytest.raises(InvalidRecordError):
        await service.create_session(app_name="a" * 200, user_id="u" * 200)
    with pytest.raises(InvalidRecordError):
        await service.create_session(app_name="a", user_id="u\n")


class _CutOffError(BaseException):
    pass


@contextmanager
def cut_off(repository: Any, verb: str, call: int) -> Iterator[None]:
    """Let the call with this number, of this method, raise before it does anything."""
    original, calls = getattr(repository, verb), iter(range(1, 1000))

    def method(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == call:
            raise _CutOffError
        return original(*args, **kwargs)

    setattr(repository, verb, method)
    try:
        with suppress(_CutOffError):
            yield
    finally:
        delattr(repository, verb)


CUTS = [("items", 1), ("items", 2), ("items", 3), ("items", 4), ("sessions", 1), ("sessions", 2)]


@pytest.mark.parametrize(("repository", "call"), CUTS)
async def test_an_event_that_is_visible_has_changed_every_state(
    persistence: Persistence, repository: str, call: int
) -> None:
    service = PersistentSessionService(persistence)
    cut = PersistentSessionService(persistence)
    session = await service.create_session(**WHERE, session_id="s", state={"app:a": 0, "k": 0})
    other = await service.create_session(**WHERE)
    with cut_off(getattr(cut, f"_{repository}"), "update", call):
        for number in (1, 2):
            await cut.append_event(session, changing(app_a=number, user_u=number, k=number))
    await service.append_event(other, changing(app_b=1))
    listed = (await service.list_sessions(**WHERE)).sessions
    found = await loaded(service, session)
    last = len(found.events)
    assert last == (2 if (repository, call) in (("items", 4), ("sessions", 2)) else 1)
    for seen in (found, next(one for one in listed if one.id == "s")):
        assert seen.state == {"app:a": last, "app:b": 1, "user:u": last, "k": last}


@pytest.mark.parametrize("call", range(1, 16))
async def test_what_is_cut_off_before_any_of_its_writes_is_finished_by_the_next_reader(
    persistence: Persistence, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    service, cut = PersistentSessionService(persistence), PersistentSessionService(persistence)
    begun: list[str] = []

    def cut_short(repository: Any, name: str) -> None:
        original = getattr(repository, name)

        def verb(*args: Any, **kwargs: Any) -> Any:
            begun.append(name)
            if len(begun) == call:
                raise _CutOffError
            return original(*args, **kwargs)

        monkeypatch.setattr(repository, name, verb)

    async def write() -> None:
        session = await cut.create_session(**WHERE, session_id="s", state={"app:a": 0, "k": 0})
        for number in (1, 2):
            await cut.append_event(session, changing(app_a=number, user_u=number, k=number))

    for name in ("create", "update"):
        cut_short(cut._sessions, name)
        cut_short(cut._items, name)
    cut_short(cut._sessions, "add_message")
    with pytest.raises(_CutOffError):
        await write()
    monkeypatch.undo()
    found: Any = await service.get_session(**WHERE, session_id="s")
    if call == 1:
        assert found is None
        return
    last = begun[:-1].count("add_message")
    assert len(found.events) == last
    assert found.state == {"app:a": last, "k": last} | ({"user:u": last} if last else {})
    assert (await service.list_sessions(**WHERE)).sessions[0].state == found.state
    await service.append_event(found, changing(k=9))
    assert (await loaded(service, found)).state == found.state


async def test_an_event_under_one_of_a_deleted_session_is_still_settled(
    persistence: Persistence,
) -> None:
    """A session is created anew; its append is cut off; then a writer to the old one appends."""
    service, cut = PersistentSessionService(persistence), PersistentSessionService(persistence)
    slow = PersistentSessionService(persistence)
    stale = await service.create_session(**WHERE, session_id="s")
    await service.append_event(stale, changing(k=0))
    add = slow._sessions.add_message

    def recreated_meanwhile(*args: Any, **kwargs: Any) -> Any:
        del slow._sessions.add_message  # all services have the same repository
        asyncio.run(service.delete_session(**WHERE, session_id="s"))
        session = asyncio.run(service.create_session(**WHERE, session_id="s"))
        with cut_off(cut._items, "update", 1):
            asyncio.run(cut.append_event(session, changing(app_a=1, k=1)))
        return add(*args, **kwargs)

    slow._sessions.add_message = recreated_meanwhile  # type: ignore[method-assign]
    await slow.append_event(stale, changing(k=-1))
    (listed,) = (await service.list_sessions(**WHERE)).sessions
    current = await loaded(service, stale)
    assert listed.state == current.state == {"app:a": 1, "k": 1}
    assert len(current.events) == 1
    await service.append_event(current, changing(k=2))
    assert (await loaded(service, stale)).state == {"app:a": 1, "k": 2}


async def test_a_change_that_is_repeated_does_not_undo_a_later_one(
    persistence: Persistence,
) -> None:
    service, cut = PersistentSessionService(persistence), PersistentSessionService(persistence)
    session = await service.create_session(**WHERE, session_id="s")
    other = await service.create_session(**WHERE)
    with cut_off(cut._sessions, "update", 1):
        await cut.append_event(session, changing(app_a="early", k=1))
    await service.append_event(other, changing(app_a="late"))
    found = await loaded(service, session)
    assert found.state == {"app:a": "late", "k": 1}
    assert len(found.events) == 1


async def test_a_creation_that_is_cut_off_is_completed_by_the_next_reader(
    persistence: Persistence,
) -> None:
    service, cut = PersistentSessionService(persistence), PersistentSessionService(persistence)
    with cut_off(cut._items, "update", 1):
        await cut.create_session(**WHERE, session_id="s", state={"app:a": 1, "user:u": 1, "k": 1})
    found = await service.get_session(**WHERE, session_id="s")
    assert found is not None
    assert found.state == {"app:a": 1, "user:u": 1, "k": 1}
    assert await service.get_user_state(**WHERE) == {"u": 1}


async def test_a_cancelled_append_that_is_repeated_is_stored_once(
    persistence: Persistence,
) -> None:
    service = PersistentSessionService(persistence)
    session = await service.create_session(**WHERE)
    begun, go = threading.Event(), threading.Event()
    original = service._append

    def slow(*args: Any) -> Any:
        begun.set()
        go.wait(60)
        return original(*args)

    service._append = slow  # type: ignore[method-assign]
    event = changing(app_a=1, k=1)
    first = asyncio.create_task(service.append_event(session, event))
    await asyncio.to_thread(begun.wait, 60)
    first.cancel()
    asyncio.get_running_loop().call_later(0.05, go.set)
    with pytest.raises(asyncio.CancelledError):
        await first
    await service.append_event(session, event)
    await service.append_event(session, changing(k=2))
    found = await loaded(service, session)
    assert found == session
    assert found.state == {"app:a": 1, "k": 2}
    assert len(found.events) == 2


class _Model(BaseLlm):
    async def generate_content_async(self, llm_request: LlmRequest, stream: bool = False) -> Any:
        said = sum(content.role == "user" for content in llm_request.contents)
        yield LlmResponse(content=types.ModelContent(f"answer {said}"))


async def test_an_agent_goes_on_in_another_process(persistence: Persistence) -> None:
    async def turn(text: str) -> str:
        service = PersistentSessionService(persistence)
        agent = LlmAgent(name="agent", model=_Model(model="m"), output_key="user:last")
        runner = Runner(app_name="app", agent=agent, session_service=service)
        if await service.get_session(**WHERE, session_id="s") is None:
            await service.create_session(**WHERE, session_id="s")
        message = types.UserContent(text)
        run = runner.run_async(user_id="user", session_id="s", new_message=message)
        return "".join([event.content.parts[0].text async for event in run if event.content])

    assert [await turn(f"question {number}") for number in (1, 2)] == ["answer 1", "answer 2"]
    assert (await PersistentSessionService(persistence).get_user_state(**WHERE)) == {
        "last": "answer 2"
    }
    # The same conversation without ADK:
    messages = persistence.sessions.get_messages("app/user/s")
    assert [(message.role, message.text) for message in messages] == [
        ("user", "question 1"),
        ("assistant", "answer 1"),
        ("user", "question 2"),
        ("assistant", "answer 2"),
    ]
    assert persistence.sessions.count(container_id="app/user", image_id=None) == 1
    assert persistence.items.get(("app/user", "google-adk"), "state").value == {"last": "answer 2"}


def test_the_code_of_its_page_prints_what_it_says(run_page: Callable[[str], str]) -> None:
    assert run_page("google-adk.md").splitlines() == ["user Hello!"]
