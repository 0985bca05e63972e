"""Sessions of Google's Agent Development Kit (ADK), kept in a `Persistence`.

The events are the truth; each is appended in one guarded step. A session's record holds the state
after its event number ``settled``. An event says in ``stateAt`` which event, up to itself, was the
last one with changes of state. If that one is not settled, its append was cut off, or still runs:
the next reader of the session carries out the changes first.

A session and its events have a ``token``. A writer checks it before it appends. If the session is
deleted and created anew between the check and the append, the event has another token than the new
session, which does not show it: the outcome is that of an append before the deletion.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any, TypeAlias
from weakref import WeakValueDictionary

from agentx_persistence import ItemRecord, OtherMessage, Persistence, SessionRecord
from agentx_persistence.errors import (
    InvalidRecordError,
    MissingDependencyError,
    RecordConflictError,
    RecordNotFoundError,
)
from agentx_persistence.integrations._threads import in_thread

try:
    from google.adk.errors import StaleSessionError
    from google.adk.errors.already_exists_error import AlreadyExistsError
    from google.adk.errors.session_not_found_error import SessionNotFoundError
    from google.adk.events import Event, EventActions
    from google.adk.sessions import BaseSessionService, Session
    from google.adk.sessions.base_session_service import GetSessionConfig, ListSessionsResponse
except ModuleNotFoundError as error:
    raise MissingDependencyError("google-adk", "google-adk") from error

_Map: TypeAlias = dict[str, Any]
_Deltas: TypeAlias = list[tuple[int, _Map]]
_SHARED = ("app:", "user:")
_REMEMBERED = 64  # changes of a shared state that are recognised when they are repeated


class PersistentSessionService(BaseSessionService):
    """Keeps sessions, events and state in `persistence`, which the caller closes.

    Appending to a `Session` that others have appended to since it was loaded raises
    `StaleSessionError`.
    """

    def __init__(self, persistence: Persistence) -> None:
        self._sessions, self._items = persistence.sessions, persistence.items
        self._turns: WeakValueDictionary[object, asyncio.Lock] = WeakValueDictionary()

    async def create_session(
        self,
        *,
        app_name: str,
        user_id: str,
        state: _Map | None = None,
        session_id: str | None = None,
    ) -> Session:
        first = Event(actions=EventActions(state_delta=state or {}))
        names = (app_name, user_id, (session_id or "").strip() or first.id)
        metadata = {"token": first.id, "time": first.timestamp, "state": {}, "settled": -1}
        return await in_thread(self._create, names, metadata | {"first": _wire(first)})

    async def get_session(
        self,
        *,
        app_name: str,
        user_id: str,
        session_id: str,
        config: GetSessionConfig | None = None,
    ) -> Session | None:
        key = _key(app_name, user_id, session_id.strip())
        return await in_thread(self._get, key, config or GetSessionConfig())

    async def list_sessions(
        self, *, app_name: str, user_id: str | None = None
    ) -> ListSessionsResponse:
        return ListSessionsResponse(sessions=await in_thread(self._list, app_name, user_id))

    async def delete_session(self, *, app_name: str, user_id: str, session_id: str) -> None:
        await in_thread(self._sessions.delete, _key(app_name, user_id, session_id.strip()))

    async def get_user_state(self, *, app_name: str, user_id: str) -> _Map:
        item = await in_thread(self._items.find, *_place(_key(app_name, user_id)))
        return item.value if item else {}

    async def append_event(self, session: Session, event: Event) -> Event:
        if event.partial:
            return event
        key = _key(session.app_name, session.user_id, session.id)
        turn = self._turns.setdefault((asyncio.get_running_loop(), key), asyncio.Lock())
        async with turn:  # appends through one object at the same time follow each other
            marker = await in_thread(self._append, key, session, _wire(event))
            session._storage_update_marker = marker
            session.last_update_time = event.timestamp
            return await super().append_event(session, event)

    def _create(self, names: tuple[str, str, str], metadata: _Map) -> Session:
        delta = metadata["first"]["actions"]["stateDelta"]
        if not any(name.startswith(_SHARED) for name in delta):  # there is nothing to settle
            del metadata["first"]
            metadata |= {"state": delta, "settled": 0}
        app, user, key = _key(*names[:1]), _key(*names[:2]), _key(*names)
        record = SessionRecord(session_id=key, container_id=user, image_id=app, metadata=metadata)
        try:
            self._sessions.create(record)
        except RecordConflictError as error:
            raise AlreadyExistsError(f"Session with id {names[2]} already exists.") from error
        return self._loaded([(record, None)])[0]

    def _get(self, key: str, config: GetSessionConfig) -> Session | None:
        limit, since = config.num_recent_events, config.after_timestamp
        try:
            record = self._sessions.get(key)
            events: list[Any] = self._sessions.get_messages(key, last=1 if limit == 0 else limit)
        except RecordNotFoundError:
            return None
        (session,) = self._loaded([(record, events[-1] if events else None)])
        own = [event for event in events if event.token == _token(record)]
        kept = [_event(event) for event in own] if limit != 0 else []
        session.events = [event for event in kept if since is None or event.timestamp >= since]
        return session

    def _list(self, app_name: str, user_id: str | None) -> list[Session]:
        if user_id is None:
            records = self._sessions.find_all(image_id=_key(app_name))
        else:
            records = self._sessions.find_all(container_id=_key(app_name, user_id))
        newest = self._sessions.summaries([record.session_id for record in records])
        there = [record for record in records if record.session_id in newest]
        sessions = self._loaded([(one, newest[one.session_id].last_message) for one in there])
        return sorted(sessions, key=lambda one: (one.last_update_time, one.user_id, one.id))

    def _loaded(self, found: list[tuple[SessionRecord, Any]]) -> list[Session]:
        """Return the sessions without events, given each one's record and newest event."""
        settled = [(self._settled(record, newest), newest) for record, newest in found]
        owners = {owner for record, _ in found for owner in (record.image_id, record.container_id)}
        shared = self._items.find_many([_place(owner) for owner in owners])
        return [_session(record, newest, shared) for record, newest in settled]

    def _append(self, key: str, session: Session, event: _Map) -> str:
        """Append the event and change the state; return the session's new marker."""
        try:
            token, count, state_at = self._seen(key, session)
            delta, position = event["actions"]["stateDelta"], int(count) + 1
            place = {"token": token, "position": position}
            place["stateAt"] = position if delta else int(state_at)
            self._sessions.add_message(key, _message(event, place), expected=int(count))
            if delta:
                self._settle(key, token, [(position, delta)])
        except RecordNotFoundError as error:
            raise SessionNotFoundError(f"Session {session.id} not found.") from error
        except RecordConflictError as error:
            if error.kind != "session":
                raise  # another event has this id
            reason = "has been modified in storage since it was loaded; load it again"
            raise StaleSessionError(f"The session {session.id!r} {reason}.") from error
        return f"{token}/{position}/{place['stateAt']}"

    def _seen(self, key: str, session: Session) -> list[str]:
        """Return the parts of the session's marker; one without a marker must be current."""
        record, marker = self._sessions.get(key), session._storage_update_marker
        if marker is None:
            newest: list[Any] = self._sessions.get_messages(key, last=8)
            own = [event.id for event in newest if event.token == _token(record)]
            if [event.id for event in session.events[-1:]] != own[-1:]:
                raise RecordConflictError("session", key)
            marker = _marker(record, *newest[-1:])
        seen = marker.split("/")
        if seen[0] != _token(record):
            raise RecordConflictError("session", key)
        return seen

    def _settled(self, record: SessionRecord, newest: Any) -> SessionRecord:
        """Return the record with the state after the newest event, which it stores if needed."""
        metadata: Any = record.metadata
        settled, deltas = metadata["settled"], []
        if settled >= (newest.stateAt if newest else 0):
            return record
        with suppress(RecordNotFoundError):  # deleted meanwhile: this was its last state
            event: Any
            for event in self._sessions.iter_messages(record.session_id, reverse=True):
                if event.position <= settled:
                    break
                if event.token == _token(record):
                    deltas.append((event.position, event.event["actions"]["stateDelta"]))
            if settled < 0:
                deltas.append((0, metadata["first"]["actions"]["stateDelta"]))
            deltas = [
                one for one in reversed(deltas) if one[0] <= (newest.position if newest else 0)
            ]
            self._settle(record.session_id, _token(record), deltas)
        return _folded(record, _token(record), deltas)

    def _settle(self, key: str, token: str, deltas: _Deltas) -> None:
        """Change the state, each time once, and note in the session's record how far this is."""
        app, user, _ = key.split("/")
        for position, delta in deltas:
            for scope, owner in zip(_SHARED, (app, f"{app}/{user}"), strict=True):
                if changes := {k[len(scope) :]: delta[k] for k in delta if k.startswith(scope)}:
                    self._merge(owner, changes, f"{token}/{position}")
        self._sessions.update(key, lambda record: _folded(record, token, deltas))

    def _merge(self, owner: str, changes: _Map, token: str) -> None:
        def merged(item: Any) -> Any:
            done = [*item.applied, token][-_REMEMBERED:]
            update = {"value": item.value | changes, "applied": done}
            return item if token in item.applied else item.model_copy(update=update)

        namespace, name = _place(owner)
        empty = {"namespace": namespace, "key": name, "value": {}, "applied": []}
        try:
            self._items.update(namespace, name, merged)
        except RecordNotFoundError:
            with suppress(RecordConflictError):
                self._items.create(ItemRecord.model_validate(empty))
            self._items.update(namespace, name, merged)


