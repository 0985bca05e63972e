"""What every session service of ADK does, ours and its own."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events import Event, EventActions
from google.adk.sessions import BaseSessionService
from google.adk.sessions.base_session_service import GetSessionConfig

from tests.integrations.google_adk.events import EVENTS, WHERE, changing, event_of, loaded


async def test_a_created_session_is_found_with_its_state(service: BaseSessionService) -> None:
    state = {"k": "v", "none": None, "app:a": [1], "user:u": {"x": 1.5}, "temp:t": 1}
    created = await service.create_session(**WHERE, state=state)
    assert created.id
    found = await loaded(service, created)
    assert found == created
    assert {name: found.state[name] for name in state if name != "temp:t"} == {
        name: value for name, value in state.items() if name != "temp:t"
    }
    assert "temp:t" not in found.state
    assert found.events == []


async def test_a_session_that_is_not_there_is_none(service: BaseSessionService) -> None:
    assert await service.get_session(**WHERE, session_id="x") is None


async def test_an_id_is_taken_once_for_each_user_of_an_app(service: BaseSessionService) -> None:
    for app, user in (("a", "b"), ("a", "c"), ("b", "b")):
        await service.create_session(app_name=app, user_id=user, session_id="s", state={"at": user})
    for app, user in (("a", "b"), ("a", "c"), ("b", "b")):
        with pytest.raises(AlreadyExistsError):
            await service.create_session(app_name=app, user_id=user, session_id="s")
        found = await service.get_session(app_name=app, user_id=user, session_id="s")
        assert found is not None
        assert found.state == {"at": user}


async def test_a_failed_creation_changes_no_state(service: BaseSessionService) -> None:
    await service.create_session(**WHERE, session_id="s", state={"app:a": 1, "user:u": 1, "s": 1})
    with pytest.raises(AlreadyExistsError):
        await service.create_session(**WHERE, session_id="s", state={"app:a": 2, "user:u": 2})
    found = await service.get_session(**WHERE, session_id="s")
    assert found is not None
    assert found.state == {"app:a": 1, "user:u": 1, "s": 1}


async def test_a_deleted_session_is_gone_with_its_events(service: BaseSessionService) -> None:
    session = await service.create_session(**WHERE, session_id="s")
    await service.append_event(session, changing(k=1))
    await service.delete_session(**WHERE, session_id="s")
    await service.delete_session(**WHERE, session_id="s")
    assert await service.get_session(**WHERE, session_id="s") is None
    with pytest.raises(SessionNotFoundError):
        await service.append_event(session, changing(k=2))
    again = await service.create_session(**WHERE, session_id="s")
    assert (await loaded(service, again)).events == []
    assert again.state == {}


async def test_states_are_shared_as_their_scopes_say(service: BaseSessionService) -> None:
    first = await service.create_session(**WHERE, state={"app:a": 1, "user:u": 1, "own": 1})
    await service.append_event(first, changing(app_b=2, user_v=2, other=2))
    second = await service.create_session(**WHERE)
    stranger = await service.create_session(app_name="app", user_id="stranger")
    elsewhere = await service.create_session(app_name="elsewhere", user_id="user")
    shared = {"app:a": 1, "app:b": 2}
    assert second.state == shared | {"user:u": 1, "user:v": 2}
    assert stranger.state == shared
    assert elsewhere.state == {}
    everything = shared | {"user:u": 1, "user:v": 2, "own": 1, "other": 2}
    assert first.state == everything
    assert (await loaded(service, first)).state == everything
    assert await service.get_user_state(**WHERE) == {"u": 1, "v": 2}
    assert await service.get_user_state(app_name="app", user_id="nobody") == {}


async def test_temporary_state_is_seen_and_never_stored(service: BaseSessionService) -> None:
    session = await service.create_session(**WHERE)
    event = Event(author="a", actions=EventActions(state_delta={"temp:t": 1, "k": 2}))
    await service.append_event(session, event)
    assert session.state == {"temp:t": 1, "k": 2}
    assert event.actions.state_delta == {"k": 2}
    stored = await loaded(service, session)
    assert stored.state == {"k": 2}
    assert stored.events[0].actions.state_delta == {"k": 2}


async def test_a_later_value_of_a_key_replaces_the_earlier_one(service: BaseSessionService) -> None:
    session = await service.create_session(**WHERE, state={"k": {"a": 1}, "app:k": [1]})
    await service.append_event(session, changing(k={"b": 2}, app_k=None))
    assert (await loaded(service, session)).state == {"k": {"b": 2}, "app:k": None}


@pytest.mark.parametrize("kind", EVENTS)
async def test_every_kind_of_event_comes_back_equal(service: BaseSessionService, kind: str) -> None:
    session = await service.create_session(**WHERE)
    event = EVENTS[kind].model_copy(deep=True)
    await service.append_event(session, event)
    stored = await loaded(service, session)
    assert stored.events == [event]
    assert stored == session


async def test_partial_events_are_not_stored(service: BaseSessionService) -> None:
    session = await service.create_session(**WHERE)
    await service.append_event(session, Event(author="agent", partial=True))
    assert session.events == []
    assert (await loaded(service, session)).events == []


async def test_events_come_in_order_and_as_configured(service: BaseSessionService) -> None:
    session = await service.create_session(**WHERE, session_id="s")
    for time in range(1, 6):
        await service.append_event(session, Event(author="user", timestamp=time))

    async def times(**config: float) -> list[float]:
        given = GetSessionConfig.model_validate(config)
        found = await service.get_session(**WHERE, session_id="s", config=given)
        assert found is not None
        return [event.timestamp for event in found.events]

    assert await times() == [1, 2, 3, 4, 5]
    assert await times(num_recent_events=0) == []
    assert await times(num_recent_events=3) == [3, 4, 5]
    assert await times(num_recent_events=9) == [1, 2, 3, 4, 5]
    assert await times(after_timestamp=4.0) == [4, 5]
    assert await times(after_timestamp=50.0) == []
    assert await times(after_timestamp=4.0, num_recent_events=3) == [4, 5]
    assert await times(after_timestamp=2.0, num_recent_events=2) == [4, 5]


async def test_a_session_with_few_events_has_all_the_state_and_takes_more(
    service: BaseSessionService,
) -> None:
    session = await service.create_session(**WHERE, session_id="s")
    for number in range(4):
        await service.append_event(session, changing(**{f"k{number}": number}))
    config = GetSessionConfig(num_recent_events=0)
    found = await service.get_session(**WHERE, session_id="s", config=config)
    assert found is not None
    assert found.state == session.state
    await service.append_event(found, changing(k4=4))
    assert len((await loaded(service, session)).events) == 5


async def test_sessions_are_listed_without_events_the_last_changed_last(
    service: BaseSessionService,
) -> None:
    now = datetime.now(UTC).timestamp()
    for user in ("user", "other"):
        for number in (2, 0, 1):
            session = await service.create_session(
                app_name="app", user_id=user, session_id=f"{user}{number}", state={"user:at": user}
            )
            event = changing(n=number, app_a=1)
            event.timestamp = now + 100 * (3 - number)
            await service.append_event(session, event)
    await service.create_session(app_name="another", user_id="user")

    async def listed(user: str | None) -> list[str]:
        sessions = (await service.list_sessions(app_name="app", user_id=user)).sessions
        for one in sessions:
            assert one.events == []
            expected = {"n": int(one.id[-1]), "app:a": 1, "user:at": one.user_id}
            assert one.state == expected
            assert one.last_update_time == pytest.approx(now + 100 * (3 - expected["n"]), abs=1e-5)
        return [one.id for one in sessions]

    assert await listed("user") == ["user2", "user1", "user0"]
    assert await listed("nobody") == []
    assert await listed(None) == ["other2", "user2", "other1", "user1", "other0", "user0"]


async def test_the_time_of_a_session_is_that_of_its_last_event(service: BaseSessionService) -> None:
    session = await service.create_session(**WHERE)
    event = event_of(timestamp=session.last_update_time + 10)
    await service.append_event(session, event)
    stored = await loaded(service, session)
    assert stored.last_update_time == session.last_update_time
    assert stored.last_update_time == pytest.approx(event.timestamp, abs=1e-5)


async def test_an_event_for_a_session_that_is_not_there_is_refused(
    service: BaseSessionService,
) -> None:
    session = await service.create_session(**WHERE)
    await service.delete_session(**WHERE, session_id=session.id)
    with pytest.raises(SessionNotFoundError):
        await service.append_event(session, changing(app_a=1))
    assert session.events == []
    assert (await service.create_session(**WHERE)).state == {}
