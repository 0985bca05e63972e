"""Reading the messages of sessions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from agentx_persistence.errors import (
    CorruptRecordError,
    RecordConflictError,
    RecordNotFoundError,
)
from agentx_persistence.records import MESSAGES, Message, SessionRecord, check_id
from agentx_persistence.repositories._arguments import check_ids, check_window
from agentx_persistence.repositories._loading import load, readable_id
from agentx_persistence.repositories._repository import Repository
from agentx_persistence.storage import SESSIONS, Head, Slice, Stored, Text, Window

# How many messages, and how many bytes of their JSON, a stream reads at a time. The parsed messages
# take about three times as much memory.
_CHUNK_COUNT = 500
_CHUNK_BYTES = 2_000_000
# The class of a NamedTuple calls this from a Python function, and takes twice as long.
_new = tuple.__new__


class SessionSummary(NamedTuple):
    """What a list of conversations shows. `last_message` is ``None`` if there are no messages."""

    message_count: int
    last_message: Message | None


class Histories(Repository[SessionRecord]):
    """The messages of a session have positions from 1 up, without gaps, in the order in which they
    were added. Timestamps do not affect the order.
    """

    def get_messages(
        self,
        session_id: str,
        *,
        first: int | None = None,
        last: int | None = None,
        after: str | None = None,
        before: str | None = None,
    ) -> list[Message]:
        """Return the messages of the session, oldest first, whichever end they are taken from.

        :param first: only so many, from the oldest on; not together with `last`
        :param last: only so many, up to the newest
        :param after: only those after the message with this id
        :param before: only those before the message with this id
        :raises RecordNotFoundError: if there is no such session, or no such message in it
        """
        session_id, after, before = check_window(session_id, first, last, after, before)
        window = Window(after, before, first, last)
        return self._messages(session_id, self._storage.read(session_id, window), window)

    def get_message(self, session_id: str, message_id: str) -> Message:
        """Return the message.

        :raises RecordNotFoundError: if there is no such session, or no such message in it
        """
        found = self.find_message(session_id, message_id)
        if found is None:
            raise RecordNotFoundError("message", message_id)
        return found

    def find_message(self, session_id: str, message_id: str) -> Message | None:
        """Return the message, or ``None`` if the session has none with this id.

        :raises RecordNotFoundError: if there is no such session
        """
        session_id = check_id("session", session_id)
        message_id = check_id("message", message_id)
        found = self._storage.lookup(session_id, [message_id]).there.get(message_id)
        return None if found is None else self._read(session_id, message_id, *found)

    def iter_messages(
        self, session_id: str, *, after: str | None = None, reverse: bool = False
    ) -> Iterator[Message]:
        """Return an iterator over the messages, oldest first, that holds only a few at a time:
        about 8 MB beyond one message, on MongoDB 16 MB.

        Messages that are added before the iterator reaches the end are included, unless `reverse`
        is set.

        :param after: only those after the message with this id
        :param reverse: newest first
        :raises RecordNotFoundError: by this call, if there is no such session or message; by the
            iterator, if the session is deleted meanwhile
        :raises RecordConflictError: by the iterator, if messages were cut or replaced, or the
            session was deleted and created again, since the iterator began
        """
        session_id, after, _ = check_window(session_id, None, None, after, None)
        first, last = (None, _CHUNK_COUNT) if reverse else (_CHUNK_COUNT, None)
        window = Window(after, None, first, last, size=_CHUNK_BYTES, headed=True)
        return self._stream(session_id, window, self._storage.read(session_id, window))

    def _stream(self, session_id: str, window: Window, found: Slice) -> Iterator[Message]:
        head, reverse = head_of(found), window.last is not None
        while found.texts:
            messages = self._messages(session_id, found, window)
            start, stop = found.start or 0, (found.start or 0) + len(messages)
            found = found._replace(texts=())  # the texts are not held while messages are handed out
            if reverse:
                messages.reverse()
            yield from messages
            del messages
            window = window._replace(before=start) if reverse else window._replace(after=stop - 1)
            found = self._read_on(session_id, window, head)
        # The storage has found nothing at this position. If `after` is an id, the storage knows the
        # position of that entry and raises itself.
        if not isinstance(window.after, str):
            before = window.before or head.count + 1
            assert isinstance(before, int)
            position = before - 1 if reverse else (window.after or 0) + 1
            if 0 < position <= head_of(found).count:
                where = self._storage.where(SESSIONS, session_id, position)
                raise CorruptRecordError("message", f"#{position}", where)

    def _read_on(self, session_id: str, window: Window, head: Head) -> Slice:
        """Read the next messages of a stream that began with this head."""
        try:
            found = self._storage.read(session_id, window)
        except RecordNotFoundError as error:
            if error.kind == "session":
                raise
            found = None  # the message after which the stream ends was cut
        if found is None or head_of(found).generation != head.generation:
            reason = "its messages were cut, replaced or created anew; read them from the start"
            raise RecordConflictError("session", session_id, reason)
        return found

    def count_messages(self, session_id: str) -> int:
        """Return the number of messages.

        :raises RecordNotFoundError: if there is no such session
        """
        session_id = check_id("session", session_id)
        return self._storage.head(session_id).count

    def summaries(self, session_ids: Sequence[str]) -> dict[str, SessionSummary]:
        """Return the summaries of those of the sessions that exist, in the order of their ids."""
        asked = check_ids("session", session_ids)
        found = self._storage.newest(asked) if asked else {}
        there = [(id, found[id]) for id in asked if id in found]
        texts = [text for _, newest in there for text in newest.texts]  # at most one of each

        def describe(index: int) -> tuple[str, str, str]:
            id, newest = [each for each in there if each[1].texts][index]
            where = self._storage.where(SESSIONS, id, newest.start)
            return "message", readable_id(texts[index], newest.start), where

        last = iter(load(MESSAGES, texts, describe))  # all are parsed in one pass
        summaries: dict[str, SessionSummary] = {}
        for id, (newest, _, head) in there:
            assert head is not None  # every slice of `Storage.newest` has one
            message = next(last) if newest else None
            summaries[id] = _new(SessionSummary, (head.count, message))
        return summaries

    def _load_one(self, stored: Stored) -> SessionRecord:
        session = super()._load_one(stored)
        session.__dict__["updated_at"] = stored.updated_at  # see `_load`
        return session

    def _load(self, stored: Sequence[Stored]) -> list[SessionRecord]:
        sessions = super()._load(stored)
        for session, document in zip(sessions, stored, strict=True):
            # Adding a message changes a session's `updated_at` in the storage, not in its text.
            # Nobody else has the record yet, so no copy is needed.
            session.__dict__["updated_at"] = document.updated_at
        return sessions

    def _read(self, session_id: str, message_id: str, position: int, text: Text) -> Message:
        where = self._storage.where(SESSIONS, session_id, position)
        return load(MESSAGES, [text], lambda _: ("message", message_id, where))[0]

    def _messages(self, session_id: str, found: Slice, window: Window) -> list[Message]:
        def describe(index: int) -> tuple[str, str, str]:
            position = found.start
            if position is None:
                again = self._storage.read(session_id, window._replace(headed=True))
                if list(again.texts) == list(found.texts):
                    position = again.start
            position = None if position is None else position + index
            where = self._storage.where(SESSIONS, session_id, position)
            return "message", readable_id(found.texts[index], position), where

        return load(MESSAGES, found.texts, describe)


def head_of(found: Slice) -> Head:
    assert found.head is not None  # as the window asked for it
    return found.head
