"""Putting, creating, replacing and getting documents."""

from __future__ import annotations

import pytest

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
from tests.contract.hostile import IDS, INJECTIONS, NAMES
from tests.port.given import (
    document,
    entries,
    every,
    found_keys,
    history,
    item,
    log_of,
    own,
    plain,
    session,
    text_of,
    token,
)

# No text has a raw control character; apart from that a storage may assume nothing of one.
TEXTS = {
    "an empty text": "",
    "JSON": '{"a": [1, 2.50, 1e400], "a": null }',
    "no JSON": '}{"not\\u12 JSON',
    "quotes and backslashes": '"\'`\\\\\\"\\n\\u0000\\ud800',
    "white space": "  a\u00a0\u2003 ",
    "line separators": "\u2028\u2029\u0085\x7f\x80",
    "a byte order mark": "\ufeffa",
    "non-characters": "\ufffd\ufffe\uffff\U0010ffff",
    "emoji": "🙂👩\u200d👩\u200d👧\u200d👦",
    "another normal form": "é e\u0301",
    "what SQL, Lua and MongoDB know": " ".join(INJECTIONS),
    "1 MB": "0123456789abcdé🙂" * 55_000,
}
EACH_KIND = pytest.mark.parametrize("kind", KINDS, ids=repr)


@EACH_KIND
def test_a_documents_text_comes_back_exactly(storage: Storage, kind: Kind) -> None:
    expected = {own(kind, key): text for key, text in TEXTS.items()}
    for key, text in expected.items():
        storage.put(kind, document(kind, key, text=text))
    assert {key: text_of(storage, kind, key) for key in expected} == expected
    listed = storage.find(kind, every(kind)).documents
    assert {found.key: plain(found.text) for found in listed} == expected


@EACH_KIND
def test_put_creates_and_then_replaces(storage: Storage, kind: Kind) -> None:
    first = document(kind, at=5, updated_at=7)
    storage.put(kind, first)
    stored = storage.get(kind, [own(kind)])[own(kind)]
    assert (stored.key, stored.updated_at, stored.revision) == (own(kind), 7, first.revision)
    second = document(kind, text="second", at=6, updated_at=4)
    storage.put(kind, second)
    stored = storage.get(kind, [own(kind)])[own(kind)]
    assert (plain(stored.text), stored.updated_at, stored.revision) == (
        *("second", 4),
        second.revision,
    )
    assert found_keys(storage, kind, every(kind)._replace(since=6)) == [own(kind)]
    assert found_keys(storage, kind, every(kind)._replace(until=6)) == []


@EACH_KIND
def test_create_refuses_a_taken_key_and_changes_nothing(storage: Storage, kind: Kind) -> None:
    first = document(kind, text="first")
    assert storage.create(kind, first) is True
    assert storage.create(kind, document(kind, text="second", at=5)) is False
    stored = storage.get(kind, [own(kind)])[own(kind)]
    assert (plain(stored.text), stored.updated_at, stored.revision) == (
        *("first", 1000),
        first.revision,
    )
    assert found_keys(storage, kind, every(kind)._replace(until=1000)) == []


@EACH_KIND
def test_a_deleted_key_is_free_again(storage: Storage, kind: Kind) -> None:
    storage.put(kind, document(kind))
    assert storage.delete(kind, own(kind)) is True
    assert storage.create(kind, document(kind, text="again")) is True
    assert text_of(storage, kind) == "again"


@EACH_KIND
def test_replace_needs_the_revision_that_is_stored(storage: Storage, kind: Kind) -> None:
    first, second = document(kind, text="first"), document(kind, text="second", at=500)
    assert storage.replace(kind, first, token()) is False
    assert text_of(storage, kind) is None
    storage.put(kind, first)
    assert storage.replace(kind, second, token()) is False
    assert text_of(storage, kind) == "first"
    assert storage.replace(kind, second, first.revision) is True
    stored = storage.get(kind, [own(kind)])[own(kind)]
    assert (plain(stored.text), stored.updated_at, stored.revision) == (
        *("second", 500),
        second.revision,
    )
    assert storage.replace(kind, document(kind), first.revision) is False
    assert text_of(storage, kind) == "second"


@EACH_KIND
def test_amend_replaces_a_document_that_keeps_its_place(storage: Storage, kind: Kind) -> None:
    first = document(kind, text="first", at=5, updated_at=7)
    second = document(kind, text="second", at=5, updated_at=9)
    assert storage.amend(kind, second, token()) is False
    assert text_of(storage, kind) is None
    storage.put(kind, first)
    assert storage.amend(kind, second, token()) is False
    assert text_of(storage, kind) == "first"
    assert storage.amend(kind, second, first.revision) is True
    stored = storage.get(kind, [own(kind)])[own(kind)]
    assert (plain(stored.text), stored.updated_at, stored.revision) == (
        *("second", 9),
        second.revision,
    )
    assert found_keys(storage, kind, every(kind)._replace(since=5, until=6)) == [own(kind)]
    assert storage.amend(kind, first, first.revision) is False
    assert text_of(storage, kind) == "second"


def test_amend_moves_a_session_among_the_active_ones(storage: Storage) -> None:
    first = document(SESSIONS, "a", at=1000, updated_at=1000)
    storage.put(SESSIONS, first)
    storage.put(SESSIONS, document(SESSIONS, "b", at=1000, updated_at=5000))
    query = Query({"container_id": "box"}, "active")
    assert found_keys(storage, SESSIONS, query) == ["b", "a"]
    later = document(SESSIONS, "a", at=1000, updated_at=9000)
    assert storage.amend(SESSIONS, later, first.revision) is True
    assert found_keys(storage, SESSIONS, query) == ["a", "b"]


