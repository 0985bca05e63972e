"""The message history of a pydantic-ai agent (``pydantic-ai`` or ``pydantic-ai-slim``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic_core import to_json

from agentx_persistence import OtherMessage, Persistence, SessionRecord, errors

try:
    from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter
except ModuleNotFoundError as error:
    raise errors.MissingDependencyError("pydantic-ai", "pydantic-ai") from error

_NAME = "pydantic-ai"
_ROLES = {"request": "user", "response": "assistant"}


class PersistentHistory:
    """The messages of a conversation with pydantic-ai agents, in a session of the store.

    Each `ModelMessage` is one message: an `OtherMessage` with the subtype "pydantic-ai" and the
    JSON of the framework in the field ``message``. The methods are synchronous: in asyncio code
    call them through ``asyncio.to_thread``.
    """

    def __init__(
        self, persistence: Persistence, session_id: str, *, container_id: str = "default"
    ) -> None:
        """:param container_id: the container of the session, if this creates it"""
        self._new = SessionRecord(session_id=session_id, container_id=container_id, image_id=_NAME)
        self._sessions = persistence.sessions

    def load(self, *, last: int | None = None) -> list[ModelMessage]:
        """Return the messages, oldest first; none if there is no such session.

        :param last: only so many, up to the newest
        :raises InvalidRecordError: if the session has messages that this class did not add
        """
        try:
            messages: list[Any] = self._sessions.get_messages(self._new.session_id, last=last)
        except errors.RecordNotFoundError:
            return []
        if odd := {message.subtype for message in messages} - {_NAME}:
            raise errors.InvalidRecordError("message", "subtype", f"is {min(odd)!r}, not {_NAME!r}")
        # In JSON, bytes are base64.
        return ModelMessagesTypeAdapter.validate_json(to_json([one.message for one in messages]))

    def append(self, messages: Sequence[ModelMessage]) -> None:
        """Append all the messages or none, such as ``result.new_messages()``.

        The session is created with its first messages.
        """
        wire = ModelMessagesTypeAdapter.dump_python(list(messages), mode="json")
        new = [OtherMessage(role=_ROLES[one["kind"]], subtype=_NAME, message=one) for one in wire]
        if new:
            self._sessions.add_messages(self._new.session_id, new, create=self._new)
