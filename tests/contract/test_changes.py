"""`create` and `update`: records that are only made once, and changes that lose no other change."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from agentx_persistence import (
    ForkOrigin,
    ImageMetadata,
    ImageRecord,
    InvalidRecordError,
    Persistence,
    RecordConflictError,
    RecordNotFoundError,
)
from tests.contract.records import container, image, message, session, texts

RECORDS = {"containers": container, "images": image, "sessions": session}
CHANGES: dict[str, Any] = {
    "a mapping": {"note": "new"},
    "a function": lambda old: old.model_copy(update={"note": "new"}),
}


@pytest.mark.parametrize("kind", RECORDS)
def test_what_is_created_is_there_and_cannot_be_created_again(
    persistence: Persistence, kind: str
) -> None:
    repository, make = getattr(persistence, kind), RECORDS[kind]
    record = make("one", note="first", created_at=5)
    assert repository.create(record) is None
    assert repository.get("one").to_json() == record.to_json()
    for again in (record, make("one", note="second", created_at=9)):
        with pytest.raises(RecordConflictError) as raised:
            repository.create(again)
        assert (raised.value.kind, raised.value.id) == (kind.removesuffix("s"), "one")
    assert repository.find_all() == [record]
    assert repository.delete("one") is True
    repository.create(make("one", note="third"))
    assert repository.get("one").model_extra == {"note": "third"}


def test_creating_a_session_over_another_gives_nobody_its_messages(
    persistence: Persistence,
) -> None:
    persistence.sessions.create(session("main", container_id="alice"))
    persistence.sessions.add_message("main", message("a secret"))
    with pytest.raises(RecordConflictError):
        persistence.sessions.create(session("main", container_id="bob"))
    assert persistence.sessions.get("main").container_id == "alice"
    assert persistence.sessions.find_all(container_id="bob") == []
    assert texts(persistence, "main") == ["a secret"]


def test_one_of_eight_creators_succeeds(persistence: Persistence) -> None:
    def create(number: int) -> bool:
        try:
            persistence.images.create(image("i", note=number))
        except RecordConflictError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        created = list(threads.map(create, range(8)))
    assert created.count(True) == 1
    assert persistence.images.get("i").model_extra == {"note": created.index(True)}
    assert len(persistence.images.find_all()) == 1


@pytest.mark.parametrize("kind", RECORDS)
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_returns_and_stores_the_new_record(
    persistence: Persistence, kind: str, change: Any
) -> None:
    repository, make = getattr(persistence, kind), RECORDS[kind]
    record = make("one", note="old", kept=[1], created_at=5, updated_at=6)
    repository.save(record)
    repository.save(make("two", note="old"))
    changed = repository.update("one", change)
    assert changed.model_extra == {"note": "new", "kept": [1]}
    assert changed.created_at == 5
    assert changed.updated_at > 6
    assert repository.get("one").to_json() == changed.to_json()
    assert repository.get("two").model_extra == {"note": "old"}


@pytest.mark.parametrize("kind", RECORDS)
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_is_absent_cannot_be_changed(persistence: Persistence, kind: str, change: Any) -> None:
    with pytest.raises(RecordNotFoundError) as raised:
        getattr(persistence, kind).update("absent", change)
    assert (raised.value.kind, raised.value.id) == (kind.removesuffix("s"), "absent")
    assert getattr(persistence, kind).find_all() == []


# https://www.rfc-editor.org/rfc/rfc7396#appendix-A, where both sides are maps
PATCHES: list[tuple[Any, Any, Any]] = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ({"a": "text"}, {"a": {"b": 1}}, {"a": {"b": 1}}),
    ({"a": {"b": 1}}, {}, {"a": {"b": 1}}),
]


def test_a_mapping_is_a_json_merge_patch(persistence: Persistence) -> None:
    for number, (old, patch, new) in enumerate(PATCHES):
        persistence.containers.save(container(f"c{number}", config=old))
        changed = persistence.containers.update(f"c{number}", {"config": patch})
        assert changed.config == persistence.containers.get(f"c{number}").config == new, patch


def test_a_patch_names_fields_in_either_spelling(persistence: Persistence) -> None:
    persistence.images.save(image("i", system_prompt="old", custom_data={"a": 1}, role_id="r"))
    changed = persistence.images.update(
        "i",
        {
            "system_prompt": "new",
            "customData": {"b": 2, "snake_case": 3},
            "role_id": None,
            "metadata": {"driver_session_id": "d", "extra": {"keep_me": 1}},
            "more_of_mine": 1,
        },
    )
    assert changed.system_prompt == "new"
    assert changed.custom_data == {"a": 1, "b": 2, "snake_case": 3}
    assert changed.role_id is None
    assert '"roleId"' not in changed.to_json()
    assert changed.metadata == ImageMetadata(driver_session_id="d", extra={"keep_me": 1})
    assert changed.model_extra == {"more_of_mine": 1}
    assert persistence.images.get("i").to_json() == changed.to_json()
    changed = persistence.images.update("i", {"metadata": {"driverSessionId": None}})
    assert changed.metadata == ImageMetadata(extra={"keep_me": 1})
    persistence.sessions.save(session(forked_from=ForkOrigin(session_id="a", message_id="m")))
    change = {"forked_from": {"session_id": "b", "message_id": None}}
    forked = persistence.sessions.update("session", change)
    assert forked.forked_from == ForkOrigin(session_id="b")


def test_a_changed_record_is_found_only_where_it_now_is(persistence: Persistence) -> None:
    images, sessions = persistence.images, persistence.sessions
    images.save(image("i", container_id="old", name="old", created_at=1))
    moved = images.update("i", {"container_id": "new", "name": "new", "created_at": 2})
    assert images.find_all(container_id="old") == images.find_all(name="old") == []
    for filters in ({"container_id": "new"}, {"name": "new"}, {"since": 2}):
        assert images.find_all(**filters) == [moved]  # type: ignore[arg-type]
    assert images.find_all(until=2) == []
    nameless = images.update("i", {"name": None})
    assert nameless.name is None
    assert images.find_all(name="new") == []
    sessions.save(session("s", image_id="x", container_id="old"))
    sessions.add_message("s", message("kept"))
    there = sessions.update("s", lambda s: s.model_copy(update={"image_id": "y"}))
    assert sessions.find_by_image("x") is None
    assert sessions.find_all(image_id="y") == sessions.find_all(container_id="old") == [there]
    assert texts(persistence, "s") == ["kept"]
    sessions.update("s", {"containerId": "new"})
    assert sessions.find_all(container_id="old") == []
    assert sessions.find_all(container_id="old", order="active") == []
    assert [s.session_id for s in sessions.find_all(container_id="new", order="active")] == ["s"]
    assert texts(persistence, "s") == ["kept"]


@pytest.mark.parametrize("kind", RECORDS)
def test_an_id_cannot_change(persistence: Persistence, kind: str) -> None:
    repository, make = getattr(persistence, kind), RECORDS[kind]
    record, field = make("one"), f"{kind.removesuffix('s')}_id"
    repository.save(record)
    for change in (
        {field: "two"},
        {field: None},
        lambda old: old.model_copy(update={field: "two"}),
        lambda old: make("two"),
    ):
        with pytest.raises(InvalidRecordError):
            repository.update("one", change)
    assert repository.find_all() == [record]
    assert repository.update("one", {field: "one"}).model_extra == {}


def test_updated_at_becomes_now_unless_the_change_sets_it(persistence: Persistence) -> None:
    containers = persistence.containers
    containers.save(container(updated_at=5))
    assert containers.update("box", {"updated_at": 7}).updated_at == 7
    assert containers.update("box", {"updatedAt": 2**53 - 1, "a": 1}).updated_at == 2**53 - 1
    assert (
        containers.update("box", lambda c: c.model_copy(update={"updated_at": 3})).updated_at == 3
    )
    now = containers.update("box", {"a": 2}).updated_at
    assert now > 1_700_000_000_000
    assert containers.get("box").updated_at == now
    assert containers.update("box", {"a": 3, "updated_at": now}).updated_at == now
    assert containers.get("box").updated_at == now
    sessions = persistence.sessions
    sessions.save(session(updated_at=5))
    assert sessions.update("session", {"title": "t", "updatedAt": 5}).updated_at == 5
    assert sessions.get("session").updated_at == 5
    sessions.add_message("session", message())
    before = sessions.get("session").updated_at
    changed = sessions.update("session", {"title": "t"})
    assert changed.updated_at >= before
    assert sessions.get("session") == changed
    assert sessions.update("session", {"updated_at": 9}).updated_at == 9
    assert sessions.get("session").updated_at == 9


WRONG_CHANGES: dict[str, Any] = {
    "nothing": None,
    "a list": [("config", {})],
    "a text": "config",
    "a wrong value": {"config": [1]},
    "no JSON": {"config": {"a": float("nan")}},
    "a set": {"extra": {1, 2}},
    "a key that is no text": {1: 2},
    "a surrogate": {"extra": "\ud800"},
    "what must be there": {"container_id": None},
    "a function that returns nothing": lambda old: None,
    "a function that returns a mapping": lambda old: {"config": {}},
    "a function that returns another kind": lambda old: session(),
}


@pytest.mark.parametrize("change", WRONG_CHANGES.values(), ids=WRONG_CHANGES)
def test_a_wrong_change_is_refused_and_changes_nothing(
    persistence: Persistence, change: Any
) -> None:
    record = container(config={"a": 1})
    persistence.containers.save(record)
    with pytest.raises(InvalidRecordError):
        persistence.containers.update("box", change)
    assert persistence.containers.get("box") == record


@pytest.mark.parametrize("value", [object(), {"a": {1, 2}}, {1: 2}, float("nan"), "\ud800"])
def test_a_value_that_is_no_json_is_refused_by_the_name_of_its_field(
    persistence: Persistence, value: Any
) -> None:
    persistence.containers.save(container())
    with pytest.raises(InvalidRecordError) as raised:
        persistence.containers.update("box", {"created_at": 5, "config": value})
    assert raised.value.field == "config"


def test_what_a_function_raises_comes_out_and_nothing_changes(persistence: Persistence) -> None:
    record = image("i")
    persistence.images.save(record)
    error = ZeroDivisionError("of the caller")

    def fail(old: ImageRecord) -> ImageRecord:
        assert old == record
        raise error

    with pytest.raises(ZeroDivisionError) as raised:
        persistence.images.update("i", fail)
    assert raised.value is error
    assert persistence.images.get("i") == record
