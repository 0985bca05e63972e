"""Changing the messages of sessions."""

from __future__ import annotations

from collections.abc import Sequence

from agentx_persistence.errors import InvalidRecordError, RecordConflictError, RecordNotFoundError
from agentx_persistence.records import Message, SessionRecord, check_id, difference, now
from agentx_persistence.repositories._arguments import (
    attempts,
    check_count,
    check_window,
    new_token,
)
from agentx_persistence.repositories._entries import entry_of, unique_entries
from agentx_persistence.repositories.histories import Histories, head_of
from agentx_persistence.storage import Document, Entry, Found, Head, Slice, Window


class Conversations(Histories):
    """Every change of messages sets the session's `updated_at` to the time of the call, if that is
    later.
    """

    def add_message(
        self,
        session_id: str,
        message: Message,
        *,
        create: SessionRecord | None = None,
        expected: int | None = None,
    ) -> int:
        """Append the message in one step; return its position, from 1 up.

        The message's id makes the call safe to repeat: the same message that is there already
        keeps its position, and nothing changes. Two messages are the same if they are equal as
        records; a `timestamp` that the caller did not give equals any. When this returns, the
        message is as durable as the backend makes it.

        :param create: the session to create in the same step if there is none
        :param expected: the number of messages that the caller has seen
        :raises RecordNotFoundError: if there is no such session, and none to create
        :raises RecordConflictError: if the session has a different message with this id; `field`
            names the first difference. Or if the number of messages is not the expected one
        :raises RecordTooLargeError: if the backend cannot hold the message
        """
        session_id = check_id("session", session_id)
        entry = entry_of(message)
        if create is None and expected is None:
            added = self._storage.append(session_id, (entry,), now())
            if isinstance(added, int):
                return added
        return self.add_messages(session_id, (message,), create=create, expected=expected)[0]

    def add_messages(
        self,
        session_id: str,
        messages: Sequence[Message],
        *,
        create: SessionRecord | None = None,
        expected: int | None = None,
    ) -> list[int]:
        """Append all the messages or none, in one step; return the position of each.

        New messages get consecutive positions. One that is there already keeps its own, as with
        `add_message`, whose errors this method raises as well. If all are there already, it returns
        their positions, whatever `expected` says.
        """
        session_id = check_id("session", session_id)
        if expected is not None:
            check_count("expected", expected)
        given = unique_entries(messages)
        document = self._created(session_id, create)
        missing = list(given.values())
        found: Found | None = None
        guarded = attempts(self._storage, "session", session_id, self._contention_timeout)
        while True:
            if found is not None:
                # The first append has no guard: it fails if some of the messages are there. Only
                # those that follow fail because others change the session.
                next(guarded)
            added = self._storage.append(
                session_id,
                missing,
                now(),
                create=document,
                expected=expected,
                # What the call does not append must still be there.
                generation=found.head.generation if found and found.there else None,
            )
            if isinstance(added, int):
                places = {} if found is None else {id: at for id, (at, _) in found.there.items()}
                first = added - len(missing) + 1
                places.update((entry.id, first + n) for n, entry in enumerate(missing))
                break
            found = added
            if len(missing) < len(given):  # the answer covers only some of the messages
                try:
                    found = self._storage.lookup(session_id, list(given))
                except RecordNotFoundError:
                    if document is None:
                        raise
                    found = added._replace(there={})
            self._require_same(session_id, messages, found)
            missing = [entry for id, entry in given.items() if id not in found.there]
            if given and not missing:
                places = {id: at for id, (at, _) in found.there.items()}
                break
            if expected not in (None, found.head.count):
                raise _unexpected(session_id, found.head, expected)
        return [places[message.id] for message in messages]

    def rewrite(
        self,
        session_id: str,
        *,
        after: str | None,
        messages: Sequence[Message] = (),
        expected: int | None = None,
    ) -> list[Message]:
        """Replace all messages after a certain one, in one step; return those that were removed.

        :param after: the id of the last message that stays; ``None`` removes everything
        :param messages: the messages to append; they can have ids that are removed
        :param expected: the number of messages that the caller has seen
        :raises RecordNotFoundError: if there is no such session, or no such message in it
        :raises RecordConflictError: if a message that stays has one of the ids, or the number of
            messages is not the expected one; nothing changes then
        :raises RecordTooLargeError: if the backend cannot hold a message
        """
        session_id, after, _ = check_window(session_id, None, None, after, None)
        if expected is not None:
            check_count("expected", expected)
        entries = list(unique_entries(messages).values())
        return self._replace_tail(session_id, Window(after, headed=True), entries, expected)

    def pop_message(self, session_id: str) -> Message | None:
        """Remove the newest message and return it, or ``None`` if there is none.

        :raises RecordNotFoundError: if there is no such session
        """
        session_id = check_id("session", session_id)
        removed = self._replace_tail(session_id, Window(last=1, headed=True))
        return removed[0] if removed else None

    def _replace_tail(
        self,
        session_id: str,
        window: Window,
        entries: Sequence[Entry] = (),
        expected: int | None = None,
    ) -> list[Message]:
        """Put the entries in place of the messages of the window, which reaches to the end.

        The messages are read first, so that one that cannot be read stays. The change is guarded by
        the head that was read with them.
        """
        token = new_token()
        head: Head | None = None
        removed: list[Message] = []

        def accept(found: Slice) -> None:
            nonlocal head, removed
            head = head_of(found)
            if expected not in (None, head.count):
                raise _unexpected(session_id, head, expected)
            removed = self._messages(session_id, found, window)

        for _ in attempts(self._storage, "session", session_id, self._contention_timeout):
            answer = self._storage.exchange(session_id, window, entries, now(), token, accept)
            if answer is None:
                break
            if answer.head == head:
                kept = head.count - len(removed)
                taken = (id for id, (position, _) in answer.there.items() if position <= kept)
                raise RecordConflictError("message", next(taken))
        return removed

    def replace_message(self, session_id: str, message: Message) -> None:
        """Replace the stored message that has this id. It keeps its position.

        :raises RecordNotFoundError: if there is no such session, or no such message in it
        :raises RecordTooLargeError: if the backend cannot hold the message
        """
        session_id = check_id("session", session_id)
        self._storage.swap(session_id, entry_of(message), now(), new_token())

    def clear_messages(self, session_id: str) -> int:
        """Delete all messages of the session, which stays; return how many there were.

        :raises RecordNotFoundError: if there is no such session
        """
        session_id = check_id("session", session_id)
        return self._cut(session_id, None)

    def truncate_after(self, session_id: str, message_id: str) -> int:
        """Rewind the session: delete all messages after this one; return how many there were.

        The next message that is added takes the position after this one.

        :raises RecordNotFoundError: if there is no such session, or no such message in it
        """
        session_id = check_id("session", session_id)
        message_id = check_id("message", message_id)
        return self._cut(session_id, message_id)

    def _cut(self, session_id: str, after: str | None) -> int:
        cut = self._storage.rewrite(session_id, after, (), now(), new_token())
        assert isinstance(cut, int)  # without conditions and entries it cannot be `Found`
        return cut

    def _created(self, session_id: str, create: SessionRecord | None) -> Document | None:
        if create is None:
            return None
        document = self._document(create)
        if document.key != session_id:
            reason = f"must be the session {session_id!r}, not {document.key!r}"
            raise InvalidRecordError("argument", "create", reason)
        return document

    def _require_same(self, session_id: str, messages: Sequence[Message], found: Found) -> None:
        for message in messages:
            if message.id in found.there:
                stored = self._read(session_id, message.id, *found.there[message.id])
                if field := difference(stored, message):
                    raise RecordConflictError("message", message.id, field=field)


def _unexpected(session_id: str, head: Head, expected: int | None) -> RecordConflictError:
    reason = f"it has {head.count} messages, not the expected {expected}; read what was added"
    return RecordConflictError("session", session_id, reason)
