"""Deleting documents with all that they own."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agentx_persistence.errors import RecordNotFoundError
from agentx_persistence.storage import (
    CONTAINERS,
    IMAGES,
    ITEMS,
    KINDS,
    SESSIONS,
    Kind,
    Query,
    Storage,
)
from tests.port.given import (
    document,
    entries,
    entry,
    every,
    found_keys,
    history,
    item,
    log_of,
    own,
    session,
    text_of,
    token,
)


def _keys(storage: Storage) -> dict[str, list[str]]:
    queries = {kind: Query(order="key") if kind is ITEMS else Query() for kind in KINDS}
    return {kind.name: sorted(found_keys(storage, kind, query)) for kind, query in queries.items()}


@pytest.mark.parametrize("kind", KINDS, ids=repr)
def test_delete_tells_whether_the_document_was_there(storage: Storage, kind: Kind) -> None:
    assert storage.delete(kind, own(kind)) is False
    storage.put(kind, document(kind))
    assert storage.delete(kind, "other") is False
    assert storage.delete(kind, own(kind)) is True
    assert text_of(storage, kind) is None
    assert found_keys(storage, kind, every(kind)) == []
    assert storage.delete(kind, own(kind)) is False


def test_a_session_goes_with_its_log(storage: Storage) -> None:
    log_of(storage, "abc")
    log_of(storage, "xy", "other")
    generation = storage.head("log").generation
    assert storage.delete(SESSIONS, "log") is True
    with pytest.raises(RecordNotFoundError):
        storage.head("log")
    assert history(storage, "other") == ["x", "y"]
    storage.put(SESSIONS, session("log"))
    assert history(storage) == []
    assert storage.head("log").generation != generation
    assert storage.append("log", entries("c", "b"), 1) == 2


def test_an_image_goes_with_its_sessions_wherever_they_are(storage: Storage) -> None:
    storage.put(IMAGES, document(IMAGES, "picture"))
    storage.put(SESSIONS, session("a"))
    storage.put(SESSIONS, session("b", container_id="other"))
    storage.put(SESSIONS, session("c", image_id="box", container_id="picture"))
    assert storage.delete(IMAGES, "picture") is True
    assert _keys(storage)["sessions"] == ["c"]


def test_a_container_goes_with_all_that_it_owns(storage: Storage) -> None:
    for box in ("box", "other"):
        storage.put(CONTAINERS, document(CONTAINERS, box))
        storage.put(IMAGES, document(IMAGES, f"picture of {box}", container_id=box))
        storage.put(SESSIONS, session(f"log of {box}", container_id=box, image_id="absent"))
        storage.put(ITEMS, item(box, "notes", key="key"))
        storage.put(ITEMS, item(box, key="key"))
    foreign = {"container_id": "absent", "image_id": "picture of box"}
    storage.put(SESSIONS, session("of the image", **foreign))
    storage.append("log of box", entries("a"), 1)
    storage.put(ITEMS, item("other", "box", key="key"))
    storage.put(ITEMS, item("boxes", key="key"))
    assert storage.delete(CONTAINERS, "box") is True
    assert _keys(storage) == {
        "containers": ["other"],
        "images": ["picture of other"],
        "sessions": ["log of other"],
        "items": sorted(
            item(*namespace, key="key").key
            for namespace in (("other",), ("other", "notes"), ("other", "box"), ("boxes",))
        ),
    }
    with pytest.raises(RecordNotFoundError):
        storage.append("log of box", entries("b"), 1)


@pytest.mark.parametrize("kind", [CONTAINERS, IMAGES], ids=repr)
def test_what_an_absent_document_owns_is_deleted_as_well(storage: Storage, kind: Kind) -> None:
    fields = {"container_id": "gone", "image_id": "gone"}
    storage.put(SESSIONS, session("log", **fields))
    storage.put(IMAGES, document(IMAGES, "picture", container_id="gone"))
    storage.put(ITEMS, item("gone", key="key"))
    assert storage.delete(kind, "gone") is False
    left = _keys(storage)
    assert left["sessions"] == []
    assert left["images"] == ([] if kind is CONTAINERS else ["picture"])
    assert len(left["items"]) == (0 if kind is CONTAINERS else 1)


@pytest.mark.parametrize("way", ["put", "replace"])
def test_what_has_moved_away_is_not_touched(storage: Storage, way: str) -> None:
    storage.put(CONTAINERS, document(CONTAINERS, "box"))
    picture, log = document(IMAGES, "picture"), session("log")
    storage.put(IMAGES, picture)
    storage.put(SESSIONS, log)
    storage.append("log", entries("a", "b"), 1)
    moved = document(IMAGES, "picture", container_id="other")
    gone = session("log", container_id="other")
    if way == "put":
        storage.put(IMAGES, moved)
        storage.put(SESSIONS, gone)
    else:
        assert storage.replace(IMAGES, moved, picture.revision)
        assert storage.replace(SESSIONS, gone, log.revision)
    assert storage.delete(CONTAINERS, "box") is True
    assert text_of(storage, IMAGES, "picture") == "text"
    assert history(storage) == ["a", "b"]
    away = session("log", container_id="other", image_id="another")
    storage.put(SESSIONS, away)
    assert storage.delete(IMAGES, "picture") is True
    assert history(storage) == ["a", "b"]


def test_a_container_with_much_goes_wholly(storage: Storage) -> None:
    for number in range(60):
        log_of(storage, (str(n) for n in range(number)), f"log-{number}")
        storage.put(ITEMS, item("box", str(number), key="key"))
    log_of(storage, (str(number) for number in range(1500)), "long")
    assert storage.delete(CONTAINERS, "box") is False
    assert not any(_keys(storage).values())
    assert storage.newest([f"log-{number}" for number in range(60)]) == {}


def test_keys_that_are_parts_of_each_other_have_logs_of_their_own(storage: Storage) -> None:
    keys = ["a", "a:b", "a:", "A", "a%", "a_", "*", "a*", "{a}", "a/b", "a\\b", "aa"]
    for key in keys:
        log_of(storage, ["same", key], key)
    for number, key in enumerate(keys):
        assert history(storage, key) == ["same", key]
        assert storage.delete(SESSIONS, key) is True
        assert len(storage.newest(keys)) == len(keys) - number - 1


@pytest.mark.parametrize("kind", KINDS, ids=repr)
@pytest.mark.parametrize("before", [-1, 0, 5000, 5001, 2**53])
def test_a_document_is_deleted_only_if_it_is_old_enough(
    storage: Storage, kind: Kind, before: int
) -> None:
    assert storage.delete(kind, own(kind), before=before) is False
    storage.put(kind, document(kind, at=9000, updated_at=5000))
    assert storage.delete(kind, own(kind), before=before) is (before > 5000)
    assert text_of(storage, kind) == (None if before > 5000 else "text")
    assert len(found_keys(storage, kind, every(kind))) == (0 if before > 5000 else 1)
    assert storage.delete(kind, own(kind), before=2**53) is (before <= 5000)
    assert text_of(storage, kind) is None


def test_a_session_is_as_old_as_the_last_change_of_its_log(storage: Storage) -> None:
    changes: list[Callable[[int], object]] = [
        lambda at: storage.append("log", entries("x"), at),
        lambda at: storage.append("log", entries("y", "z"), at),
        lambda at: storage.rewrite("log", "x", entries("new"), at, token()),
        lambda at: storage.swap("log", entry("x", "other"), at, token()),
        lambda at: storage.put(SESSIONS, session(updated_at=at)),
    ]
    log_of(storage, "abc")
    for at, change in enumerate(changes, 2000):
        change(at)
        assert storage.delete(SESSIONS, "log", before=at) is False
    assert history(storage) == ["a", "b", "c", "other", "new"]
    storage.put(SESSIONS, session(updated_at=1999))
    assert storage.delete(SESSIONS, "log", before=2000) is True
    with pytest.raises(RecordNotFoundError):
        storage.append("log", entries("late"), 9000)
    log_of(storage, "abc")
    assert history(storage) == ["a", "b", "c"]


@pytest.mark.parametrize("kind", [CONTAINERS, IMAGES], ids=repr)
def test_an_owner_that_is_too_new_keeps_what_it_owns(storage: Storage, kind: Kind) -> None:
    for owned in (IMAGES, SESSIONS, ITEMS):
        storage.put(owned, document(owned))
    storage.append("key", entries("a", "b"), 1000)
    owner = {CONTAINERS: "box", IMAGES: "picture"}[kind]
    storage.put(kind, document(kind, owner, updated_at=5000))
    kept = _keys(storage)
    assert storage.delete(kind, owner, before=5000) is False
    assert _keys(storage) == kept
    assert history(storage, "key") == ["a", "b"]
    assert storage.delete(kind, owner, before=5001) is True
    assert _keys(storage)["sessions"] == []
