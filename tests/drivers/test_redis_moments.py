"""Reads between whose commands another client changes the session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agentx_persistence.storage import SESSIONS, Window
from tests.backends.backend import Backend
from tests.contract.records import item
from tests.port.given import entries, log_of, session, texts


@pytest.mark.parametrize("window", [Window(), Window(last=2), Window(first=2), Window(after=1)])
def test_a_log_that_was_never_empty_is_not_read_as_empty(
    request: pytest.FixtureRequest, window: Window
) -> None:
    backend: Backend = request.getfixturevalue("redis_backend")
    storage: Any = backend.driver().create_storage()
    log_of(storage, "abc")
    connection, pipeline = storage._connection, storage._connection.pipeline

    def apart(commands: Any, whats: Any) -> list[Any]:
        """Let each command be answered before the next one is sent."""
        connection.pipeline = pipeline
        replies = pipeline(commands[:1], whats[:1])
        storage.delete(SESSIONS, "log")
        replies += pipeline(commands[1:2], whats[1:2])
        storage.append("log", entries("x", "y", "z"), 1, create=session("log"))
        return replies + pipeline(commands[2:], whats[2:])  # type: ignore[no-any-return]

    connection.pipeline = apart
    found = texts(storage.read("log", window))
    assert connection.pipeline == pipeline  # the commands were sent apart
    expected = {"after": ["y", "z"], "last": ["y", "z"], "first": ["x", "y"]}
    (asked,) = [name for name, value in window._asdict().items() if value] or [""]
    assert found == expected.get(asked, ["x", "y", "z"])
    storage.close()


_CHANGES: dict[str, Callable[[Any], object]] = {
    "append": lambda storage: storage.append("log", entries("x"), 1),
    "rewrite": lambda storage: storage.rewrite("log", 1, entries("x", "y"), 1, "token"),
    "swap": lambda storage: storage.swap("log", entries("b")[0]._replace(text="x"), 1, "token"),
    "delete": lambda storage: storage.delete(SESSIONS, "log"),
}


@pytest.mark.parametrize("change", _CHANGES)
@pytest.mark.parametrize("moment", [1, 2, 3])
def test_the_head_of_a_window_belongs_to_its_texts(
    request: pytest.FixtureRequest, change: str, moment: int
) -> None:
    backend: Backend = request.getfixturevalue("redis_backend")
    storage: Any = backend.driver().create_storage()
    log_of(storage, "abc")
    window = Window(after=0, first=3, headed=True)
    before = storage.read("log", window)
    connection, pipeline = storage._connection, storage._connection.pipeline

    def apart(commands: Any, whats: Any) -> list[Any]:
        connection.pipeline = pipeline
        replies = pipeline(commands[:moment], whats[:moment])
        _CHANGES[change](storage)
        if change == "delete":
            storage.append("log", entries("x", "y", "z"), 1, create=session("log"))
        return replies + pipeline(commands[moment:], whats[moment:])  # type: ignore[no-any-return]

    connection.pipeline = apart
    found = storage.read("log", window)
    assert connection.pipeline == pipeline  # the commands were sent apart
    assert found in (before, storage.read("log", window))
    storage.close()


@pytest.mark.parametrize("name", ["redis_backend", "redis_cluster_backend"])
@pytest.mark.parametrize("by", ["namespace", "prefix"])
@pytest.mark.parametrize("saved", [False, True])
def test_items_that_others_change_while_they_are_listed(
    request: pytest.FixtureRequest, name: str, by: str, saved: bool
) -> None:
    backend: Backend = request.getfixturevalue(name)
    with backend.open() as persistence:
        for key in ("one", "two", "three"):
            persistence.items.save(item(key=key))
        storage: Any = persistence._storage
        fetch = storage._fetch

        def change_before(*arguments: Any) -> Any:
            storage._fetch = fetch
            persistence.items.delete(item().namespace, "two")
            if saved:
                persistence.items.save(item(key="two", value=2))
            return fetch(*arguments)

        storage._fetch = change_before
        namespace = item().namespace
        if by == "namespace":
            found = persistence.items.find_all(namespace=namespace)
        else:
            found = persistence.items.find_all(namespace_prefix=namespace)
        assert storage._fetch is not change_before
        assert {"one", "three"} <= {each.key for each in found}
        expected = {"one", "three", *(["two"] if saved else [])}
        assert {each.key for each in persistence.items.find_all(namespace=namespace)} == expected
        assert persistence.items.count(namespace=namespace) == len(expected)