def _key(*names: str) -> str:
    return "/".join(name.replace("%", "%25").replace("/", "%2F") for name in names)


def _place(owner: str) -> tuple[tuple[str, str], str]:
    return (owner, "google-adk"), "state"


def _folded(record: SessionRecord, token: str, deltas: _Deltas) -> SessionRecord:
    """Return the record with those of the changes to the session's own state that it lacks."""
    metadata: Any = record.metadata
    if _token(record) == token:  # else another session has taken the id meanwhile
        for position, delta in deltas:
            if position > metadata["settled"]:
                own = {k: v for k, v in delta.items() if not k.startswith(_SHARED)}
                metadata = metadata | {"state": metadata["state"] | own, "settled": position}
    return record.model_copy(update={"metadata": metadata})


def _wire(event: Event) -> _Map:
    try:
        json.dumps(event.model_dump(exclude_none=True), default=str, allow_nan=False)
    except ValueError as error:
        # pydantic would write null in its place.
        reason = "holds a number that is not finite; JSON has none, store a text or null"
        raise InvalidRecordError("event", "state or content", reason) from error
    wire = event.model_dump(mode="json", by_alias=True, exclude_none=True)
    delta = wire["actions"]["stateDelta"]
    wire["actions"]["stateDelta"] = {k: v for k, v in delta.items() if not k.startswith("temp:")}
    return wire


