from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from agentx_persistence import (
    ContainerRecord,
    ImageRecord,
    InvalidRecordError,
    Persistence,
    RecordNotFoundError,
    SessionRecord,
    TextPart,
    ToolCallMessage,
    ToolCallPart,
    UserMessage,
    create_persistence,
)
from agentx_persistence.transfer import compare, export, import_file
from tests.contract import hostile
from tests.contract.records import container, image, item, message, saved_session, session

RECORDS = {
    "containers": (container, "container_id"),
    "images": (image, "image_id"),
    "sessions": (session, "session_id"),
}


@pytest.mark.parametrize("kind", RECORDS)
def test_what_is_not_there(persistence: Persistence, kind: str) -> None:
    repository = getattr(persistence, kind)
    assert repository.find("absent") is None
    assert repository.exists("absent") is False
    assert repository.delete("absent") is False
    assert repository.find_all() == []
    page = repository.find_page()
    assert (page.items, page.next_cursor) == ([], None)
    with pytest.raises(RecordNotFoundError) as raised:
        repository.get("absent")
    assert (raised.value.kind, raised.value.id) == (kind.removesuffix("s"), "absent")


@pytest.mark.parametrize("kind", RECORDS)
def test_what_is_saved_is_there_until_it_is_deleted(persistence: Persistence, kind: str) -> None:
    repository, (make, _) = getattr(persistence, kind), RECORDS[kind]
    record, other = make("one"), make("two")
    assert repository.save(record) is None
    repository.save(other)
    assert repository.get("one") == repository.find("one") == record
    assert repository.exists("one") is True
    assert repository.delete("one") is True
    assert repository.find("one") is None
    assert repository.exists("one") is False
    assert repository.delete("one") is False
    assert repository.find_all() == [other]


@pytest.mark.parametrize("kind", RECORDS)
def test_saving_again_replaces_the_whole_record(persistence: Persistence, kind: str) -> None:
    repository, (make, _) = getattr(persistence, kind), RECORDS[kind]
    repository.save(make("one", note="gone", created_at=5))
    replaced = make("one", other="new", created_at=7)
    repository.save(replaced)
    assert repository.get("one").to_json() == replaced.to_json()
    assert repository.find_all() == [replaced]


@pytest.mark.parametrize("kind", RECORDS)
def test_the_newest_come_first_and_those_of_one_moment_by_id(
    persistence: Persistence, kind: str
) -> None:
    repository, (make, id_field) = getattr(persistence, kind), RECORDS[kind]
    times = {"b": 5, "a": 5, "Z": 5, "🙂": 5, "\uffee": 5, "é": 5, "old": -3, "new": 2**53 - 1}
    for id, created_at in times.items():
        repository.save(make(id, created_at=created_at))
    expected = sorted(times, key=lambda id: (-times[id], id))
    assert [getattr(record, id_field) for record in repository.find_all()] == expected
    some = repository.find_all(limit=3)
    assert [getattr(record, id_field) for record in some] == expected[:3]
    assert repository.find_all(limit=0) == []


