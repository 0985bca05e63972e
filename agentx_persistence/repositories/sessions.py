"""The repository of sessions."""

from __future__ import annotations

from types import FunctionType
from typing import Any, ClassVar

from pydantic import TypeAdapter

from agentx_persistence import records
from agentx_persistence.errors import InvalidRecordError, RecordConflictError
from agentx_persistence.records import ForkOrigin, SessionRecord, check_id
from agentx_persistence.repositories._arguments import check_filters, named
from agentx_persistence.repositories._repository import Page, query
from agentx_persistence.repositories.conversations import Conversations
from agentx_persistence.repositories.histories import Histories
from agentx_persistence.storage import SESSIONS, Order, Query


class SessionRepository(Conversations):
    """Sessions and their messages. Saving a session does not touch its messages."""

    kind = SESSIONS
    record = SessionRecord
    many: ClassVar[TypeAdapter[Any]] = records.SESSIONS
    key_fields = "session_id"
    orders: ClassVar[tuple[Order, ...]] = ("newest", "oldest", "active")

    def find_all(
        self,
        *,
        container_id: str | None = None,
        image_id: str | None = None,
        order: str = "newest",
        since: int | None = None,
        until: int | None = None,
        limit: int | None = None,
    ) -> list[SessionRecord]:
        """Return at most `limit` sessions, or all.

        :param container_id: only the sessions of this container
        :param image_id: only the sessions of this image
        :param order: as in `ContainerRepository.find_all`, or, for the sessions of one container,
            "active": the second of the last change descending, then id ascending; a session that
            got a message comes first
        :param since: see `ContainerRepository.find_all`; for "active" to the second
        :param until: likewise
        """
        return self._find_all(_query(container_id, image_id, order, since, until, limit))

    def find_page(
        self,
        *,
        container_id: str | None = None,
        image_id: str | None = None,
        order: str = "newest",
        since: int | None = None,
        until: int | None = None,
        size: int = 50,
        cursor: str | None = None,
    ) -> Page[SessionRecord]:
        """Return a page of what `find_all` returns; see `ContainerRepository.find_page`.

        In the order "active" a session that changes meanwhile moves to the front, and may be
        missing from the pages that follow.
        """
        listed = _query(container_id, image_id, order, since, until, size)
        return self._find_page(listed, cursor)

    def count(self, *, container_id: str | None = None, image_id: str | None = None) -> int:
        """Return the number of sessions that `find_all` returns for these filters."""
        return self._count(_query(container_id, image_id, "newest", None, None, None))

    def find_by_image(self, image_id: str) -> SessionRecord | None:
        """Return the newest session of the image, or ``None`` if it has none."""
        image_id = check_id("image", image_id)
        newest = self.find_all(image_id=image_id, limit=1)
        return newest[0] if newest else None

    def fork(self, session_id: str, new: SessionRecord, *, through: str | None = None) -> int:
        """Copy the history into the new session `new`, in one step; return its length.

        The new session says in `forked_from` where it comes from. Later changes on either side do
        not touch the other.

        :param through: the id of the last message to copy; ``None`` copies all
        :raises RecordNotFoundError: if there is no such session, or no such message in it
        :raises RecordConflictError: if the id of `new` is taken
        """
        session_id = check_id("session", session_id)
        origin = ForkOrigin(session_id=session_id)
        if through is not None:
            through = check_id("message", through)
            origin = ForkOrigin(session_id=session_id, message_id=through)
        if not isinstance(new, SessionRecord):
            reason = f"must be SessionRecord, not {named(new)}"
            raise InvalidRecordError("session", "new", reason)
        document = self._document(new.model_copy(update={"forked_from": origin}))
        if document.key == session_id:
            self._storage.head(session_id)  # raises, if there is no such session
            raise RecordConflictError("session", session_id)
        copied = self._storage.fork(session_id, through, document)
        if copied is None:
            raise RecordConflictError("session", document.key)
        return copied


# Python's errors about arguments show `__qualname__`, and users only know `SessionRepository`.
for _verb in [*vars(Histories).values(), *vars(Conversations).values()]:
    if isinstance(_verb, FunctionType):
        _verb.__qualname__ = f"SessionRepository.{_verb.__name__}"


def _query(
    container_id: str | None,
    image_id: str | None,
    order: str,
    since: int | None,
    until: int | None,
    limit: int | None,
) -> Query:
    where = check_filters({"container_id": container_id, "image_id": image_id})
    return query(where, order, since, until, limit)