def _message(event: _Map, place: _Map) -> OtherMessage:
    return OtherMessage(
        id=event["id"],
        role="user" if event["author"] == "user" else "assistant",
        subtype="google-adk",
        timestamp=int(event["timestamp"] * 1000),
        **place,
        parts=event.get("content", {}).pop("parts", None),  # here they give the message a text
        event=event,
    )


def _event(message: Any) -> Event:
    if message.parts is not None:
        message.event["content"]["parts"] = message.parts
    return Event.model_validate(message.event)


def _token(record: SessionRecord) -> str:
    metadata: Any = record.metadata
    token: str = metadata["token"]
    return token


def _marker(record: SessionRecord, newest: Any = None) -> str:
    position, state_at = (newest.position, newest.stateAt) if newest else (0, 0)
    return f"{_token(record)}/{position}/{state_at}"


def _session(record: SessionRecord, newest: Any, shared: Any) -> Session:
    metadata: Any = record.metadata
    names = [name.replace("%2F", "/").replace("%25", "%") for name in record.session_id.split("/")]
    state = dict(metadata["state"])
    for scope, owner in zip(_SHARED, (record.image_id, record.container_id), strict=True):
        if item := shared.get(_place(owner)):
            state |= {f"{scope}{name}": value for name, value in item.value.items()}
    time = newest.event["timestamp"] if newest else metadata["time"]
    session = Session(
        app_name=names[0], user_id=names[1], id=names[2], state=state, last_update_time=time
    )
    session._storage_update_marker = _marker(record, newest)
    return session
