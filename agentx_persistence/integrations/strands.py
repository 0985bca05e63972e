"""Sessions and storage of Strands Agents, kept in a `Persistence`.

A session of Strands is a container, which owns a session of this package for each agent, and an
item for each group of agents. The message with the index 0 is the first one of its agent.
"""

from __future__ import annotations

import builtins
import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from agentx_persistence import (
    ContainerRecord,
    ItemRecord,
    OtherMessage,
    Persistence,
    SessionRecord,
)
from agentx_persistence.errors import (
    MissingDependencyError,
    PersistenceError,
    RecordConflictError,
    RecordNotFoundError,
)
from agentx_persistence.integrations._threads import in_thread

try:
    from strands.session import SessionRepository
    from strands.storage import Storage
    from strands.types.exceptions import SessionException, StorageError
    from strands.types.session import (
        Session,
        SessionAgent,
        SessionMessage,
        decode_bytes_values,
        encode_bytes_values,
    )
except ModuleNotFoundError as error:
    raise MissingDependencyError("strands", "strands-agents") from error

_T = TypeVar("_T")


class PersistentStorage(Storage):
    """Keeps the bytes of snapshots, and of all else, as items of the container `container_id`.

    A key is made of names with slashes between them. `list` and `search` read what they look at.
    """

    def __init__(self, persistence: Persistence, container_id: str = "strands") -> None:
        self._items = persistence.items
        self._root: tuple[str, ...] = (container_id, "storage")

    def namespace(self, prefix: str) -> PersistentStorage:
        """Return the part of this storage whose keys begin with the prefix, without it."""
        part = copy.copy(self)
        part._root = (*self._root, *_names(prefix))
        return part

    async def write(self, key: str, data: bytes) -> None:
        """Store the bytes under the key, in place of those that are there."""
        namespace, name = self._place(key)
        await self._call(
            lambda: self._items.save(ItemRecord(namespace=namespace, key=name, value=bytes(data)))
        )

    async def read(self, key: str) -> bytes | None:
        """Return the bytes under the key, or ``None`` if there are none."""
        found = await self._call(lambda: self._items.find(*self._place(key)))
        return None if found is None else found.value

    async def delete(self, key: str) -> None:
        """Delete the bytes under the key, if there are some."""
        await self._call(lambda: self._items.delete(*self._place(key)))

    async def list(self, query: str = "") -> builtins.list[str]:
        """Return the keys that begin with the query, in ascending order."""
        return await self._call(lambda: self._keys("/".join(_names(f"{query}*"))[:-1]))

    def _keys(self, prefix: str) -> builtins.list[str]:
        keys: builtins.list[str] = []
        cursor, within = None, (*self._root, *prefix.split("/")[:-1])
        while True:
            page = self._items.find_page(namespace_prefix=within, size=20, cursor=cursor)
            names = [(*item.namespace[len(self._root) :], item.key) for item in page.items]
            keys += ["/".join(name) for name in names]
            if (cursor := page.next_cursor) is None:
                return sorted(key for key in keys if key.startswith(prefix))

    def _place(self, key: str) -> tuple[tuple[str, ...], str]:
        *path, name = _names(key)
        return (*self._root, *path), name

    async def _call(self, call: Callable[[], _T]) -> _T:
        try:
            return await in_thread(call)
        except PersistenceError as error:
            raise StorageError(str(error)) from error


