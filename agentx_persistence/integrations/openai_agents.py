"""Sessions of the OpenAI Agents SDK (``openai-agents``)."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, cast

from agentx_persistence import (
    InvalidRecordError,
    Message,
    MissingDependencyError,
    OtherMessage,
    Persistence,
    RecordNotFoundError,
    SessionRecord,
)
from agentx_persistence.integrations._threads import in_thread
from agentx_persistence.transfer.foreign import openai_role

try:
    from agents import SessionABC, SessionSettings, TResponseInputItem
except ModuleNotFoundError as error:
    raise MissingDependencyError("openai-agents", "openai-agents") from error

_NAME = "openai-agents"
_MOST = 2**31 - 2  # the SDK asks for sys.maxsize items to get all


class PersistentSession(SessionABC):
    """A conversation of the Agents SDK in a session of the store.

    Each item is one message: an `OtherMessage` with the subtype "openai-agents" and the item itself
    in the field ``item``. The session is created with its first items.

    The methods can be called from any thread and event loop. If a call is cancelled, its outcome is
    awaited first. They raise the errors of the store; an absent session has no items.
    """

    def __init__(
        self,
        persistence: Persistence,
        session_id: str,
        *,
        container_id: str = "default",
        session_settings: SessionSettings | dict[str, Any] | None = None,
    ) -> None:
        """:param container_id: the container of the session, if this creates it
        :param session_settings: its ``limit`` is how many items ``get_items`` returns by default
        """
        # Made once, to refuse a bad id here and not in the middle of a run.
        self._new = SessionRecord(session_id=session_id, container_id=container_id, image_id=_NAME)
        self._sessions = persistence.sessions
        self.session_id = session_id
        self.session_settings = SessionSettings().resolve(session_settings)

    async def get_items(self, limit: int | None = None) -> list[TResponseInputItem]:
        """Return the items, oldest first.

        :param limit: only so many, up to the newest
        """
        if limit is None:
            limit = SessionSettings().resolve(self.session_settings).limit
        last = None if limit is None else min(limit, _MOST)
        try:
            messages = await in_thread(self._sessions.get_messages, self.session_id, last=last)
        except RecordNotFoundError:
            return []
        return [_item(message) for message in messages]

    async def add_items(self, items: list[TResponseInputItem]) -> None:
        """Append all the items or none."""
        if items:
            messages = [_message(item) for item in items]
            await in_thread(
                self._sessions.add_messages, self.session_id, messages, create=self._new
            )

    async def pop_item(self) -> TResponseInputItem | None:
        """Remove the newest item and return it, or ``None`` if there is none."""
        try:
            message = await in_thread(self._pop)
        except RecordNotFoundError:
            return None
        return None if message is None else _item(message)

    async def clear_session(self) -> None:
        """Delete all items. The session stays, with its title and metadata."""
        with suppress(RecordNotFoundError):
            await in_thread(self._sessions.clear_messages, self.session_id)

    def _pop(self) -> Message | None:
        for message in self._sessions.get_messages(self.session_id, last=1):
            _item(message)  # refuses a message of others before it is removed
        return self._sessions.pop_message(self.session_id)


def _message(item: TResponseInputItem) -> OtherMessage:
    return OtherMessage(role=openai_role(item), subtype=_NAME, item=item)


def _item(message: Message) -> TResponseInputItem:
    if not isinstance(message, OtherMessage) or message.subtype != _NAME:
        reason = f"is {message.subtype!r}, so it is not an item that the Agents SDK added"
        raise InvalidRecordError("message", "subtype", reason)
    return cast(TResponseInputItem, message.item)
