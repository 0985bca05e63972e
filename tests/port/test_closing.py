"""Closing a storage, and asking it for a sign of life."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from time import sleep

import pytest

from agentx_persistence.errors import PersistenceClosedError
from agentx_persistence.storage import CONTAINERS, SESSIONS, Query, Storage, Window
from tests.backends.backend import SHARED, Backend
from tests.port.given import document, entries, entry, history, log_of, session, text_of

TAIL = Window(headed=True)
CALLS: dict[str, Callable[[Storage], object]] = {
    "put": lambda storage: storage.put(CONTAINERS, document(CONTAINERS)),
    "create": lambda storage: storage.create(CONTAINERS, document(CONTAINERS)),
    "replace": lambda storage: storage.replace(CONTAINERS, document(CONTAINERS), "revision"),
    "amend": lambda storage: storage.amend(CONTAINERS, document(CONTAINERS), "revision"),
    "peek": lambda storage: storage.peek(CONTAINERS, "key"),
    "get": lambda storage: storage.get(CONTAINERS, ["key"]),
    "find": lambda storage: storage.find(CONTAINERS, Query()),
    "count": lambda storage: storage.count(CONTAINERS, Query()),
    "delete": lambda storage: storage.delete(CONTAINERS, "key"),
    "append": lambda storage: storage.append("log", entries("x"), 1),
    "read": lambda storage: storage.read("log", Window()),
    "lookup": lambda storage: storage.lookup("log", ["a"]),
    "newest": lambda storage: storage.newest(["log"]),
    "rewrite": lambda storage: storage.rewrite("log", None, [], 1, "token"),
    "exchange": lambda storage: storage.exchange("log", TAIL, [], 1, "token", lambda found: None),
    "swap": lambda storage: storage.swap("log", entry("a"), 1, "token"),
    "fork": lambda storage: storage.fork("log", None, session("copy")),
    "head": lambda storage: storage.head("log"),
    "ping": lambda storage: storage.ping(),
}


def test_every_method_of_a_closed_storage_says_that_it_is_closed(storage: Storage) -> None:
    log_of(storage, "a")
    storage.close()
    for name, call in CALLS.items():
        try:
            call(storage)
        except PersistenceClosedError:
            continue
        pytest.fail(f"{name} did not notice")


def test_closing_twice_does_nothing(storage: Storage) -> None:
    storage.close()
    storage.close()


def test_ping_answers_and_writes_nothing(storage: Storage) -> None:
    storage.ping()
    assert storage.count(CONTAINERS, Query()) == 0


@pytest.mark.needs(SHARED)
def test_what_was_written_is_there_for_others_and_after_closing(backend: Backend) -> None:
    first, second = (backend.driver().create_storage() for _ in range(2))
    log_of(first, "ab")
    assert history(second) == ["a", "b"]
    second.append("log", entries("c"), 1)
    second.put(CONTAINERS, document(CONTAINERS))
    second.close()
    assert history(first) == ["a", "b", "c"]
    first.close()
    third = backend.driver().create_storage()
    assert history(third) == ["a", "b", "c"]
    assert text_of(third, CONTAINERS) == "text"
    assert third.head("log").count == 3
    third.close()


def test_a_call_beside_close_finishes_or_says_that_it_is_closed(storage: Storage) -> None:
    storage.put(SESSIONS, session("log"))

    def append(writer: int) -> int:
        for number in count():
            try:
                storage.append("log", entries(f"{writer}-{number}"), 1)
            except PersistenceClosedError:
                return number
        raise AssertionError

    with ThreadPoolExecutor(4) as threads:
        writers = [threads.submit(append, writer) for writer in range(4)]
        while storage.head("log").count < 20 and not any(writer.done() for writer in writers):
            sleep(0.001)
        storage.close()
        assert sum(writer.result(timeout=30) for writer in writers) >= 20
