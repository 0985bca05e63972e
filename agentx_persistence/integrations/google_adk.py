"""Sessions of Google's Agent Development Kit (ADK), kept in a `Persistence`.

1. An event is appended in one step, guarded by the number of messages that its writer has seen.
2. Then it is settled: its changes are made to the state of the app, to that of the user, and last
   to that of the session, whose record says in ``settled`` at which position this was. Each change
   is made once, however often an event is settled. The creation is the event at position 0.
3. Loading a session settles its newest event. A writer appends only after it has loaded the
   session, or has appended the previous event, which settles that one. So only the newest event can
   be unsettled: its append was cut off, or still runs.
4. A session and its events have a ``token``. If the session is deleted and created anew between a
   writer's check of the token and its append, the event has another token than the new session,
   which does not show it: the outcome is that of an append before the deletion.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, TypeAlias
from weakref import WeakValueDictionary

from pydantic_core import to_jsonable_python

from agentx_persistence import ItemRecord, OtherMessage, Persistence, SessionRecord, errors
from agentx_persistence.integrations._threads import in_thread

try:
    from google.adk.errors import StaleSessionError
    from google.adk.errors.already_exists_error import AlreadyExistsError
    from google.adk.errors.session_not_found_error import SessionNotFoundError
    from google.adk.events import Event, EventActions
    from google.adk.sessions import BaseSessionService, Session
    from google.adk.sessions.base_session_service import GetSessionConfig, ListSessionsResponse
except ModuleNotFoundError as error:
    raise errors.MissingDependencyError("google-adk", "google-adk") from error

_Map: TypeAlias = dict[str, Any]


class PersistentSessionService(BaseSessionService):
    """Keeps sessions, events and state in `persistence`, which the caller closes.

    Appending to a `Session` that others have appended to since it was loaded raises
    `StaleSessionError`.
    """

    def __init__(self, persistence: Persistence) -> None:
        self._sessions, self._items = persistence.sessions, persistence.items
        self._turns: WeakValueDictionary[object, asyncio.Lock] = WeakValueDictionary()

    async def create_session(
        self, app_name: str, user_id: str, state: _Map | None = None, session_id: str | None = None
    ) -> Session:
        first = _fields(Event(actions=EventActions(state_delta=state or {})))
        names = (app_name, user_id, (session_id or "").strip() or first["id"])
        app, user, key = (_key(*names[:length]) for length in (1, 2, 3))
        metadata = {"token": first["id"], "first": first["event"], "state": {}, "settled": -1}
        record = SessionRecord(session_id=key, container_id=user, image_id=app, metadata=metadata)
        try:
            await in_thread(self._sessions.create, record)
        except errors.RecordConflictError as error:
            raise AlreadyExistsError(f"Session with id {names[2]} already exists.") from error
        for session in await in_thread(self._loaded, [key]):
            return session
        raise SessionNotFoundError(f"Session {names[2]} was deleted meanwhile.")

    async def get_session(
        self, app_name: str, user_id: str, session_id: str, config: GetSessionConfig | None = None
    ) -> Session | None:
        key, config = _key(app_name, user_id, session_id.strip()), config or GetSessionConfig()
        return await in_thread(self._get, key, config.num_recent_events, config.after_timestamp)

    async def list_sessions(
        self, app_name: str, user_id: str | None = None
    ) -> ListSessionsResponse:
        user = None if user_id is None else _key(app_name, user_id)
        found = await in_thread(self._sessions.find_all, image_id=_key(app_name), container_id=user)
        sessions = await in_thread(self._loaded, [record.session_id for record in found])
        sessions.sort(key=lambda one: (one.last_update_time, one.user_id, one.id))
        return ListSessionsResponse(sessions=sessions)

    async def delete_session(self, app_name: str, user_id: str, session_id: str) -> None:
        await in_thread(self._sessions.delete, _key(app_name, user_id, session_id.strip()))

    async def get_user_state(self, app_name: str, user_id: str) -> _Map:
        item = await in_thread(self._items.find, *_shared(_key(app_name, user_id))["user:"])
        return item.value if item else {}

    async def append_event(self, session: Session, event: Event) -> Event:
        if event.partial:
            return event
        turn = self._turns.setdefault((asyncio.get_running_loop(), id(session)), asyncio.Lock())
        async with turn:  # appends through one object at the same time follow each other
            session._storage_update_marker = await in_thread(self._append, session, _fields(event))
            session.last_update_time = event.timestamp
            return await super().append_event(session, event)

    def _get(self, key: str, last: int | None, since: float | None = None) -> Session | None:
        for session in self._loaded([key]):
            token, _, count = (session._storage_update_marker or "").partition("/")
            with suppress(errors.RecordNotFoundError):  # deleted meanwhile
                found: list[Any] = self._sessions.get_messages(key, last=last)
                own = [one for one in found if one.token == token and one.position <= int(count)]
                events = [Event.model_validate(one.event | {"content": one.item}) for one in own]
                session.events = [one for one in events if since is None or one.timestamp >= since]
                return session
        return None

    def _loaded(self, keys: list[str]) -> list[Session]:
        """Return those of the sessions that are there, settled, without events."""
        newest = self._sessions.summaries(keys)
        sessions = {}
        # The records are read later, so that they lack only changes of the newest events.
        for key, record in self._sessions.find_many(newest).items():
            with suppress(errors.RecordNotFoundError):  # deleted meanwhile
                sessions[key] = self._settled(key, record, newest[key])
        places = [(key, scope, place) for key in sessions for scope, place in _shared(key).items()]
        items = self._items.find_many(place for _, _, place in places)
        for key, scope, place in places:
            if item := items.get(place):
                sessions[key].state |= {scope + name: value for name, value in item.value.items()}
        return list(sessions.values())

    def _settled(self, key: str, record: Any, summary: Any) -> Session:
        """Return the session as it is after its newest event, which is settled."""
        token, last, count = record.metadata["token"], summary.last_message, summary.message_count
        while last and last.token != token:  # of a session that had the id before
            last = next(iter(self._sessions.get_messages(key, before=last.id, last=1)), None)
        position, event = (last.position, last.event) if last else (0, record.metadata["first"])
        delta = event["actions"]["stateDelta"]

        def settled(one: Any) -> Any:
            old = one.metadata
            if old["token"] != token:
                raise errors.RecordNotFoundError("session", key)  # another session has the id now
            own = {name: delta[name] for name in delta if not name.startswith(("app:", "user:"))}
            new = old | {"state": old["state"] | own, "settled": position}
            return one.model_copy(update={"metadata": new}) if position > old["settled"] else one

        if delta and position > record.metadata["settled"]:
            for scope, place in _shared(key).items():
                if part := {k.removeprefix(scope): delta[k] for k in delta if k.startswith(scope)}:
                    self._merge(place, part, f"{token}/{position}")
            record = self._sessions.update(key, settled)
        app, user, id = (name.replace("%2F", "/").replace("%25", "%") for name in key.split("/"))
        session = Session(app_name=app, user_id=user, id=id, state=record.metadata["state"])
        session.last_update_time = event["timestamp"]
        # If others have settled a newer event meanwhile, this is the session after that one.
        session._storage_update_marker = f"{token}/{max(count, record.metadata['settled'])}"
        return session

    def _merge(self, place: tuple[Any, str], changes: _Map, step: str) -> None:
        """Change a shared state, unless this step is among the last 64 that have changed it."""

        def merged(item: Any) -> Any:
            applied = getattr(item, "applied", [])
            update = {"value": item.value | changes, "applied": [*applied, step][-64:]}
            return item if step in applied else item.model_copy(update=update)

        try:
            self._items.update(*place, merged)
        except errors.RecordNotFoundError:
            with suppress(errors.RecordConflictError):  # another has created it meanwhile
                self._items.create(ItemRecord(namespace=place[0], key=place[1], value={}))
            self._merge(place, changes, step)

    def _append(self, session: Session, fields: _Map) -> str:
        """Append the event and settle it; return the session's new marker."""
        key = _key(session.app_name, session.user_id, session.id)
        try:
            token, count = self._seen(key, session)
            message = OtherMessage(**fields, token=token, position=count + 1)
            self._sessions.add_message(key, message, expected=count)
            if fields["event"]["actions"]["stateDelta"]:
                self._loaded([key])
        except errors.RecordNotFoundError as error:
            raise SessionNotFoundError(f"Session {session.id} not found.") from error
        except errors.RecordConflictError as error:
            if error.kind != "session":
                raise  # another event has this id
            raise StaleSessionError(f"Session {key} was modified in storage. Reload it.") from error
        return f"{token}/{count + 1}"

    def _seen(self, key: str, session: Session) -> tuple[str, int]:
        """Return the token of the session, and how many messages the writer has seen.

        A session without a marker, such as one read from JSON, must have the newest event.
        """
        record: Any = self._sessions.get(key)
        marker = session._storage_update_marker
        if marker is None:
            current, ids = self._get(key, last=8), [event.id for event in session.events[-1:]]
            if current and [event.id for event in current.events[-1:]] == ids:
                marker = current._storage_update_marker
        token, _, count = (marker or "").partition("/")
        if token != record.metadata["token"]:
            raise errors.RecordConflictError("session", key)
        return token, int(count)


def _key(*names: str) -> str:
    return "/".join(name.replace("%", "%25").replace("/", "%2F") for name in names)


def _shared(key: str) -> _Map:
    """Return the prefixes of names in shared states, and where the items of these states are."""
    app, user, *_ = key.split("/")
    users = (f"{app}/{user}", "google-adk")
    return {"app:": ((app, "google-adk"), "state"), "user:": (users, "state")}


def _fields(event: Event) -> _Map:
    """Return what is stored of the event."""
    dump = event.model_dump(by_alias=True, exclude_none=True)
    # A number that is not finite stays one, which records refuse. pydantic would write null.
    wire: _Map = to_jsonable_python(
        dump, bytes_mode="base64", inf_nan_mode="constants", serialize_unknown=True
    )
    delta = wire["actions"]["stateDelta"]
    wire["actions"]["stateDelta"] = {k: v for k, v in delta.items() if not k.startswith("temp:")}
    return {
        "id": event.id,
        "role": "user" if event.author == "user" else "assistant",
        "subtype": "google-adk",
        "timestamp": int(event.timestamp * 1000),
        "item": wire.pop("content", None),  # here it gives the message a text
        "event": wire,
    }
