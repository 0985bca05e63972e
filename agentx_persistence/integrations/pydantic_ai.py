"""The message history of a pydantic-ai agent (``pydantic-ai`` or ``pydantic-ai-slim``)."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic_core import to_json

from agentx_persistence import (
    InvalidRecordError,
    MissingDependencyError,
    OtherMessage,
    Persistence,
    RecordNotFoundError,
    SessionRecord,
)

try:
    from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter
except ModuleNotFoundError as error:
    raise MissingDependencyError("pydantic-ai", "pydantic-ai") from error

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
            messages = self._sessions.get_messages(self._new.session_id, last=last)
        except RecordNotFoundError:
            return []
        if strange := {message.subtype for message in messages} - {_NAME}:
            raise InvalidRecordError("message", "subtype", f"is {min(strange)!r}, not {_NAME!r}")
        found = [message.message for message in messages if isinstance(message, OtherMessage)]
        return ModelMessagesTypeAdapter.validate_json(to_json(found))  # in which bytes are base64

    def append(self, messages: Sequence[ModelMessage]) -> None:
        """Append all the messages or none, such as ``result.new_messages()``.

        The session is created with its first messages.
        """
        dumped = ModelMessagesTypeAdapter.dump_python(list(messages), mode="json")
        kept = [
            OtherMessage(role=_ROLES[message["kind"]], subtype=_NAME, message=message)
            for message in dumped
        ]
        if kept:
            self._sessions.add_messages(self._new.session_id, kept, create=self._new)
