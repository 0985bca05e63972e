"""Positions of messages that something else has damaged: an error, and nothing changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from agentx_persistence._redis import copy_scripts
from agentx_persistence.errors import CorruptRecordError
from agentx_persistence.storage import SESSIONS, Storage
from tests.backends.backend import Backend
from tests.port.given import entries, entry, log_of, session, token

_CALLS: dict[str, Callable[[Storage], object]] = {
    "fork": lambda storage: storage.fork("log", "b", session("copy")),
    "rewrite": lambda storage: storage.rewrite("log", "b", entries("x"), 9000, token()),
    "swap": lambda storage: storage.swap("log", entry("b", "new"), 9000, token()),
    "lookup": lambda storage: storage.lookup("log", ["b"]),
}


@pytest.fixture(params=["redis", "redis_cluster"])
def storage(request: pytest.FixtureRequest) -> Any:
    backend: Backend = request.getfixturevalue(f"{request.param}_backend")
    storage = backend.driver().create_storage()
    yield storage
    storage.close()


def _ask(storage: Storage, *command: Any) -> Any:
    (reply,) = cast(Any, storage)._connection.pipeline([command])
    return reply


@pytest.mark.parametrize("call", _CALLS)
@pytest.mark.parametrize("position", ["2.5", "0", "-1", "-inf"])
def test_nothing_is_changed_through_a_damaged_position(
    storage: Storage, call: str, position: str
) -> None:
    log_of(storage, "abc")
    document, messages, positions = cast(Any, storage)._keys.log("log")
    _ask(storage, "ZADD", positions, position, "b")

    def everything() -> list[Any]:
        return [
            _ask(storage, "HMGET", document, "count", "updated_at", "generation"),
            _ask(storage, "LRANGE", messages, 0, -1),
            _ask(storage, "ZRANGE", positions, 0, -1, "WITHSCORES"),
            storage.get(SESSIONS, ["copy"]),
        ]

    before = everything()
    with pytest.raises(CorruptRecordError):
        _CALLS[call](storage)
    assert everything() == before


@pytest.mark.parametrize("position", ["4", "inf"])
def test_nothing_is_changed_through_a_position_after_the_last(
    redis_backend: Backend, position: str
) -> None:
    storage = redis_backend.driver().create_storage()
    log_of(storage, "abc")
    _, messages, positions = cast(Any, storage)._keys.log("log")
    _ask(storage, "ZADD", positions, position, "b")
    for call in ("fork", "rewrite", "swap"):
        with pytest.raises(CorruptRecordError):
            _CALLS[call](storage)
    assert _ask(storage, "LLEN", messages) == _ask(storage, "ZCARD", positions) == 3
    assert storage.get(SESSIONS, ["copy"]) == {}
    storage.close()


def test_a_copy_that_damage_has_ended_expires(
    redis_backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copy_scripts, "COPIED", 100)
    storage = redis_backend.driver().create_storage()
    storage.put(SESSIONS, session())
    storage.append("log", entries(*(f"{number}" for number in range(300))), 9000)
    keys, copy = cast(Any, storage)._keys, session("copy")
    _ask(storage, "ZADD", keys.log("log")[2], "999", "150")
    with pytest.raises(CorruptRecordError):
        storage.fork("log", None, copy)
    for key in keys.forked("copy", copy.revision):
        assert _ask(storage, "TTL", key) > 0
    storage.close()
