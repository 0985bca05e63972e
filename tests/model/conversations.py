"""The steps that change messages but do not add them: rewriting, popping, replacing, forking."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import precondition

from agentx_persistence import ForkOrigin, Message, RecordConflictError, RecordNotFoundError
from tests.model import written
from tests.model.histories import Histories, message_ids
from tests.model.records import ids, step, times


class Conversations(Histories):
    @precondition(lambda self: self._with_messages())
    @step(
        new=st.lists(st.tuples(message_ids, st.text(max_size=2)), max_size=4),
        expected=st.sampled_from([None, None, True, False]),
        data=st.data(),
    )
    def rewrite(
        self, new: list[tuple[str, str]], expected: bool | None, data: st.DataObject
    ) -> None:
        """:param expected: whether the number of messages that is expected is the right one"""
        id = data.draw(st.sampled_from(self._with_messages()))
        old = self.messages[id]
        # Not long, so that no step becomes slow, and not always short.
        keep = data.draw(st.integers(0, min(len(old), 40)))
        history, batch, conflict = old[:keep], [], expected is False
        for message_id, text in new:
            message = written.message(message_id, id, text, history)
            conflict |= any(message_id == known.id for known in history)
            batch.append(message)
            history.append(message)

        def rewrite() -> list[Message]:
            return self.persistence.sessions.rewrite(
                id,
                after=old[keep - 1].id if keep else None,
                messages=batch,
                expected=None if expected is None else len(old) + (not expected),
            )

        if conflict:
            with pytest.raises(RecordConflictError):
                rewrite()
        else:
            assert rewrite() == old[keep:]
            self.messages[id] = history
            self._touched(id)
        self._compare(id)

    @step(id=ids)
    def pop(self, id: str) -> None:
        sessions = self.persistence.sessions
        if id not in self.sessions:
            with pytest.raises(RecordNotFoundError):
                sessions.pop_message(id)
            return
        history = self.messages[id]
        assert sessions.pop_message(id) == (history.pop() if history else None)
        self._touched(id)
        self._compare(id)

    @precondition(lambda self: self._with_messages())
    @step(text=st.text(max_size=3), data=st.data())
    def replace(self, text: str, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from(self._with_messages()))
        history = self.messages[id]
        at = data.draw(st.integers(0, len(history) - 1))
        history[at] = written.edited(history[at], text)
        self.persistence.sessions.replace_message(id, history[at])
        self._touched(id)
        self._compare(id)

    @step(id=ids, message_id=message_ids)
    def replace_what_may_be_absent(self, id: str, message_id: str) -> None:
        history = self.messages.get(id, [])
        if all(message.id != message_id for message in history):
            message = written.message(message_id, id, "", history)
            with pytest.raises(RecordNotFoundError):
                self.persistence.sessions.replace_message(id, message)

    @step(id=ids, new_id=ids, owner=ids, box=ids, created_at=times, data=st.data())
    def fork(
        self, id: str, new_id: str, owner: str, box: str, created_at: int, data: st.DataObject
    ) -> None:
        sessions = self.persistence.sessions
        new = written.session(new_id, owner, box, created_at)
        if id not in self.sessions:
            # Where both are wrong, either may be said.
            taken = (RecordConflictError,) if new_id in self.sessions else ()
            with pytest.raises((RecordNotFoundError, *taken)):
                sessions.fork(id, new)
            return
        history = self.messages[id]
        count = data.draw(st.none() | st.integers(1, len(history))) if history else None
        through = None if count is None else history[count - 1].id
        if new_id in self.sessions:
            with pytest.raises(RecordConflictError):
                sessions.fork(id, new, through=through)
        else:
            copied = history[:count]
            assert sessions.fork(id, new, through=through) == len(copied)
            origin = ForkOrigin(session_id=id)
            if through is not None:
                origin = ForkOrigin(session_id=id, message_id=through)
            self.sessions[new_id] = new.model_copy(update={"forked_from": origin})
            self.messages[new_id] = copied
            assert sessions.get(new_id) == self.sessions[new_id]
            self._compare(new_id)
        self._compare(id)