@pytest.mark.parametrize("kind", RECORDS)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
def test_pages_give_every_record_once(persistence: Persistence, kind: str, size: int) -> None:
    repository, (make, _) = getattr(persistence, kind), RECORDS[kind]
    for number in range(7):
        repository.save(make(f"r{number}", created_at=number // 3))
    found, cursor = [], None
    for _ in range(8):
        page = repository.find_page(size=size, cursor=cursor)
        assert len(page.items) <= size
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            break
        assert isinstance(cursor, str)
    assert cursor is None
    assert found == repository.find_all()


def test_what_is_saved_and_deleted_between_two_pages_shifts_nothing(
    persistence: Persistence,
) -> None:
    for number in range(6):
        persistence.images.save(image(f"i{number}", created_at=number))
    first = persistence.images.find_page(size=2)
    assert [i.image_id for i in first.items] == ["i5", "i4"]
    persistence.images.save(image("newer", created_at=99))
    persistence.images.delete("i4")
    rest = persistence.images.find_page(size=9, cursor=first.next_cursor)
    assert [i.image_id for i in rest.items] == ["i3", "i2", "i1", "i0"]


def test_images_are_found_by_container_and_by_name(persistence: Persistence) -> None:
    for number, (box, name) in enumerate(
        [("box", "plan"), ("box", "Plan"), ("other", "plan"), ("box", "plan"), ("box", None)]
    ):
        persistence.images.save(image(f"i{number}", container_id=box, name=name, created_at=number))

    def found(**filters: str) -> str:
        everything = [i.image_id for i in persistence.images.find_all(**filters)]
        paged, cursor = [], None
        while not paged or cursor:
            page = persistence.images.find_page(**filters, size=2, cursor=cursor)
            paged += [i.image_id for i in page.items]
            cursor = page.next_cursor
            if not page.items:
                break
        assert paged == everything
        return " ".join(everything)

    assert found() == "i4 i3 i2 i1 i0"
    assert found(container_id="box") == "i4 i3 i1 i0"
    assert found(name="plan") == "i3 i2 i0"
    assert found(name="Plan") == "i1"
    assert found(container_id="box", name="plan") == "i3 i0"
    assert found(container_id="absent") == ""
    assert found(name="absent") == ""
    assert found(container_id="other", name="Plan") == ""


def test_sessions_are_found_by_container_and_by_image(persistence: Persistence) -> None:
    for number, (box, owner) in enumerate([("box", "x"), ("box", "y"), ("other", "x")]):
        persistence.sessions.save(
            session(f"s{number}", container_id=box, image_id=owner, created_at=number)
        )
    sessions = persistence.sessions
    assert [s.session_id for s in sessions.find_all(container_id="box")] == ["s1", "s0"]
    assert [s.session_id for s in sessions.find_all(image_id="x")] == ["s2", "s0"]
    assert [s.session_id for s in sessions.find_all(container_id="box", image_id="x")] == ["s0"]
    newest = sessions.find_by_image("x")
    assert newest is not None
    assert newest.session_id == "s2"
    assert sessions.find_by_image("absent") is None


def test_a_renamed_or_moved_image_is_found_only_where_it_now_is(persistence: Persistence) -> None:
    persistence.images.save(image("i", container_id="box", name="old"))
    persistence.images.save(image("i", container_id="box", name="new"))
    assert persistence.images.find_all(name="old") == []
    assert persistence.images.find_all(container_id="box", name="old") == []
    moved = image("i", container_id="elsewhere", name="new", created_at=1)
    persistence.images.save(moved)
    assert persistence.images.find_all(container_id="box") == []
    assert persistence.images.find_all(container_id="box", name="new") == []
    for filters in ({}, {"container_id": "elsewhere"}, {"name": "new"}):
        assert persistence.images.find_all(**filters) == [moved]
    persistence.images.save(image("i", container_id="elsewhere", name=None))
    assert persistence.images.find_all(name="new") == []


def test_a_moved_session_is_found_only_where_it_now_is(persistence: Persistence) -> None:
    persistence.sessions.save(session("s", image_id="x"))
    moved = session("s", image_id="y", container_id="elsewhere")
    persistence.sessions.save(moved)
    assert persistence.sessions.find_by_image("x") is None
    assert persistence.sessions.find_all(container_id="box") == []
    assert persistence.sessions.find_by_image("y") == moved


def test_owners_need_not_exist(persistence: Persistence) -> None:
    persistence.images.save(image("i", container_id="never saved"))
    persistence.sessions.save(session("s", image_id="never saved"))
    assert [i.image_id for i in persistence.images.find_all(container_id="never saved")] == ["i"]
    assert not persistence.containers.exists("never saved")


def test_deleting_a_container_takes_all_it_owns_and_nothing_else(persistence: Persistence) -> None:
    for box in ("box", "box2"):
        persistence.containers.save(container(box))
        for number in range(3):
            owner = image(f"{box} i{number}", container_id=box)
            persistence.images.save(owner)
            inside = session(f"{box} s{number}", image_id=owner.image_id, container_id=box)
            persistence.sessions.save(inside)
            persistence.sessions.add_messages(inside.session_id, [message(), message()])
    # A session that says another container than its image does belongs to both.
    persistence.sessions.save(session("by image", image_id="box i0", container_id="else"))
    persistence.sessions.save(session("by container", image_id="else", container_id="box"))
    assert persistence.containers.delete("box") is True
    assert persistence.containers.find_all() == [persistence.containers.get("box2")]
    assert {i.container_id for i in persistence.images.find_all()} == {"box2"}
    assert {s.session_id for s in persistence.sessions.find_all()} == {
        "box2 s0",
        "box2 s1",
        "box2 s2",
    }
    assert persistence.sessions.count_messages("box2 s1") == 2
    with pytest.raises(RecordNotFoundError):
        persistence.sessions.get_messages("box s0")


def test_deleting_an_image_takes_its_sessions(persistence: Persistence) -> None:
    persistence.containers.save(container())
    for owner in ("x", "y"):
        persistence.images.save(image(owner))
        persistence.sessions.save(session(f"s{owner}", image_id=owner))
        persistence.sessions.add_message(f"s{owner}", message())
    assert persistence.images.delete("x") is True
    assert persistence.containers.exists("box")
    assert persistence.images.exists("y")
    assert [s.session_id for s in persistence.sessions.find_all()] == ["sy"]


def test_deleting_again_finishes_what_an_interruption_left(persistence: Persistence) -> None:
    persistence.images.save(image("i", container_id="gone"))
    persistence.sessions.save(session("s", image_id="i", container_id="gone"))
    assert persistence.containers.delete("gone") is False
    assert persistence.images.find_all() == []
    assert persistence.sessions.find_all() == []


def test_a_session_saved_again_after_its_deletion_starts_empty(persistence: Persistence) -> None:
    persistence.sessions.save(session("s"))
    kept = message("one")
    persistence.sessions.add_messages("s", [kept, message("two")])
    persistence.sessions.delete("s")
    persistence.sessions.save(session("s"))
    assert persistence.sessions.get_messages("s") == []
    assert persistence.sessions.add_message("s", kept) == 1


def test_metadata_is_merged(persistence: Persistence) -> None:
    persistence.images.save(image("i", updated_at=1, note="kept"))
    first = persistence.images.update_metadata("i", {"driver_session_id": "d", "a": 1, "b": [2]})
    assert first.metadata is not None
    assert first.metadata.driver_session_id == "d"
    assert first.updated_at > 1
    assert persistence.images.get("i") == first
    second = persistence.images.update_metadata("i", {"driverSessionId": "e", "a": None, "c": {}})
    assert second.metadata is not None
    assert second.metadata.to_json() == '{"driverSessionId":"e","b":[2],"c":{}}'
    assert persistence.images.get("i").to_json() == second.to_json()
    assert persistence.images.find_all(name="plan") == [second]
    third = persistence.images.update_metadata("i", {"driver_session_id": None, "x": False})
    assert third.metadata is not None
    assert third.metadata.to_json() == '{"b":[2],"c":{},"x":false}'


def test_metadata_of_an_unknown_image_or_of_the_wrong_form_is_refused(
    persistence: Persistence,
) -> None:
    with pytest.raises(RecordNotFoundError):
        persistence.images.update_metadata("absent", {"a": 1})
    saved = image("i")
    persistence.images.save(saved)
    for wrong in (
        None,
        [],
        "a",
        {"a": float("nan")},
        {"a": {1, 2}},
        {1: 2},
        {"driverSessionId": 5},
    ):
        with pytest.raises(InvalidRecordError):
            persistence.images.update_metadata("i", wrong)  # type: ignore[arg-type]
    assert persistence.images.get("i") == saved


def test_what_a_caller_holds_shares_nothing_with_the_store(persistence: Persistence) -> None:
    config = {"list": [1]}
    persistence.containers.save(ContainerRecord(container_id="c", config=config))
    config["list"].append(2)
    got = persistence.containers.get("c")
    assert got.config == {"list": [1]}
    assert got.config is not None
    got.config["list"].append(3)
    assert persistence.containers.get("c").config == {"list": [1]}


def test_a_record_of_the_wrong_kind_is_refused(persistence: Persistence) -> None:
    for repository, wrong in (
        (persistence.containers, image()),
        (persistence.images, session()),
        (persistence.sessions, {"session_id": "s"}),
        (persistence.sessions, None),
    ):
        with pytest.raises(InvalidRecordError):
            repository.save(wrong)  # type: ignore[attr-defined]
    assert persistence.sessions.find_all() == []


def test_a_record_whose_inside_was_changed_is_refused_before_anything_is_written(
    persistence: Persistence,
) -> None:
    for change in (
        lambda record: record.custom_data.update(a=(1, 2)),
        lambda record: record.custom_data.update(a=float("nan")),
        lambda record: record.metadata.__pydantic_extra__.update(a=b"bytes"),
        lambda record: record.__pydantic_extra__.update(a={1, 2}),
    ):
        record = ImageRecord(container_id="c", custom_data={}, metadata={"x": 1}, more=[])
        change(record)
        with pytest.raises(InvalidRecordError):
            persistence.images.save(record)
    assert persistence.images.find_all() == []
    persistence.sessions.save(session("s"))
    message = UserMessage(content=[TextPart(text="text")])
    message.content.append(object())  # type: ignore[union-attr, arg-type]
    with pytest.raises(InvalidRecordError):
        persistence.sessions.add_message("s", message)
    assert persistence.sessions.get_messages("s") == []


def test_wrong_arguments_are_refused(persistence: Persistence) -> None:
    images = persistence.images
    for call in (
        lambda: images.find_all(limit=-1),
        lambda: images.find_all(limit="3"),
        lambda: images.find_all(limit=True),
        lambda: images.find_all(limit=2**40),
        lambda: images.find_page(size=0),
        lambda: images.find_page(size=None),
        lambda: images.find_page(cursor="not a cursor"),
        lambda: images.find_page(cursor=""),
        lambda: images.find_page(cursor="é"),
        lambda: images.find_page(cursor=5),
        lambda: images.find_page(cursor="WzEsMl0"),
        lambda: images.find_all(container_id=" "),
        lambda: images.find_all(name="x" * 501),
        lambda: images.find_all(name="\ud800"),
        lambda: images.find_all(name=5),
        lambda: persistence.sessions.find_by_image(""),
    ):
        with pytest.raises(InvalidRecordError):
            call()


def test_what_was_absent_stays_absent_and_null_stays_null(persistence: Persistence) -> None:
    bare = ImageRecord(image_id="bare", container_id="box")
    assert '"name"' not in bare.to_json()
    null = ImageRecord(
        image_id="null", container_id="box", name=None, model=None, config=None, metadata=None
    )
    assert '"name":null' in null.to_json()
    for record in (bare, null):
        persistence.images.save(record)
        assert persistence.images.get(record.image_id).to_json() == record.to_json()
    plain = SessionRecord(session_id="s", image_id="i", container_id="c")
    persistence.sessions.save(plain)
    assert persistence.sessions.get("s").to_json() == plain.to_json()


def test_what_is_nested_too_deep_to_be_read_is_refused(
    persistence: Persistence, tmp_path: Path
) -> None:
    accepted = 0
    saved_session(persistence)

    def call(deep: Any) -> ToolCallMessage:
        return ToolCallMessage(tool_call=ToolCallPart(id="call", name="tool", input={"a": deep}))

    ways: list[Callable[[str, Any], object]] = [
        lambda _, deep: persistence.sessions.add_message("session", message(extra=deep)),
        lambda _, deep: persistence.sessions.add_message("session", call(deep)),
        lambda id, deep: persistence.containers.save(container(id, config=deep)),
        lambda id, deep: persistence.items.save(item(("box",), id, value=deep)),
    ]
    for levels in range(hostile.DEEPEST - 4, 202):
        for way in ways:
            with suppress(InvalidRecordError):
                way(f"{levels}", hostile.nested(levels))
                accepted += 1
    stored = (
        *persistence.sessions.get_messages("session"),
        *persistence.containers.find_all(),
        *persistence.items.find_all(namespace_prefix=("box",)),
    )
    assert len(stored) == accepted > 10
    export(persistence, tmp_path / "all.jsonl")
    with create_persistence() as other:
        import_file(tmp_path / "all.jsonl", other)
        assert compare(persistence, other).equal
