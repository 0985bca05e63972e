from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from langgraph.store.base import GetOp, PutOp

from agentx_persistence import InvalidRecordError, Persistence
from agentx_persistence.integrations.langgraph import PersistentStore

SPACE = ("ada", "memories")


def test_values_come_back_exactly(persistence: Persistence) -> None:
    store = PersistentStore(persistence)
    value = {"é🙂": [1, 1.0, True, None, "a\x00b", {"": {}}], "b": 2**80, "a": 1e-300, "$ref": "x"}
    store.put(SPACE, "tea", value)
    found = store.get(SPACE, "tea")
    assert found is not None
    assert repr(found.value) == repr(value)
    assert (found.namespace, found.key) == (SPACE, "tea")


@pytest.mark.parametrize("wrong", [(1,), {1}, {1: 2}, float("nan"), datetime(2026, 1, 1), b"a"])
def test_what_json_cannot_give_back_is_refused(persistence: Persistence, wrong: Any) -> None:
    store = PersistentStore(persistence)
    good = PutOp(SPACE, "good", {"a": 1})
    with pytest.raises(InvalidRecordError, match="value"):
        store.batch([good, PutOp(SPACE, "bad", {"a": {"b": wrong}})])
    assert store.search(SPACE) == []


@pytest.mark.parametrize("label", [" a", "a ", "\n", "x" * 256])
def test_what_no_item_can_be_called_is_refused(persistence: Persistence, label: str) -> None:
    store = PersistentStore(persistence)
    with pytest.raises(InvalidRecordError, match="namespace"):
        store.put(("a", label), "key", {})
    with pytest.raises(InvalidRecordError, match="key"):
        store.put(SPACE, label, {})


def test_an_overwritten_item_keeps_the_time_of_its_creation(persistence: Persistence) -> None:
    store = PersistentStore(persistence)
    store.put(SPACE, "tea", {"likes": "green", "since": 1})
    first = store.get(SPACE, "tea")
    store.put(SPACE, "tea", {"likes": "black"})
    second = store.get(SPACE, "tea")
    assert first is not None
    assert second is not None
    assert second.value == {"likes": "black"}
    assert first.created_at == second.created_at <= second.updated_at
    assert first.created_at.tzinfo is not None


def test_the_last_write_of_a_batch_counts_and_reads_come_first(persistence: Persistence) -> None:
    store = PersistentStore(persistence)
    store.put(SPACE, "old", {"n": 0})
    ops = [PutOp(SPACE, "a", {"n": 1}), GetOp(SPACE, "a"), GetOp(SPACE, "old")]
    ops += [PutOp(SPACE, "a", {"n": 2}), PutOp(SPACE, "old", None)]
    results = store.batch(ops)
    assert [result and result.value for result in results] == [None, None, {"n": 0}, None, None]  # type: ignore[union-attr]
    assert [(item.key, item.value) for item in store.search(SPACE)] == [("a", {"n": 2})]


def test_search_filters_and_pages(persistence: Persistence) -> None:
    store = PersistentStore(persistence)
    for number in range(120):
        space = (*SPACE, "even") if number % 2 == 0 else SPACE
        store.put(space, f"{number:03}", {"n": number, "in": {"odd": number % 2}, "tags": ["a"]})
    store.put(("ada", "memories2"), "other", {"n": 1})

    def keys(**asked: Any) -> list[str]:
        return [item.key for item in store.search(SPACE, **asked)]

    every = [f"{n:03}" for n in (*range(1, 120, 2), *range(0, 120, 2))]  # by namespace and key
    assert keys(limit=200) == every
    assert [key for start in range(0, 130, 7) for key in keys(limit=7, offset=start)] == every
    assert keys(filter={"n": {"$gte": 117, "$lt": 119}}) == ["117", "118"]
    assert keys(filter={"n": {"$gt": "117"}}) == []  # a text and a number have no order
    assert keys(filter={"n": 5, "in": {"odd": 1}, "tags": ["a"]}) == ["005"]
    assert keys(filter={"none": None, "n": {"$ne": 1}}, limit=200) == every[1:]
    assert keys(query="anything", limit=3) == every[:3]
    assert len(store.search((), limit=200)) == 121
    with pytest.raises(ValueError, match="unknown operator"):
        keys(filter={"n": {"$like": 1}})


def test_namespaces_are_listed_by_reading_one_item_of_each(persistence: Persistence) -> None:
    store = PersistentStore(persistence)
    spaces = [("a",), ("a", "b"), ("a", "b", "c"), ("a", "bb"), ("a!",), ("b", "b"), ("b", "c")]
    for space in spaces:
        for key in range(10):
            store.put(space, f"{key}", {})
    reads: list[Any] = []
    find_all = store._items.find_all
    store._items.find_all = lambda **asked: reads.append(1) or find_all(**asked)  # type: ignore
    assert store.list_namespaces() == spaces
    assert len(reads) == len(spaces) + 1
    assert store.list_namespaces(prefix=("a",)) == spaces[:4]
    assert store.list_namespaces(prefix=("*", "b")) == [*spaces[1:3], ("b", "b")]
    assert store.list_namespaces(suffix=("b",)) == [("a", "b"), ("b", "b")]
    assert store.list_namespaces(max_depth=1) == [("a",), ("a!",), ("b",)]
    assert store.list_namespaces(max_depth=1, offset=1, limit=1) == [("a!",)]
