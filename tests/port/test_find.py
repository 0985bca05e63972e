"""Listings: orders, fields, bounds and pages."""

from __future__ import annotations

import random

import pytest

from agentx_persistence.storage import (
    CONTAINERS,
    IMAGES,
    ITEMS,
    KINDS,
    SESSIONS,
    Kind,
    Order,
    Place,
    Query,
    Storage,
)
from agentx_persistence.storage.kinds import item_key
from tests.port.given import (
    document,
    entries,
    every,
    found_keys,
    item,
    namespace_of,
    own,
    paged_keys,
    plain,
    session,
)

# Between the last two, code points and UTF-16 code units are in another order.
KEYS = ["A", "a", "aa", "b", "é", "\uffee", "🙂"]
TIMES = [-(2**53) + 1, -1001, -1000, -1, 0, 1, 999, 1000, 2**53 - 1]
IN_BOX = {"container_id": "box"}


def _expected(places: dict[str, int], order: Order) -> list[str]:
    seconds = 1000 if order == "active" else 1
    newest = sorted(places, key=lambda key: (-(places[key] // seconds), key))
    return newest[::-1] if order == "oldest" else newest


@pytest.mark.parametrize("kind", KINDS, ids=repr)
def test_newest_is_by_descending_time_then_by_key_and_oldest_its_reverse(
    storage: Storage, kind: Kind
) -> None:
    places = {own(kind, f"{key}{at}"): at for at in TIMES for key in KEYS}
    keys = list(places)
    random.Random(1).shuffle(keys)
    for key in keys:
        storage.put(kind, document(kind, key, at=places[key], updated_at=-places[key]))
    order: Order
    for order in ("newest", "oldest"):
        assert found_keys(storage, kind, every(kind, order)) == _expected(places, order)
        for size in (1, 5, 21):
            paged = paged_keys(storage, kind, every(kind, order), size)
            assert paged == _expected(places, order)


def test_active_is_by_the_second_of_the_last_change_then_by_key(storage: Storage) -> None:
    places = {f"{key}{at}": at for at in TIMES for key in KEYS}
    keys = list(places)
    random.Random(2).shuffle(keys)
    for key in keys:
        storage.put(SESSIONS, session(key, at=-places[key], updated_at=places[key]))
    query = Query(IN_BOX, "active")
    assert found_keys(storage, SESSIONS, query) == _expected(places, "active")
    for size in (1, 5, 21):
        assert paged_keys(storage, SESSIONS, query, size) == _expected(places, "active")
    assert found_keys(storage, SESSIONS, Query({"container_id": "other"}, "active")) == []


def test_appending_brings_a_session_to_the_front_of_the_active_ones(storage: Storage) -> None:
    for key, at in (("a", 5000), ("b", 6000), ("c", 7000)):
        storage.put(SESSIONS, session(key, at=at))
    storage.append("a", entries("x"), 8500)
    query = Query(IN_BOX, "active", limit=1)
    listing = storage.find(SESSIONS, query)
    assert [(found.key, found.updated_at) for found in listing.documents] == [("a", 8500)]
    assert listing.after == Place(8, "a")
    storage.append("b", entries("x"), 8600)
    assert found_keys(storage, SESSIONS, Query(IN_BOX, "active")) == ["a", "b", "c"]
    assert found_keys(storage, SESSIONS, Query(IN_BOX)) == ["c", "b", "a"]
    storage.put(SESSIONS, session("a", at=5000))
    assert found_keys(storage, SESSIONS, Query(IN_BOX, "active")) == ["b", "c", "a"]


def test_a_session_that_moves_takes_its_last_change_along(storage: Storage) -> None:
    first = session("a", at=1000)
    storage.put(SESSIONS, first)
    storage.append("a", entries("x"), 9000)
    storage.put(SESSIONS, session("b", at=1000, updated_at=5000, container_id="other"))
    moved = session("a", at=1000, updated_at=6000, container_id="other")
    assert storage.replace(SESSIONS, moved, first.revision)
    assert found_keys(storage, SESSIONS, Query(IN_BOX, "active")) == []
    query = Query({"container_id": "other"}, "active")
    assert found_keys(storage, SESSIONS, query) == ["a", "b"]
    storage.append("b", entries("x"), 7000)
    assert found_keys(storage, SESSIONS, query) == ["b", "a"]


def test_since_is_included_and_until_is_not(storage: Storage) -> None:
    for at in TIMES:
        storage.put(IMAGES, document(IMAGES, str(at), at=at, updated_at=0, name="name"))
    where: dict[str, str]
    for where in ({}, IN_BOX, {"name": "name"}, IN_BOX | {"name": "name"}):
        for since in (None, *TIMES):
            for until in (None, -1000, 0, 1000):
                expected = [
                    str(at)
                    for at in TIMES
                    if (since is None or since <= at) and (until is None or at < until)
                ]
                query = Query(where, "oldest", since=since, until=until)
                assert found_keys(storage, IMAGES, query) == expected
                query = query._replace(order="newest")
                assert found_keys(storage, IMAGES, query) == expected[::-1]


def test_the_bounds_of_active_are_widened_to_whole_seconds(storage: Storage) -> None:
    for at in (-1001, -1000, -1, 0, 999, 1000, 1999, 2000):
        storage.put(SESSIONS, session(f"{at:+05}", at=5, updated_at=at))

    def between(since: int | None, until: int | None) -> set[int]:
        query = Query(IN_BOX, "active", since=since, until=until)
        return {*map(int, found_keys(storage, SESSIONS, query))}

    assert between(1, 1000) == {0, 999}
    assert between(1999, 2000) == {1000, 1999}
    assert between(None, 1) == {-1001, -1000, -1, 0, 999}
    assert between(-1, 0) == {-1000, -1}
    assert between(-1001, -1000) == {-1001}
    assert between(2000, None) == {2000}
    assert between(500, 500) == {0, 999}


def test_a_page_starts_behind_any_place_within_its_bounds(storage: Storage) -> None:
    places = [(at, key) for at in (1, 2, 3) for key in ("a", "b")]
    for at, key in places:
        storage.put(CONTAINERS, document(CONTAINERS, f"{key}{at}", at=at))
    for at in range(5):
        for key in ("a", "a9", "b9", "🙂"):
            newest = [f"{k}{t}" for t, k in places if (-t, f"{k}{t}") > (-at, key)]
            newest.sort(key=lambda found: (-int(found[1]), found))
            oldest = [f"{k}{t}" for t, k in places if (-t, f"{k}{t}") < (-at, key)]
            oldest.sort(key=lambda found: (-int(found[1]), found), reverse=True)
            assert paged_keys(storage, CONTAINERS, Query(after=Place(at, key)), 2) == newest
            query = Query(order="oldest", after=Place(at, key))
            assert paged_keys(storage, CONTAINERS, query, 2) == oldest
            query = query._replace(since=2, until=3)
            listing = storage.find(CONTAINERS, query)
            assert [found.key for found in listing.documents] == [k for k in oldest if "2" in k]


def test_a_page_starts_behind_the_place_of_a_document_that_is_gone(storage: Storage) -> None:
    for key in "abcdef":
        storage.put(SESSIONS, session(key))
    order: Order
    for order, where in (("newest", {}), ("oldest", IN_BOX), ("active", IN_BOX)):
        storage.put(SESSIONS, session("c"))
        query = Query(where, order, limit=3 if order != "oldest" else 4)
        listing = storage.find(SESSIONS, query)
        assert listing.after is not None
        assert listing.after.key == "c"
        storage.delete(SESSIONS, "c")
        rest = storage.find(SESSIONS, query._replace(after=listing.after))
        expected = ["b", "a"] if order == "oldest" else ["d", "e", "f"]
        assert [found.key for found in rest.documents] == expected


@pytest.mark.parametrize("order", ["newest", "oldest", "active", "key"])
def test_a_listing_says_where_it_ended_only_if_there_is_more(
    storage: Storage, order: Order
) -> None:
    kind = ITEMS if order == "key" else SESSIONS
    for key in "abc":
        storage.put(kind, document(kind, own(kind, key), at=1500))
    query = Query({} if order == "key" else IN_BOX, order)
    keys = found_keys(storage, kind, query)
    for limit in (1, 2, 3, 4):
        listing = storage.find(kind, query._replace(limit=limit))
        assert [found.key for found in listing.documents] == keys[:limit]
        time = {"key": 0, "active": 1}.get(order, 1500)
        assert listing.after == (Place(time, keys[limit - 1]) if limit < 3 else None)


def test_each_combination_of_fields_finds_its_documents(storage: Storage) -> None:
    places = [("box", "n"), ("box", "m"), ("other", "n"), ("other", "m"), ("n", "box")]
    for number, (owner, name) in enumerate(places):
        for kind, field in ((IMAGES, "name"), (SESSIONS, "image_id")):
            fields = {"container_id": owner, field: name}
            storage.put(kind, document(kind, str(number), at=number, **fields))
    for kind, field in ((IMAGES, "name"), (SESSIONS, "image_id")):
        assert found_keys(storage, kind, Query({"container_id": "box"})) == ["1", "0"]
        assert found_keys(storage, kind, Query({field: "n"})) == ["2", "0"]
        assert found_keys(storage, kind, Query({field: "n", "container_id": "box"})) == ["0"]
        assert found_keys(storage, kind, Query({"container_id": "box", field: "m"})) == ["1"]
        assert found_keys(storage, kind, Query({field: "absent"})) == []
        assert found_keys(storage, kind, Query()) == ["4", "3", "2", "1", "0"]


def test_a_document_without_a_field_is_found_by_no_value_of_it(storage: Storage) -> None:
    storage.put(IMAGES, document(IMAGES, "without"))
    storage.put(IMAGES, document(IMAGES, "empty", name=""))
    assert found_keys(storage, IMAGES, Query({"name": ""})) == ["empty"]
    assert found_keys(storage, IMAGES, Query(IN_BOX)) == ["empty", "without"]
    assert found_keys(storage, IMAGES, Query(IN_BOX | {"name": ""})) == ["empty"]


def test_items_are_found_by_their_namespace_and_by_prefixes_of_keys(storage: Storage) -> None:
    places = [
        *(("box",), ("box", "a"), ("box", "a", "b"), ("box", "ab"), ("boxa",), ("bo",)),
        *(("box", "b"), ("box", "🙂"), ("box", "\uffee"), ("%",), ("*",), ("box", "_")),
    ]
    ends = ["b", "a", "a_b", "axb", "🙂", "\uffee", "\U0010ffff", "\U0010ffff" * 2, "\ud7ff"]
    for namespace in places:
        for key in ends:
            storage.put(ITEMS, item(*namespace, key=key))
    everything = sorted(
        item_key(namespace_of(*namespace), key) for namespace in places for key in ends
    )
    prefixes = [
        *("", "b", "box", namespace_of("box"), namespace_of("box", "a"), namespace_of("%")),
        namespace_of("box") + "a",
        *(item_key(namespace_of("box"), ""), item_key(namespace_of("box"), "a")),
        *(item_key(namespace_of("box"), "a_"), namespace_of("box", "🙂"), "absent"),
        *(item_key(namespace_of("box"), last) for last in ("\ud7ff", "\uffee", "\U0010ffff")),
    ]
    for prefix in prefixes:
        expected = [key for key in everything if key.startswith(prefix)]
        query = Query(order="key", prefix=prefix)
        assert found_keys(storage, ITEMS, query) == expected, f"prefix {prefix!r}"
        assert paged_keys(storage, ITEMS, query, 4) == expected, f"prefix {prefix!r}"
    for namespace in places:
        where = {"namespace": namespace_of(*namespace)}
        expected = [key for key in everything if key.startswith(item_key(where["namespace"], ""))]
        assert found_keys(storage, ITEMS, Query(where)) == expected
        assert found_keys(storage, ITEMS, Query(where, "oldest")) == expected[::-1]


def test_a_document_that_stays_is_neither_hidden_nor_repeated_by_others(storage: Storage) -> None:
    for number in range(20):
        storage.put(SESSIONS, session(f"{number:02}", at=number))
    query, seen = Query(IN_BOX, limit=3), []
    for round in range(7):
        listing = storage.find(SESSIONS, query)
        seen += [found.key for found in listing.documents]
        storage.put(SESSIONS, session(f"new{round}", at=100))
        storage.put(SESSIONS, session(f"old{round}", at=-100))
        storage.delete(SESSIONS, f"old{round - 1}")
        query = query._replace(after=listing.after)
    assert [key for key in seen if key.isdigit()] == [f"{number:02}" for number in range(20)][::-1]


@pytest.mark.parametrize("order", ["newest", "oldest"])
@pytest.mark.parametrize("kind", KINDS, ids=repr)
def test_a_listing_has_each_text_with_its_key_and_last_change(
    storage: Storage, kind: Kind, order: Order
) -> None:
    keys = {own(kind, key): number for number, key in enumerate("abc")}
    for key, number in keys.items():
        storage.put(kind, document(kind, key, f"text {number}", at=number, updated_at=7 + number))
    listing = storage.find(kind, every(kind, order)._replace(limit=2))
    assert [(found.key, plain(found.text), found.updated_at) for found in listing.documents] == [
        (key, f"text {keys[key]}", 7 + keys[key]) for key in _expected(keys, order)[:2]
    ]
