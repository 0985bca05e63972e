"""The contract over a `DocumentStore`: sessions and their messages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from agentx_persistence import records
from agentx_persistence.arguments import check_message, check_window
from agentx_persistence.documents.repositories import DocumentRepository
from agentx_persistence.documents.store import SESSIONS, Slice, Window
from agentx_persistence.fields import check_id, now
from agentx_persistence.loading import load, readable_id
from agentx_persistence.messages import MESSAGES, Message
from agentx_persistence.records import SessionRecord
from agentx_persistence.repositories import Page, SessionRepository

_STREAM_CHUNK = 200


class DocumentSessionRepository(DocumentRepository[SessionRecord], SessionRepository):
    kind = SESSIONS
    record = SessionRecord
    many = records.SESSIONS
    id_field = "session_id"
    filters = ("container_id", "image_id")

    def find_all(
        self,
        *,
        container_id: str | None = None,
        image_id: str | None = None,
        limit: int | None = None,
    ) -> list[SessionRecord]:
        return self._find_all({"container_id": container_id, "image_id": image_id}, limit)

    def find_page(
        self,
        *,
        container_id: str | None = None,
        image_id: str | None = None,
        size: int = 50,
        cursor: str | None = None,
    ) -> Page[SessionRecord]:
        return self._find_page({"container_id": container_id, "image_id": image_id}, size, cursor)

    def find_by_image(self, image_id: str) -> SessionRecord | None:
        check_id("image", image_id)
        newest = self._load(self._store.find(self.kind, ("image_id", image_id), None, 1))
        return newest[0] if newest else None

    def add_message(self, session_id: str, message: Message) -> int:
        check_id("session", session_id)
        return self._store.append(session_id, [check_message(message)], now())[0]

    def add_messages(self, session_id: str, messages: Sequence[Message]) -> list[int]:
        check_id("session", session_id)
        return self._store.append(session_id, [*map(check_message, messages)], now())

    def get_messages(
        self,
        session_id: str,
        *,
        first: int | None = None,
        last: int | None = None,
        after: str | None = None,
        before: str | None = None,
    ) -> list[Message]:
        check_window(session_id, first, last, after, before)
        bounds = self._bounds(session_id, after, before)
        while True:
            found = self._store.read(session_id, Window(*bounds, first, last))
            # Meanwhile the session may have been rewound, and gone on otherwise from there.
            known, bounds = bounds, self._bounds(session_id, after, before)
            if bounds == known:
                return self._messages(session_id, found)

    def _bounds(
        self, session_id: str, after: str | None, before: str | None
    ) -> tuple[int, int | None]:
        low = 0 if after is None else self._store.position(session_id, after)
        high = None if before is None else self._store.position(session_id, before)
        return low, high

    def iter_messages(self, session_id: str) -> Iterator[Message]:
        check_id("session", session_id)
        return self._stream(session_id, self._store.read(session_id, Window(first=_STREAM_CHUNK)))

    def _stream(self, session_id: str, found: Slice) -> Iterator[Message]:
        while found.texts:
            yield from self._messages(session_id, found)
            last = found.start + len(found.texts) - 1
            found = self._store.read(session_id, Window(last, first=_STREAM_CHUNK))

    def count_messages(self, session_id: str) -> int:
        check_id("session", session_id)
        return self._store.count(session_id)

    def clear_messages(self, session_id: str) -> int:
        check_id("session", session_id)
        return self._store.truncate(session_id, None)

    def truncate_after(self, session_id: str, message_id: str) -> int:
        check_id("session", session_id)
        check_id("message", message_id)
        return self._store.truncate(session_id, message_id)

    def _messages(self, session_id: str, found: Slice) -> list[Message]:
        return load(
            MESSAGES,
            found.texts,
            lambda index: (
                "message",
                readable_id(found.texts[index], found.start + index),
                self._store.where(self.kind, session_id, found.start + index),
            ),
        )
