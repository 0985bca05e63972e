"""Real data of the ancestor goes in through the public API and comes out as the same JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentx_persistence import (
    ContainerRecord,
    ImageRecord,
    OtherMessage,
    Persistence,
    SessionRecord,
)
from agentx_persistence.records.messages import MESSAGES
from tests.ancestor import FILES, ancestor_data
from tests.backends.backend import SHARED, Backend
from tests.processes import prepared


def _save(persistence: Persistence, data: dict[str, Any]) -> None:
    for container in data["containers"]:
        persistence.containers.save(ContainerRecord.model_validate(container))
    for image in data["images"]:
        persistence.images.save(ImageRecord.model_validate_json(json.dumps(image)))
    for session in data["sessions"]:
        persistence.sessions.save(SessionRecord.model_validate(session))
    for session_id, messages in data["messages"].items():
        if messages and not persistence.sessions.exists(session_id):
            # One session has messages but was never saved: here a session must exist first.
            persistence.sessions.save(
                SessionRecord(session_id=session_id, image_id="orphan", container_id="orphan")
            )
        sent = MESSAGES.validate_json(json.dumps(messages))
        assert not any(isinstance(message, OtherMessage) for message in sent)
        for position, message in enumerate(sent, 1):
            assert persistence.sessions.add_message(session_id, message) == position


def read_back(persistence: Persistence, data: dict[str, Any]) -> dict[str, Any]:
    """Return what the persistence has, in the form of the ancestor's answers."""
    containers, images, sessions = (
        persistence.containers,
        persistence.images,
        persistence.sessions,
    )
    wire = _wire
    return {
        "containers": [wire(containers.get(c["containerId"])) for c in data["containers"]],
        "images": [wire(images.get(i["imageId"])) for i in data["images"]],
        "messages": {
            session_id: [wire(m) for m in sessions.get_messages(session_id)]
            for session_id, messages in data["messages"].items()
            if messages
        },
        # Adding messages sets a session's updated_at; all else is as it was.
        "sessions": [
            {**wire(sessions.get(s["sessionId"])), "updatedAt": s["updatedAt"]}
            for s in data["sessions"]
        ],
    }


def _wire(record: Any) -> Any:
    return json.loads(record.to_json())


def _expected(data: dict[str, Any]) -> dict[str, Any]:
    return {
        "containers": data["containers"],
        "images": data["images"],
        "messages": {key: messages for key, messages in data["messages"].items() if messages},
        "sessions": data["sessions"],
    }


def _read_elsewhere(backend: Backend, data: dict[str, Any]) -> dict[str, Any]:
    with backend.open() as persistence:
        return read_back(persistence, data)


@pytest.mark.parametrize("file", FILES)
def test_every_record_comes_back_as_it_was(persistence: Persistence, file: str) -> None:
    data = ancestor_data(file)
    _save(persistence, data)
    assert json.dumps(read_back(persistence, data), sort_keys=True) == json.dumps(
        _expected(data), sort_keys=True
    )


@pytest.mark.needs(SHARED)
@pytest.mark.parametrize("file", FILES)
def test_a_second_process_reads_every_record(backend: Backend, file: str) -> None:
    data = ancestor_data(file)
    with backend.open() as persistence:
        _save(persistence, data)
    with prepared().Pool(1) as pool:
        assert pool.apply(_read_elsewhere, (backend, data)) == _expected(data)


@pytest.mark.parametrize("file", FILES)
def test_each_image_is_found_by_what_it_says_where_the_ancestor_was_wrong(
    persistence: Persistence, file: str
) -> None:
    data = ancestor_data(file)
    _save(persistence, data)
    for name in {image["name"] for image in data["images"]}:
        found = {image.image_id for image in persistence.images.find_all(name=name)}
        assert found == {i["imageId"] for i in data["images"] if i["name"] == name}
    assert persistence.images.find_all(name="Draft") == []
    assert persistence.images.find_all(name="Old name") == []
    for container in data["containers"]:
        id = container["containerId"]
        found = {image.image_id for image in persistence.images.find_all(container_id=id)}
        assert found == {i["imageId"] for i in data["images"] if i["containerId"] == id}
    for image_id, session in data["sessionByImage"].items():
        newest = persistence.sessions.find_by_image(image_id)
        assert newest is not None
        assert newest.session_id == session["sessionId"]
