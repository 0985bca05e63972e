"""Random operations on a backend, beside a plain model of what they should do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine

from agentx_persistence import (
    ContainerRecord,
    ImageMetadata,
    ImageRecord,
    Persistence,
    RecordConflictError,
    RecordNotFoundError,
    SessionRecord,
    UserMessage,
)
from tests.backends.backend import Backend

# The long form of a run: AGENTX_TEST_MODEL_RUNS=1000, each of up to 100 steps.
_RUNS = int(os.environ.get("AGENTX_TEST_MODEL_RUNS", "12"))
_STEPS = int(os.environ.get("AGENTX_TEST_MODEL_STEPS", "30"))

# Few, so that operations meet; unlike, so that what collides is seen.
ids = st.sampled_from(["a", "A", "a:b", "a/b", "🙂"])
names = st.sampled_from(["plan", "Plan", "plan ", "", None])
times = st.integers(0, 3)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)
maps = st.dictionaries(st.text(max_size=3), values, max_size=3)
limits = st.none() | st.integers(0, 5)


class Model(RuleBasedStateMachine):
    persistence: Persistence

    def __init__(self) -> None:
        super().__init__()
        self.containers: dict[str, ContainerRecord] = {}
        self.images: dict[str, ImageRecord] = {}
        self.sessions: dict[str, SessionRecord] = {}
        self.messages: dict[str, list[UserMessage]] = {}

    @initialize()
    def empty(self) -> None:
        for repository in (
            self.persistence.containers,
            self.persistence.images,
            self.persistence.sessions,
        ):
            for record in repository.find_all():
                repository.delete(next(iter(record.model_dump().values())))

    @rule(id=ids, created_at=times, config=maps)
    def save_container(self, id: str, created_at: int, config: dict[str, Any]) -> None:
        record = ContainerRecord(container_id=id, created_at=created_at, config=config)
        self.persistence.containers.save(record)
        self.containers[id] = record

    @rule(id=ids, box=ids, name=names, created_at=times, data=maps)
    def save_image(
        self, id: str, box: str, name: str | None, created_at: int, data: dict[str, Any]
    ) -> None:
        record = ImageRecord(
            image_id=id,
            container_id=box,
            session_id="s",
            name=name,
            created_at=created_at,
            custom_data=data,
        )
        self.persistence.images.save(record)
        self.images[id] = record

    @rule(id=ids, owner=ids, box=ids, created_at=times)
    def save_session(self, id: str, owner: str, box: str, created_at: int) -> None:
        record = SessionRecord(
            session_id=id, image_id=owner, container_id=box, created_at=created_at
        )
        self.persistence.sessions.save(record)
        self.sessions[id] = record
        self.messages.setdefault(id, [])

    @rule(id=ids, key=st.sampled_from(["x", "y", "driverSessionId"]), value=st.none() | st.text())
    def update_metadata(self, id: str, key: str, value: str | None) -> None:
        if id not in self.images:
            with pytest.raises(RecordNotFoundError):
                self.persistence.images.update_metadata(id, {key: value})
            return
        updated = self.persistence.images.update_metadata(id, {key: value})
        old = self.images[id]
        metadata = (
            old.metadata.model_dump(by_alias=True, exclude_unset=True) if old.metadata else {}
        )
        metadata[key] = value
        kept = {k: v for k, v in metadata.items() if v is not None}
        changes = {"metadata": ImageMetadata(**kept), "updated_at": updated.updated_at}
        assert updated == old.model_copy(update=changes)
        self.images[id] = updated

    @rule(id=ids)
    def delete_container(self, id: str) -> None:
        assert self.persistence.containers.delete(id) is (id in self.containers)
        self.containers.pop(id, None)
        for image in [i for i in self.images.values() if i.container_id == id]:
            self._forget_image(image.image_id)
        for session in [s for s in self.sessions.values() if s.container_id == id]:
            self._forget_session(session.session_id)

    @rule(id=ids)
    def delete_image(self, id: str) -> None:
        assert self.persistence.images.delete(id) is (id in self.images)
        self._forget_image(id)

    @rule(id=ids)
    def delete_session(self, id: str) -> None:
        assert self.persistence.sessions.delete(id) is (id in self.sessions)
        self._forget_session(id)

    def _forget_image(self, id: str) -> None:
        self.images.pop(id, None)
        for session in [s for s in self.sessions.values() if s.image_id == id]:
            self._forget_session(session.session_id)

    def _forget_session(self, id: str) -> None:
        self.sessions.pop(id, None)
        self.messages.pop(id, None)

    @rule(id=ids, new=st.lists(ids.flatmap(lambda i: st.tuples(st.just(i), st.text(max_size=2)))))
    def add_messages(self, id: str, new: list[tuple[str, str]]) -> None:
        batch = [UserMessage(id=message_id, content=text, timestamp=0) for message_id, text in new]
        if id not in self.sessions:
            with pytest.raises(RecordNotFoundError):
                self.persistence.sessions.add_messages(id, batch)
            return
        history = list(self.messages[id])
        for message in batch:
            there = [m for m in history if m.id == message.id]
            if not there:
                history.append(message)
            elif there != [message]:
                with pytest.raises(RecordConflictError):
                    self.persistence.sessions.add_messages(id, batch)
                return
        positions = [[m.id for m in history].index(m.id) + 1 for m in batch]
        assert self.persistence.sessions.add_messages(id, batch) == positions
        if len(history) > len(self.messages[id]):
            self._touched(id)
        self.messages[id] = history

    @rule(id=ids, text=st.text(max_size=3))
    def add_message(self, id: str, text: str) -> None:
        message = UserMessage(content=text)
        if id not in self.sessions:
            with pytest.raises(RecordNotFoundError):
                self.persistence.sessions.add_message(id, message)
            return
        self.messages[id].append(message)
        assert self.persistence.sessions.add_message(id, message) == len(self.messages[id])
        self._touched(id)

    def _touched(self, id: str) -> None:
        updated_at = self.persistence.sessions.get(id).updated_at
        assert updated_at >= self.sessions[id].updated_at
        self.sessions[id] = self.sessions[id].model_copy(update={"updated_at": updated_at})

    @precondition(lambda self: any(self.messages.values()))
    @rule(data=st.data())
    def truncate(self, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from(sorted(k for k, v in self.messages.items() if v)))
        history = self.messages[id]
        keep = data.draw(st.integers(1, len(history)))
        gone = self.persistence.sessions.truncate_after(id, history[keep - 1].id)
        assert gone == len(history) - keep
        self.messages[id] = history[:keep]

    @rule(id=ids)
    def clear(self, id: str) -> None:
        if id in self.sessions:
            assert self.persistence.sessions.clear_messages(id) == len(self.messages[id])
            self.messages[id] = []

    @rule(id=ids, first=limits, last=limits, data=st.data())
    def read_a_window(
        self, id: str, first: int | None, last: int | None, data: st.DataObject
    ) -> None:
        if not self.messages.get(id) or (first is not None and last is not None):
            return
        history = self.messages[id]
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

    @rule(box=st.none() | ids, name=st.none() | names, size=st.integers(1, 4))
    def list_images(self, box: str | None, name: str | None, size: int) -> None:
        expected = sorted(
            (
                image
                for image in self.images.values()
                if box in (None, image.container_id) and name in (None, image.name)
            ),
            key=lambda image: (-image.created_at, image.image_id),
        )
        images = self.persistence.images
        assert images.find_all(container_id=box, name=name) == expected
        found, cursor = [], None
        for _ in range(len(expected) + 1):
            page = images.find_page(container_id=box, name=name, size=size, cursor=cursor)
            found += page.items
            cursor = page.next_cursor
            if cursor is None:
                break
        assert found == expected

    @rule(box=st.none() | ids, owner=st.none() | ids)
    def list_sessions(self, box: str | None, owner: str | None) -> None:
        expected = sorted(
            (
                session
                for session in self.sessions.values()
                if box in (None, session.container_id) and owner in (None, session.image_id)
            ),
            key=lambda session: (-session.created_at, session.session_id),
        )
        sessions = self.persistence.sessions
        assert sessions.find_all(container_id=box, image_id=owner) == expected
        if owner is not None and box is None:
            assert sessions.find_by_image(owner) == (expected[0] if expected else None)

    @invariant()
    def everything_is_as_the_model_says(self) -> None:
        if hasattr(self, "persistence"):
            for id, container in self.containers.items():
                assert self.persistence.containers.get(id).to_json() == container.to_json()
            for id, history in self.messages.items():
                assert self.persistence.sessions.get_messages(id) == history
                assert self.persistence.sessions.count_messages(id) == len(history)


@contextmanager
def _on(backend: Backend) -> Iterator[type[Model]]:
    with backend.open() as persistence:
        yield type("ModelOn" + backend.name, (Model,), {"persistence": persistence})


def test_random_operations_do_what_a_plain_model_does(backend: Backend) -> None:
    with _on(backend) as machine:
        run_machine(
            machine,
            settings=settings(
                max_examples=_RUNS,
                stateful_step_count=_STEPS,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                database=None,
            ),
        )