class PersistentSessionRepository(SessionRepository):
    """Keeps sessions, agents, messages and groups of agents.

    A new message is refused unless its index is the next one of its agent.
    """

    def __init__(self, persistence: Persistence) -> None:
        self._persistence, self._sessions = persistence, persistence.sessions

    def create_session(self, session: Session, **kwargs: Any) -> Session:
        fields = {"container_id": _key(session.session_id), "strands": session.to_dict()}
        with _explained():
            self._persistence.containers.create(ContainerRecord.model_validate(fields))
        return session

    def read_session(self, session_id: str, **kwargs: Any) -> Session | None:
        record: Any = self._persistence.containers.find(_key(session_id))
        return None if record is None else Session.from_dict(record.strands)

    def delete_session(self, session_id: str, **kwargs: Any) -> None:
        """Delete the session with all that belongs to it."""
        if not self._persistence.containers.delete(_key(session_id)):
            raise SessionException(f"Session {session_id} does not exist")

    def create_agent(self, session_id: str, session_agent: SessionAgent, **kwargs: Any) -> None:
        with _explained():
            self._sessions.create(_agent_record(session_id, session_agent))

    def read_agent(self, session_id: str, agent_id: str, **kwargs: Any) -> SessionAgent | None:
        record: Any = self._sessions.find(_key(session_id, agent_id))
        return None if record is None else SessionAgent.from_dict(record.strands)

    def update_agent(self, session_id: str, session_agent: SessionAgent, **kwargs: Any) -> None:
        def changed(record: Any) -> Any:
            session_agent.created_at = record.strands["created_at"]
            return record.model_copy(update={"strands": session_agent.to_dict()})

        with _explained():
            self._sessions.update(_key(session_id, session_agent.agent_id), changed)

    def create_message(
        self, session_id: str, agent_id: str, session_message: SessionMessage, **kwargs: Any
    ) -> None:
        index = session_message.message_id
        with _explained():
            self._sessions.add_message(
                _key(session_id, agent_id), _message(session_message), expected=index
            )

    def read_message(
        self, session_id: str, agent_id: str, message_id: int, **kwargs: Any
    ) -> SessionMessage | None:
        try:
            found = self._sessions.find_message(_key(session_id, agent_id), str(message_id))
        except RecordNotFoundError:
            return None
        return None if found is None else _session_message(found)

    def update_message(
        self, session_id: str, agent_id: str, session_message: SessionMessage, **kwargs: Any
    ) -> None:
        key, id = _key(session_id, agent_id), str(session_message.message_id)
        with _explained():
            stored: Any = self._sessions.get_message(key, id)
            session_message.created_at = stored.strands["created_at"]
            self._sessions.replace_message(key, _message(session_message))

    def list_messages(
        self, session_id: str, agent_id: str, limit: int | None = None, offset: int = 0, **kw: Any
    ) -> list[SessionMessage]:
        after = str(offset - 1) if offset else None
        try:
            found = self._sessions.get_messages(
                _key(session_id, agent_id), first=limit, after=after
            )
        except RecordNotFoundError as error:
            if error.kind == "message":  # there are fewer than `offset`
                return []
            raise SessionException(str(error)) from error
        return [_session_message(message) for message in found]

    def create_multi_agent(self, session_id: str, multi_agent: Any, **kwargs: Any) -> None:
        place = {"namespace": (_key(session_id), "multi-agents"), "key": multi_agent.id}
        self._persistence.items.save(ItemRecord(**place, value=_state(multi_agent)))

    def read_multi_agent(
        self, session_id: str, multi_agent_id: str, **kwargs: Any
    ) -> dict[str, Any] | None:
        item = self._persistence.items.find((_key(session_id), "multi-agents"), multi_agent_id)
        return None if item is None else decode_bytes_values(item.value)

    def update_multi_agent(self, session_id: str, multi_agent: Any, **kwargs: Any) -> None:
        with _explained():
            self._persistence.items.update(
                (_key(session_id), "multi-agents"),
                multi_agent.id,
                lambda old: old.model_copy(update={"value": _state(multi_agent)}),
            )


@contextmanager
def _explained() -> Iterator[None]:
    """Raise Strands' own error for what is not there, or was changed by others."""
    try:
        yield
    except (RecordConflictError, RecordNotFoundError) as error:
        raise SessionException(str(error)) from error


def _key(*names: str) -> str:
    """Return the id of the container of a session, or of the session of its agent."""
    return "/".join(["strands", *(name.replace("%", "%25").replace("/", "%2F") for name in names)])


def _names(key: str) -> list[str]:
    """Return the names that the key consists of."""
    if names := [name for name in key.split("/") if name]:
        return names
    raise StorageError("the key must not be empty")


def _agent_record(session_id: str, agent: SessionAgent) -> SessionRecord:
    return SessionRecord.model_validate(
        {
            "session_id": _key(session_id, agent.agent_id),
            "container_id": _key(session_id),
            "title": agent.agent_id,
            "strands": agent.to_dict(),
        }
    )


def _message(message: SessionMessage) -> OtherMessage:
    """Return the message. The content that counts is its own, so that it has a text."""
    fields = message.to_dict()
    shown = fields["redact_message"] or fields["message"]
    return OtherMessage(
        id=str(message.message_id),
        role=shown["role"],
        subtype="strands",
        content=shown.pop("content"),
        strands=fields,
    )


def _session_message(stored: Any) -> SessionMessage:
    fields = stored.strands
    (fields["redact_message"] or fields["message"])["content"] = stored.content
    return SessionMessage.from_dict(fields)


def _state(multi_agent: Any) -> Any:
    return encode_bytes_values(multi_agent.serialize_state())
