from __future__ import annotations

from enum import Enum
from typing import Any

import pytest

from agentx_persistence import InvalidRecordError, Persistence
from tests.contract import hostile
from tests.contract.records import container, ids_of, image, item, message, session, texts


class Name(str, Enum):  # noqa: UP042  # a StrEnum is formatted as what it is
    """Texts that are formatted as ``Name.BOX``, not as what they are."""

    BOX = "box of an enum"
    RED = "red of an enum"
    ONE = "one of an enum"
    TWO = "two of an enum"


def test_every_id_is_a_record_of_its_own(persistence: Persistence) -> None:
    for number, id in enumerate(hostile.IDS):
        persistence.containers.save(container(id, number=number))
    for number, id in enumerate(hostile.IDS):
        saved = persistence.containers.get(id)
        assert saved.container_id == id
        assert saved.model_extra == {"number": number}
    assert {c.container_id for c in persistence.containers.find_all()} == set(hostile.IDS)
    for id in hostile.IDS[::2]:
        assert persistence.containers.delete(id) is True
    assert {c.container_id for c in persistence.containers.find_all()} == set(hostile.IDS[1::2])


def test_every_id_owns_only_what_is_its_own(persistence: Persistence) -> None:
    for id in hostile.IDS:
        persistence.images.save(image(id, container_id=id, name=id))
        persistence.sessions.save(session(id, image_id=id, container_id=id))
        persistence.sessions.add_messages(id, [message(id, id=id), message("second")])
    for id in hostile.IDS:
        assert [i.image_id for i in persistence.images.find_all(container_id=id)] == [id]
        assert [s.session_id for s in persistence.sessions.find_all(image_id=id)] == [id]
        found = persistence.sessions.find_by_image(id)
        assert found is not None
        assert found.session_id == id
        assert texts(persistence, id) == [id, "second"]
        assert texts(persistence, id, after=id) == ["second"]
    for id in hostile.IDS[::2]:
        assert persistence.containers.delete(id) is False
    left = set(hostile.IDS[1::2])
    assert {i.image_id for i in persistence.images.find_all()} == left
    assert {s.session_id for s in persistence.sessions.find_all()} == left
    for id in left:
        assert persistence.sessions.count_messages(id) == 2


def test_message_ids_of_one_session_collide_with_nothing(persistence: Persistence) -> None:
    persistence.sessions.save(session())
    messages = [message(str(number), id=id) for number, id in enumerate(hostile.IDS)]
    persistence.sessions.add_messages("session", messages)
    for position, sent in enumerate(messages, 1):
        assert persistence.sessions.add_message("session", sent) == position
    assert persistence.sessions.get_messages("session") == messages
    assert persistence.sessions.get_messages("session", last=1, before=messages[9].id) == [
        messages[8]
    ]


def test_every_name_is_found_exactly(persistence: Persistence) -> None:
    for number, name in enumerate(hostile.NAMES):
        persistence.images.save(image(f"i{number}", name=name))
    for number, name in enumerate(hostile.NAMES):
        (found,) = persistence.images.find_all(name=name)
        assert (found.image_id, found.name) == (f"i{number}", name)
        (found,) = persistence.images.find_all(container_id="box", name=name)
        assert found.image_id == f"i{number}"


def test_the_members_of_an_enum_are_the_ids_that_they_equal(persistence: Persistence) -> None:
    box, red, one, two = (str.__str__(name) for name in Name)
    containers, images, sessions = persistence.containers, persistence.images, persistence.sessions
    containers.save(container(Name.BOX))
    images.save(image(Name.RED, container_id=Name.BOX, name=Name.ONE))
    sessions.save(session(Name.ONE, image_id=Name.RED, container_id=Name.BOX))
    sessions.add_messages(Name.ONE, [message("1", id=Name.ONE), message("2", id=Name.TWO)])
    persistence.items.save(item((Name.BOX,), Name.RED))
    saved: Any
    for saved in (containers.get(box), containers.get(Name.BOX), *containers.find_all()):
        assert type(saved.container_id) is str
        assert saved.container_id == box
    for name in (one, Name.ONE):
        for owner in (box, Name.BOX):
            assert ids_of(images.find_all(container_id=owner, name=name)) == [red]
    assert list(images.find_many([Name.RED])) == ids_of(images.find_all()) == [red]
    assert sessions.find_by_image(Name.RED) == sessions.find_by_image(red) == sessions.get(one)
    assert texts(persistence, Name.ONE, after=Name.ONE) == texts(persistence, one, after=one)
    assert texts(persistence, Name.ONE, before=Name.TWO) == ["1"]
    assert [m.id for m in sessions.iter_messages(Name.ONE, after=Name.ONE)] == [two]
    assert sessions.get_message(Name.ONE, Name.TWO).text == "2"
    assert sessions.fork(Name.ONE, session(Name.TWO), through=Name.ONE) == 1
    assert sessions.truncate_after(Name.ONE, Name.ONE) == 1
    assert persistence.items.get((box,), red) == persistence.items.get((Name.BOX,), Name.RED)
    assert containers.delete(Name.BOX)
    assert not sessions.exists(one)


@pytest.mark.parametrize("id", hostile.NOT_IDS, ids=ascii)
def test_what_is_no_id_is_refused_by_every_method(persistence: Persistence, id: str) -> None:
    persistence.sessions.save(session())
    for call in (
        lambda: persistence.containers.get(id),
        lambda: persistence.images.find(id),
        lambda: persistence.sessions.exists(id),
        lambda: persistence.containers.delete(id),
        lambda: persistence.images.update_metadata(id, {}),
        lambda: persistence.sessions.find_by_image(id),
        lambda: persistence.sessions.add_message(id, message()),
        lambda: persistence.sessions.get_messages(id),
        lambda: persistence.sessions.iter_messages(id),
        lambda: persistence.sessions.count_messages(id),
        lambda: persistence.sessions.clear_messages(id),
        lambda: persistence.sessions.truncate_after(id, "m"),
        lambda: persistence.sessions.truncate_after("session", id),
        lambda: container(id),
        lambda: session(image_id=id),
        lambda: message(id=id),
    ):
        with pytest.raises(InvalidRecordError):
            call()
