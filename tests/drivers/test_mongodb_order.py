"""Servers that answer `$unionWith` in another order than those of the tests.

MongoDB's manual says that "the order in which the combined result set documents are output is
unspecified" (https://www.mongodb.com/docs/manual/reference/operator/aggregation/unionWith/).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from pymongo.collection import Collection
from pymongo.database import Database

from agentx_persistence.errors import CorruptRecordError, RecordNotFoundError
from agentx_persistence.storage import Storage, Window
from tests.backends.backend import Backend
from tests.port.given import entries, history, log_of, session, texts, there, token

IDS = "abcdefg"
Rows = list[dict[str, Any]]
ORDERS: dict[str, Callable[[Rows], Rows]] = {
    "backwards": lambda rows: rows[::-1],
    "the head last": lambda rows: rows[1:] + rows[:1],
    "the head first": lambda rows: rows[:1] + rows[:0:-1],
    "none": lambda rows: random.Random(5).sample(rows, len(rows)),
}


class Answer:
    """What a cursor returns, in another order."""

    def __init__(self, rows: Rows) -> None:
        self._rows = iter(rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self._rows

    def __next__(self) -> dict[str, Any]:
        return next(self._rows)

    def close(self) -> None:
        self._rows = iter(())


@pytest.fixture
def reordered() -> list[int]:
    """How many documents each reordered union had."""
    return []


@pytest.fixture(params=ORDERS)
def storage(
    request: pytest.FixtureRequest,
    mongodb_backend: Backend,
    monkeypatch: pytest.MonkeyPatch,
    reordered: list[int],
) -> Iterator[Storage]:
    """A log of IDS on a server that answers in this order."""
    storage = mongodb_backend.driver().create_storage()
    log_of(storage, IDS)
    aggregate: Callable[..., Any] = Collection.aggregate

    def answer(rows: Any, pipeline: Rows, *arguments: Any, **options: Any) -> Any:
        found = aggregate(rows, pipeline, *arguments, **options)
        if not any("$unionWith" in stage for stage in pipeline):
            return found
        documents = list(found)
        reordered.append(len(documents))
        return Answer(ORDERS[request.param](documents))

    monkeypatch.setattr(Collection, "aggregate", answer)
    yield storage
    storage.close()


def test_a_window_has_the_messages_in_their_order(storage: Storage, reordered: list[int]) -> None:
    head = storage.head("log")
    for window, expected in (
        (Window(), IDS),
        (Window("b", "f"), "cde"),
        (Window(first=3), "abc"),
        (Window(last=3), "efg"),
        (Window("b", first=2), "cd"),
        (Window(None, "f", last=2), "de"),
        (Window(size=3), "abc"),
        (Window(last=7, size=3), "efg"),
    ):
        found = storage.read("log", window._replace(headed=True))
        assert "".join(texts(found)) == expected, window
        assert found.head == head
    assert max(reordered) == len(IDS) + 1


def test_a_log_is_found_and_changed(storage: Storage, reordered: list[int]) -> None:
    assert there(storage.lookup("log", ["c", "x", "e"])) == {"c": (3, "c"), "e": (5, "e")}
    assert storage.rewrite("log", "e", entries("x", "y"), 2000, token()) == 2
    assert storage.fork("log", "d", session("copy")) == 4
    assert history(storage) == [*"abcde", "x", "y"]
    assert history(storage, "copy") == [*"abcd"]
    with pytest.raises(RecordNotFoundError):
        storage.read("absent", Window())
    assert max(reordered) > 1


def test_a_message_that_is_lost_is_named(
    storage: Storage, raw_mongodb: Database[Any], reordered: list[int]
) -> None:
    raw_mongodb.messages.delete_one({"session_id": "log", "position": 4})
    for window in (Window(), Window(first=5), Window(last=5)):
        with pytest.raises(CorruptRecordError, match="#4"):
            storage.read("log", window)
    assert reordered


def test_a_message_that_is_cut_off_meanwhile_is_not_lost(
    storage: Storage, mongodb_backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = closing(mongodb_backend.driver().create_storage())
    find_one: Callable[..., Any] = Collection.find_one
    cut: list[object] = []

    def late(*arguments: Any, **options: Any) -> Any:
        head = find_one(*arguments, **options)
        if not cut:
            cut.append(head)
            with other as writer:
                writer.rewrite("log", "d", [], 2000, token())
        return head

    monkeypatch.setattr(Collection, "find_one", late)
    assert history(storage) == [*"abcd"]
    assert cut
