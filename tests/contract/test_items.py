"""Items: values under a namespace and a key."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from agentx_persistence import (
    InvalidRecordError,
    ItemRecord,
    Persistence,
    RecordConflictError,
    RecordNotFoundError,
)
from tests.backends.backend import SHARED, Backend
from tests.contract import hostile
from tests.contract.records import container, image, item, message, session

SPACE = ("box", "state")


def _names(items: Any) -> list[tuple[str, ...]]:
    return [(*item.namespace, item.key) for item in items]


def test_what_is_not_there(persistence: Persistence) -> None:
    items = persistence.items
    assert items.find(SPACE, "absent") is None
    assert items.exists(SPACE, "absent") is False
    assert items.delete(SPACE, "absent") is False
    assert items.find_many([(SPACE, "absent")]) == items.find_many([]) == {}
    assert items.find_all(namespace=SPACE) == items.find_all(namespace_prefix=("box",)) == []
    assert items.count(namespace=SPACE) == items.count(namespace_prefix=("box",)) == 0
    page = items.find_page(namespace=SPACE)
    assert (page.items, page.next_cursor) == ([], None)
    for call in (
        lambda: items.get(SPACE, "absent"),
        lambda: items.update(SPACE, "absent", {"value": 1}),
        lambda: items.update(SPACE, "absent", lambda old: old),
    ):
        with pytest.raises(RecordNotFoundError) as raised:
            call()
        assert raised.value.kind == "item"
        assert "absent" in raised.value.id
        assert "state" in raised.value.id


def test_what_is_saved_is_there_until_it_is_deleted(persistence: Persistence) -> None:
    items = persistence.items
    one, other = item(key="one", created_at=5), item(key="other")
    assert items.save(one) is None
    items.save(other)
    found = items.get(SPACE, "one")
    assert found.to_json() == one.to_json()
    assert found == items.find(SPACE, "one") == items.find(list(SPACE), "one")
    assert items.exists(SPACE, "one") is True
    replaced = item(key="one", value={"new": [1]}, note="n")
    items.save(replaced)
    assert items.get(SPACE, "one").to_json() == replaced.to_json()
    assert items.count(namespace=SPACE) == 2
    assert items.delete(SPACE, "one") is True
    assert items.delete(SPACE, "one") is False
    assert items.find_all(namespace=SPACE) == [other]


def test_an_item_is_created_once(persistence: Persistence) -> None:
    persistence.items.create(item(value="first"))
    with pytest.raises(RecordConflictError) as raised:
        persistence.items.create(item(value="second"))
    assert raised.value.kind == "item"
    assert persistence.items.get(SPACE, "key").value == "first"
    persistence.items.create(item(("box", "state", "deeper")))
    persistence.items.create(item(("box",)))

    def create(number: int) -> bool:
        try:
            persistence.items.create(item(key="raced", value=number))
        except RecordConflictError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        created = list(threads.map(create, range(8)))
    assert created.count(True) == 1
    assert persistence.items.get(SPACE, "raced").value == created.index(True)


def test_an_item_is_changed_by_a_patch_or_a_function(persistence: Persistence) -> None:
    items = persistence.items
    items.save(item(value={"a": {"b": 1, "c": 2}}, created_at=5, updated_at=6, note="kept"))
    changed = items.update(SPACE, "key", {"value": {"a": {"b": None, "d": 3}}})
    assert changed.value == {"a": {"c": 2, "d": 3}}
    assert (changed.created_at, changed.model_extra) == (5, {"note": "kept"})
    assert changed.updated_at > 6
    assert items.get(SPACE, "key").to_json() == changed.to_json()
    changed = items.update(SPACE, "key", lambda old: old.model_copy(update={"value": [old.value]}))
    assert changed.value == [{"a": {"c": 2, "d": 3}}]
    assert items.update(SPACE, "key", {"value": "text"}).value == "text"
    assert items.update(SPACE, "key", {"updated_at": 7}).updated_at == 7
    moved = items.update(SPACE, "key", {"created_at": 9, "note": None})
    assert items.find_all(namespace=SPACE, order="newest", since=9) == [moved]
    assert moved.model_extra == {}
    wrong: list[Any] = [
        {"key": "other"},
        {"namespace": ["box"]},
        {"namespace": None},
        {"value": float("nan")},
        None,
        lambda old: old.model_copy(update={"key": "other"}),
        lambda old: old.model_copy(update={"namespace": ("box",)}),
        lambda old: None,
    ]
    for change in wrong:
        with pytest.raises(InvalidRecordError):
            items.update(SPACE, "key", change)
    assert items.find_all(namespace_prefix=("box",)) == [moved]


@pytest.mark.parametrize("content", hostile.CONTENTS.values(), ids=hostile.CONTENTS)
def test_what_goes_in_comes_out(persistence: Persistence, content: Any) -> None:
    sent = [
        item(key="it", value=content),
        item(key="within", value={"": [content]}, extra=content),
    ]
    for each in sent:
        persistence.items.save(each)
    found = persistence.items.find_all(namespace=SPACE)
    assert [each.to_json() for each in found] == [each.to_json() for each in sent]
    assert persistence.items.get(SPACE, "it").to_json() == sent[0].to_json()


BYTES = {
    "none": b"",
    "NUL": b"\x00",
    "every byte": bytes(range(256)),
    "no UTF-8": b"\xff\xfe\xed\xa0\x80",
    "base64": b"aGVsbG8=",
    "JSON": b'{"a":1}',
    "a megabyte": bytes(range(256)) * 4096,
}


@pytest.mark.parametrize("value", BYTES.values(), ids=BYTES)
def test_bytes_come_back_as_bytes(persistence: Persistence, value: bytes) -> None:
    items = persistence.items
    items.save(item(value=value))
    found = items.get(SPACE, "key")
    assert type(found.value) is bytes
    assert found.value == value
    assert items.find_all(namespace=SPACE) == [found]
    assert '"valueType":"bytes"' in found.to_json()
    again = ItemRecord.model_validate_json(found.to_json())
    assert again == found
    items.save(again)
    assert items.get(SPACE, "key").value == value
    noted = items.update(SPACE, "key", {"note": 1})
    assert (noted.value, noted.model_extra) == (value, {"note": 1})
    assert items.get(SPACE, "key").value == value
    changed = items.update(SPACE, "key", lambda old: old.model_copy(update={"value": "text"}))
    assert changed.value == items.get(SPACE, "key").value == "text"
    assert "valueType" not in changed.to_json()
    back = items.update(SPACE, "key", lambda old: old.model_copy(update={"value": value}))
    assert back.value == items.get(SPACE, "key").value == value


def test_a_text_that_looks_like_bytes_stays_a_text(persistence: Persistence) -> None:
    for value in ("aGVsbG8=", "", "b'x'"):
        persistence.items.save(item(value=value))
        found = persistence.items.get(SPACE, "key").value
        assert (type(found), found) == (str, value)


def test_every_namespace_and_key_is_of_its_own(persistence: Persistence) -> None:
    items = persistence.items
    spaces = [
        *(("box", id) for id in hostile.IDS),
        *((id,) for id in hostile.IDS if id != "box"),
        ("a", "b"),
        ("a b",),
        ("a", "b", "c"),
        ("ab", "c"),
        ("a", "bc"),
        ("box", "x" * 200, "y" * 194),
        tuple("x" * 200),
    ]
    for number, space in enumerate(dict.fromkeys(spaces)):
        items.save(item(space, "key", value=number))
    for number, space in enumerate(dict.fromkeys(spaces)):
        assert items.get(space, "key").value == number
        assert [each.value for each in items.find_all(namespace=space)] == [number]
        assert items.count(namespace=space) == 1
    for number, id in enumerate(hostile.IDS):
        items.save(item(SPACE, id, value=number))
    for number, id in enumerate(hostile.IDS):
        assert items.get(SPACE, id).value == number
    assert [i.key for i in items.find_all(namespace=SPACE)] == sorted(hostile.IDS)
    found = items.find_many([(SPACE, id) for id in hostile.IDS])
    assert [(key, i.value) for key, i in found.items()] == [
        ((SPACE, id), number) for number, id in enumerate(hostile.IDS)
    ]
    for id in hostile.IDS[::2]:
        assert items.delete(SPACE, id) is True
    assert [i.key for i in items.find_all(namespace=SPACE)] == sorted(hostile.IDS[1::2])


NOT_NAMESPACES: list[Any] = [
    (),
    "box",
    b"box",
    None,
    5,
    ("",),
    ("box", ""),
    ("box", " a"),
    ("box", 5),
    ("box", None),
    ("a\x1fb",),
    ("a\x00b",),
    ("\ud800",),
    ("x" * 256,),
    ("x" * 255, "y" * 144),
    tuple("x" * 201),
]


@pytest.mark.parametrize("namespace", NOT_NAMESPACES, ids=lambda value: ascii(value)[:40])
def test_what_is_no_namespace_is_refused_by_every_method(
    persistence: Persistence, namespace: Any
) -> None:
    items = persistence.items
    calls = [
        lambda: items.get(namespace, "key"),
        lambda: items.find(namespace, "key"),
        lambda: items.exists(namespace, "key"),
        lambda: items.delete(namespace, "key"),
        lambda: items.update(namespace, "key", {"value": 1}),
        lambda: items.find_many([(namespace, "key")]),
        lambda: items.find_page(namespace=namespace),
        lambda: items.find_all(namespace_prefix=namespace),
        lambda: items.count(namespace=namespace),
        lambda: item(namespace),
    ]
    for call in calls:
        with pytest.raises(InvalidRecordError):
            call()


@pytest.mark.parametrize("key", hostile.NOT_IDS, ids=lambda value: ascii(value)[:40])
def test_what_is_no_key_is_refused_by_every_method(persistence: Persistence, key: Any) -> None:
    items = persistence.items
    for call in (
        lambda: items.get(SPACE, key),
        lambda: items.find(SPACE, key),
        lambda: items.exists(SPACE, key),
        lambda: items.delete(SPACE, key),
        lambda: items.update(SPACE, key, {}),
        lambda: items.find_many([(SPACE, key)]),
        lambda: item(key=key),
    ):
        with pytest.raises(InvalidRecordError):
            call()


@pytest.mark.parametrize(
    "wrong",
    [None, {"namespace": SPACE}, image(), session()],
    ids=lambda wrong: type(wrong).__name__,
)
def test_only_an_item_can_be_saved(persistence: Persistence, wrong: Any) -> None:
    for call in (persistence.items.save, persistence.items.create):
        with pytest.raises(InvalidRecordError):
            call(wrong)
    assert persistence.items.count(namespace_prefix=("box",)) == 0


def test_a_value_of_megabytes_comes_back(persistence: Persistence) -> None:
    large = item(value={"text": "é🙂\x00\n" * 400_000})
    persistence.items.save(large)
    assert persistence.items.get(SPACE, "key") == large


def test_threads_that_save_and_delete_leave_each_item_where_it_is_listed(
    persistence: Persistence,
) -> None:
    def work(writer: int) -> None:
        for number in range(20):
            key = f"k{(writer + number) % 5}"
            if number % 4 == 3:
                persistence.items.delete(SPACE, key)
            else:
                persistence.items.save(item(key=key, created_at=number, value=writer))

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(work, range(6)))
    there = {f"k{n}" for n in range(5) if persistence.items.exists(SPACE, f"k{n}")}
    for order in ("key", "newest", "oldest"):
        found = persistence.items.find_all(namespace=SPACE, order=order)
        assert sorted(i.key for i in found) == sorted(there)
    assert persistence.items.count(namespace=SPACE) == len(there)


@pytest.mark.needs(SHARED)
def test_what_was_saved_is_there_when_it_is_opened_again(backend: Backend) -> None:
    with backend.open() as persistence:
        persistence.items.save(item(value=b"\x00\xff"))
    with backend.open() as persistence:
        assert persistence.items.get(SPACE, "key").value == b"\x00\xff"
        assert _names(persistence.items.find_all(namespace_prefix=("box",))) == [(*SPACE, "key")]


def test_items_and_other_records_of_one_id_disturb_each_other_not(
    persistence: Persistence,
) -> None:
    persistence.containers.save(container("a"))
    persistence.images.save(image("a", container_id="b"))
    persistence.sessions.add_message("a", message(), create=session("a", container_id="b"))
    persistence.items.save(item(("a",), "a"))
    assert persistence.items.delete(("a",), "a") is True
    assert persistence.containers.exists("a")
    assert persistence.images.exists("a")
    assert persistence.sessions.count_messages("a") == 1
    persistence.items.save(item(("a",), "a"))
    persistence.sessions.delete("a")
    persistence.images.delete("a")
    assert persistence.items.exists(("a",), "a")
    assert persistence.containers.delete("a") is True
    assert not persistence.items.exists(("a",), "a")


def test_a_change_of_a_value_changes_its_type_as_well(persistence: Persistence) -> None:
    persistence.items.save(ItemRecord(namespace=("box",), key="k", value={"a": 1}))
    for value, kind in ((b"\xff", "bytes"), ("text", None), (b"", "bytes"), ([1], None)):
        changed = persistence.items.update(("box",), "k", {"value": value})
        assert (changed.value, changed.value_type) == (value, kind)
        assert persistence.items.get(("box",), "k") == changed
    change = {"value": bytearray(b"\xfe"), "value_type": "png"}
    changed = persistence.items.update(("box",), "k", change)
    assert (changed.value, changed.value_type) == (b"\xfe", "bytes")
    persistence.items.update(("box",), "k", lambda old: old.model_copy(update={"value": b"x"}))
    assert persistence.items.update(("box",), "k", {"tag": 1}).value == b"x"
