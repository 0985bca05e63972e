"""The steps that add, cut and read messages."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import precondition

from agentx_persistence import RecordConflictError, RecordNotFoundError, SessionSummary
from agentx_persistence.records import new_id
from tests.model import written
from tests.model.anchors import BOX
from tests.model.records import Records, ids, step

message_ids = ids | st.integers(0, 30).map(lambda number: f"m{number}")
limits = st.none() | st.integers(0, 5)


class Histories(Records):
    @step(
        id=ids,
        new=st.lists(st.tuples(message_ids, st.text(max_size=2), st.booleans()), max_size=6),
        expected=st.none() | st.integers(0, 3),
    )
    def add_messages(self, id: str, new: list[tuple[str, str, bool]], expected: int | None) -> None:
        sessions = self.persistence.sessions
        history = list(self.messages.get(id, ()))
        there = {message.id: message for message in history}
        batch, conflict = [], False
        for message_id, text, again in new:
            known = there.get(message_id)
            if known and again:
                batch.append(known)
                continue
            message = written.message(message_id, id, text, history)
            batch.append(message)
            if known:
                conflict = True
            else:
                there[message_id] = message
                history.append(message)
        missing = len(history) > len(self.messages.get(id, ()))
        guarded = missing or not batch  # if all are there already, `expected` does not count
        if id not in self.sessions:
            # A conflict inside the batch is seen before the session is looked for.
            with pytest.raises(RecordConflictError if conflict else RecordNotFoundError):
                sessions.add_messages(id, batch, expected=expected)
        elif conflict or (guarded and expected not in (None, len(self.messages[id]))):
            with pytest.raises(RecordConflictError):
                sessions.add_messages(id, batch, expected=expected)
            self._compare(id)
        else:
            positions = [written.place(message) for message in batch]
            assert sessions.add_messages(id, batch, expected=expected) == positions
            if missing:
                self._touched(id)
            self.messages[id] = history
            self._compare(id)

    @step(id=ids, owner=ids, text=st.text(max_size=3), expected=st.sampled_from([None, 0, 1]))
    def add_message_and_create(self, id: str, owner: str, text: str, expected: int | None) -> None:
        history = self.messages.get(id, [])
        new = written.session(id, owner, owner, 2)
        message = written.message(new_id("msg"), id, text, history)
        sessions = self.persistence.sessions
        if expected not in (None, len(history)):
            with pytest.raises(RecordConflictError):
                sessions.add_message(id, message, create=new, expected=expected)
            assert sessions.exists(id) is (id in self.sessions)
            return
        given = sessions.add_message(id, message, create=new, expected=expected)
        assert given == len(history) + 1
        self.sessions.setdefault(id, new)
        self.messages.setdefault(id, history).append(message)
        self._touched(id)
        self._compare(id)

    @step(id=ids, text=st.text(max_size=3), again=st.booleans())
    def add_message(self, id: str, text: str, again: bool) -> None:
        history = self.messages.get(id, [])
        message = written.message(new_id("msg"), id, text, history)
        if id not in self.sessions:
            with pytest.raises(RecordNotFoundError):
                self.persistence.sessions.add_message(id, message)
            return
        history.append(message)
        assert self.persistence.sessions.add_message(id, message) == len(history)
        self._touched(id)
        if again:
            assert self.persistence.sessions.add_message(id, message) == len(history)
        else:
            self._compare(id)

    def _touched(self, id: str) -> None:
        updated_at = self.persistence.sessions.get(id).updated_at
        assert updated_at >= self.sessions[id].updated_at
        self.sessions[id] = self.sessions[id].model_copy(update={"updated_at": updated_at})

    def _compare(self, id: str) -> None:
        history = self.messages[id]
        assert self.persistence.sessions.get_messages(id) == history

    def _with_messages(self) -> list[str]:
        return sorted(k for k, v in self.messages.items() if v and not k.startswith(BOX))

    @precondition(lambda self: self._with_messages())
    @step(data=st.data())
    def truncate(self, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from(self._with_messages()))
        history = self.messages[id]
        # Not long, so that no step becomes slow, and not always short.
        keep = data.draw(st.integers(1, min(len(history), 40)))
        gone = self.persistence.sessions.truncate_after(id, history[keep - 1].id)
        assert gone == len(history) - keep
        self._touched(id)
        self.messages[id] = history[:keep]
        self._compare(id)

    @step(id=ids)
    def clear(self, id: str) -> None:
        if id in self.sessions:
            assert self.persistence.sessions.clear_messages(id) == len(self.messages[id])
            self._touched(id)
            self.messages[id] = []
            self._compare(id)
        else:
            with pytest.raises(RecordNotFoundError):
                self.persistence.sessions.clear_messages(id)

    @step(id=ids)
    def stream(self, id: str) -> None:
        sessions = self.persistence.sessions
        if id in self.sessions:
            history = self.messages[id]
            assert list(sessions.iter_messages(id)) == history
            assert list(sessions.iter_messages(id, reverse=True)) == history[::-1]
            assert sessions.count_messages(id) == len(history)
            for at in {0, len(history) // 2} if history else ():
                after, rest = history[at].id, history[at + 1 :]
                assert list(sessions.iter_messages(id, after=after)) == rest
                assert list(sessions.iter_messages(id, after=after, reverse=True)) == rest[::-1]
        else:
            with pytest.raises(RecordNotFoundError):
                sessions.iter_messages(id)

    @step(asked=st.lists(ids))
    def summarise(self, asked: list[str]) -> None:
        found = self.persistence.sessions.summaries(asked)
        assert list(found.items()) == [
            (id, SessionSummary(len(self.messages[id]), (self.messages[id] or [None])[-1]))
            for id in dict.fromkeys(asked)
            if id in self.sessions
        ]

    @step(id=ids, message_id=message_ids)
    def find_message(self, id: str, message_id: str) -> None:
        sessions = self.persistence.sessions
        there = {message.id: message for message in self.messages.get(id, ())}
        if id not in self.sessions:
            with pytest.raises(RecordNotFoundError):
                sessions.find_message(id, message_id)
            return
        assert sessions.find_message(id, message_id) == there.get(message_id)
        if message_id in there:
            assert sessions.get_message(id, message_id) == there[message_id]
        else:
            with pytest.raises(RecordNotFoundError):
                sessions.get_message(id, message_id)

    @precondition(lambda self: self._with_messages())
    @step(first=limits, last=limits, data=st.data())
    def read_a_window(self, first: int | None, last: int | None, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from(self._with_messages()))
        history = self.messages[id]
        if first is not None:
            last = None
        positions = st.none() | st.integers(0, len(history) - 1)
        after, before = data.draw(positions), data.draw(positions)
        expected = history[0 if after is None else after + 1 : before]
        if first is not None:
            expected = expected[:first]
        if last is not None:
            expected = expected[-last:] if last else []
        assert expected == self.persistence.sessions.get_messages(
            id,
            first=first,
            last=last,
            after=None if after is None else history[after].id,
            before=None if before is None else history[before].id,
        )