@EACH_KIND
def test_peek_returns_a_document_to_be_read(storage: Storage, kind: Kind) -> None:
    assert storage.peek(kind, own(kind)) is None
    storage.put(kind, document(kind, text="text", at=5, updated_at=7))
    found = storage.peek(kind, own(kind))
    assert found is not None
    assert (found.key, plain(found.text)) == (own(kind), "text")
    assert kind is not SESSIONS or found.updated_at == 7


def test_replace_moves_the_index_entries(storage: Storage) -> None:
    first = document(IMAGES, name="old", at=1)
    storage.put(IMAGES, first)
    second = document(IMAGES, name="new", container_id="other", at=9)
    assert storage.replace(IMAGES, second, first.revision) is True
    for where in ({"name": "old"}, {"container_id": "box"}, {"container_id": "box", "name": "new"}):
        assert found_keys(storage, IMAGES, Query(where=where)) == []
    where = {"container_id": "other", "name": "new"}
    assert found_keys(storage, IMAGES, Query(where=where, since=9)) == ["key"]


def test_put_moves_the_index_entries_and_drops_those_of_absent_fields(storage: Storage) -> None:
    storage.put(IMAGES, document(IMAGES, name="old", at=1))
    storage.put(IMAGES, document(IMAGES, container_id="other", at=9))
    assert found_keys(storage, IMAGES, Query(where={"name": "old"})) == []
    assert found_keys(storage, IMAGES, Query(where={"container_id": "box"})) == []
    assert found_keys(storage, IMAGES, Query(where={"container_id": "other"})) == ["key"]
    assert found_keys(storage, IMAGES, Query()) == ["key"]


def test_put_and_replace_of_a_session_keep_its_log_and_its_generation(storage: Storage) -> None:
    log_of(storage, "ab")
    head = storage.head("log")
    put = session("log", at=2000, container_id="other")
    storage.put(SESSIONS, put)
    assert storage.replace(SESSIONS, session("log", at=3000), put.revision) is True
    assert history(storage) == ["a", "b"]
    assert storage.head("log") == head
    assert storage.append("log", entries("c"), 1, generation=head.generation) == 3


def test_appending_changes_no_revision(storage: Storage) -> None:
    first = session("log")
    storage.put(SESSIONS, first)
    storage.append("log", entries("a"), 9000)
    assert storage.get(SESSIONS, ["log"])["log"].revision == first.revision
    assert storage.replace(SESSIONS, session("log"), first.revision) is True


@pytest.mark.parametrize("way", ["put", "create"])
def test_a_new_session_has_an_empty_log_of_the_generation_of_its_revision(
    storage: Storage, way: str
) -> None:
    created = session("log")
    getattr(storage, way)(SESSIONS, created)
    assert storage.head("log") == (0, created.revision)
    assert history(storage) == []


def test_get_returns_those_that_exist(storage: Storage) -> None:
    for key in ("a", "b", "c"):
        storage.put(CONTAINERS, document(CONTAINERS, key, text=f"text of {key}"))
    found = storage.get(CONTAINERS, ["c", "absent", "a", "c"])
    assert {key: plain(stored.text) for key, stored in found.items()} == {
        "a": "text of a",
        "c": "text of c",
    }
    assert storage.get(CONTAINERS, []) == {}
    assert storage.get(IMAGES, ["a"]) == {}


def test_kinds_do_not_share_keys(storage: Storage) -> None:
    for kind in KINDS:
        assert storage.create(kind, document(kind, text=kind.name)) is True
    for kind in KINDS:
        assert text_of(storage, kind) == kind.name
        assert found_keys(storage, kind, every(kind)) == [own(kind)]


@EACH_KIND
def test_keys_are_compared_exactly_and_ordered_by_code_point(storage: Storage, kind: Kind) -> None:
    keys = [own(kind, key) for key in dict.fromkeys(IDS + INJECTIONS)]
    for key in keys:
        assert storage.create(kind, document(kind, key, text=f"text of {key}")) is True
    assert {key: plain(found.text) for key, found in storage.get(kind, keys).items()} == {
        key: f"text of {key}" for key in keys
    }
    ordered = sorted(keys)
    assert found_keys(storage, kind, every(kind)) == ordered
    assert found_keys(storage, kind, every(kind, "oldest")) == ordered[::-1]
    assert storage.delete(kind, own(kind, "a")) is True
    assert len(storage.get(kind, keys)) == len(keys) - 1


def test_field_values_are_compared_exactly(storage: Storage) -> None:
    names = list(dict.fromkeys(NAMES + INJECTIONS))
    for number, name in enumerate(names):
        storage.put(IMAGES, document(IMAGES, f"key-{number}", name=name))
    for number, name in enumerate(names):
        for where in ({"name": name}, {"container_id": "box", "name": name}):
            listing = storage.find(IMAGES, Query(where=where))
            assert [found.key for found in listing.documents] == [f"key-{number}"]


def test_owners_are_compared_exactly(storage: Storage) -> None:
    owners = list(dict.fromkeys(IDS))
    for number, owner in enumerate(owners):
        storage.put(SESSIONS, session(f"log-{number}", container_id=owner, image_id=owner))
        storage.put(ITEMS, item(owner, "x", key="key"))
    for number, owner in enumerate(owners):
        for where in ({"container_id": owner}, {"image_id": owner}):
            assert found_keys(storage, SESSIONS, Query(where=where)) == [f"log-{number}"]
        assert storage.delete(CONTAINERS, owner) is False
        assert storage.count(SESSIONS, Query()) == len(owners) - number - 1
        assert storage.count(ITEMS, Query(order="key")) == len(owners) - number - 1
