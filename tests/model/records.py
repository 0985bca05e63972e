"""The steps that save, create, change and delete records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import wraps
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from agentx_persistence import (
    ContainerRecord,
    ImageMetadata,
    ImageRecord,
    ItemRecord,
    Persistence,
    RecordConflictError,
    RecordNotFoundError,
    SessionRecord,
    UserMessage,
)
from tests.model import written
from tests.model.anchors import Anchors

# Few, so that operations meet; unlike, so that what collides is seen.
IDS = ["a", "A", "a:b", "a/b", "🙂"]
ids = st.sampled_from(IDS)
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


def step(**drawn: st.SearchStrategy[Any]) -> Callable[[Any], Any]:
    """A rule, counted each time that it has run to its end."""

    def decorate(work: Callable[..., None]) -> Any:
        @wraps(work)
        def counted(self: Records, **values: Any) -> None:
            work(self, **values)
            self.steps[work.__name__] += 1

        return rule(**drawn)(counted)

    return decorate


class Records(RuleBasedStateMachine):
    persistence: Persistence
    anchors: Anchors
    steps: Counter[str]

    def __init__(self) -> None:
        super().__init__()
        self.containers: dict[str, ContainerRecord] = {}
        self.images: dict[str, ImageRecord] = {}
        self.sessions: dict[str, SessionRecord] = {}
        self.messages: dict[str, list[UserMessage]] = {}
        self.items: dict[tuple[tuple[str, ...], str], ItemRecord] = {}

    @initialize()
    def empty(self) -> None:
        anchors = self.anchors
        for repository, kept in (
            (self.persistence.containers, anchors.containers),
            (self.persistence.images, anchors.images),
            (self.persistence.sessions, anchors.sessions),
        ):
            for record in repository.find_all():
                id = next(iter(record.model_dump().values()))
                if id not in kept:
                    repository.delete(id)
        for id in IDS:
            self.persistence.containers.delete(id)
        self.containers = dict(anchors.containers)
        self.images = dict(anchors.images)
        self.sessions = dict(anchors.sessions)
        self.messages = {id: list(history) for id, history in anchors.messages.items()}
        self.items = dict(anchors.items)

    @step(id=ids, created_at=times, data=maps)
    def save_container(self, id: str, created_at: int, data: dict[str, Any]) -> None:
        record = written.container(id, created_at, data)
        self.persistence.containers.save(record)
        self.containers[id] = record

    @step(id=ids, box=ids, name=names, created_at=times, data=maps)
    def save_image(
        self, id: str, box: str, name: str | None, created_at: int, data: dict[str, Any]
    ) -> None:
        record = written.image(id, box, name, created_at, data)
        self.persistence.images.save(record)
        self.images[id] = record

    @step(kind=st.sampled_from(["containers", "images", "sessions"]), id=ids, box=ids, data=maps)
    def create(self, kind: str, id: str, box: str, data: dict[str, Any]) -> None:
        record = {
            "containers": written.container(id, 1, data),
            "images": written.image(id, box, "plan", 1, data),
            "sessions": written.session(id, box, box, 1),
        }[kind]
        if id in getattr(self, kind):
            with pytest.raises(RecordConflictError):
                getattr(self.persistence, kind).create(record)
            assert getattr(self.persistence, kind).get(id) == getattr(self, kind)[id]
            return
        getattr(self.persistence, kind).create(record)
        getattr(self, kind)[id] = record
        if kind == "sessions":
            self.messages[id] = []

    @step(id=ids, box=ids, name=names, created_at=times, data=maps, by_function=st.booleans())
    def update_image(
        self,
        id: str,
        box: str,
        name: str | None,
        created_at: int,
        data: dict[str, Any],
        by_function: bool,
    ) -> None:
        images, old = self.persistence.images, self.images.get(id)
        if old is None:
            with pytest.raises(RecordNotFoundError):
                images.update(id, {"name": name})
            return
        merged = written.merge((old.custom_data or {})["data"], data)
        new = written.image(id, box, name, created_at, merged)
        changes: dict[str, Any] = {"container_id": box, "name": name, "created_at": created_at}
        if by_function:
            changes["custom_data"] = new.custom_data
            found = images.update(id, lambda image: image.model_copy(update=changes))
        else:
            patch = {**(new.custom_data or {}), "data": data}
            found = images.update(id, {**changes, "customData": patch})
        kept = {"metadata": old.metadata, "updated_at": found.updated_at}
        assert found == new.model_copy(update=kept)
        self.images[id] = found

    @step(id=ids, owner=ids, box=ids, created_at=times)
    def update_session(self, id: str, owner: str, box: str, created_at: int) -> None:
        sessions, old = self.persistence.sessions, self.sessions.get(id)
        new = written.session(id, owner, box, created_at)
        changes = {"imageId": owner, "container_id": box, "created_at": created_at}
        if old is None:
            with pytest.raises(RecordNotFoundError):
                sessions.update(id, changes)
            return
        found = sessions.update(id, {**changes, **(new.model_extra or {})})
        expected = {"updated_at": found.updated_at, "forked_from": old.forked_from}
        assert found == new.model_copy(update=expected)
        self.sessions[id] = found

    @step(kind=st.sampled_from(["containers", "images", "sessions"]), asked=st.lists(ids))
    def find_many(self, kind: str, asked: list[str]) -> None:
        records = getattr(self, kind)
        found = getattr(self.persistence, kind).find_many(asked)
        assert list(found.items()) == [
            (id, records[id]) for id in dict.fromkeys(asked) if id in records
        ]

    @step(id=ids, name=names)
    def rename_image(self, id: str, name: str | None) -> None:
        if old := self.images.get(id):
            data = (old.custom_data or {})["data"]
            record = written.image(id, old.container_id, name, old.created_at, data)
            self.persistence.images.save(record)
            self.images[id] = record

    @step(id=ids, owner=ids, box=ids, created_at=times)
    def save_or_move_session(self, id: str, owner: str, box: str, created_at: int) -> None:
        record = written.session(id, owner, box, created_at)
        self.persistence.sessions.save(record)
        self.sessions[id] = record
        self.messages.setdefault(id, [])

    @step(id=ids, key=st.sampled_from(["x", "y", "driverSessionId"]), value=st.none() | st.text())
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

    @step(kind=st.sampled_from(["containers", "images", "sessions"]), id=ids)
    def get_a_record(self, kind: str, id: str) -> None:
        repository = getattr(self.persistence, kind)
        record = getattr(self, kind).get(id)
        assert repository.exists(id) is (record is not None)
        assert repository.find(id) == record
        if record is None:
            with pytest.raises(RecordNotFoundError):
                repository.get(id)
        else:
            assert repository.get(id).to_json() == record.to_json()

    @step(id=ids)
    def delete_container(self, id: str) -> None:
        assert self.persistence.containers.delete(id) is (id in self.containers)
        self.containers.pop(id, None)
        self.items = {(space, key): i for (space, key), i in self.items.items() if space[0] != id}
        for image in [i for i in self.images.values() if i.container_id == id]:
            self._forget_image(image.image_id)
        for session in [s for s in self.sessions.values() if s.container_id == id]:
            self._forget_session(session.session_id)

    @step(id=ids)
    def delete_image(self, id: str) -> None:
        assert self.persistence.images.delete(id) is (id in self.images)
        self._forget_image(id)

    @step(id=ids)
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
