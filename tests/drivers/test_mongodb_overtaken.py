"""An append to MongoDB between whose commands something else happens to the session."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pymongo.collection import Collection
from pymongo.database import Database

from agentx_persistence import Persistence, RecordNotFoundError
from tests.backends.backend import Backend
from tests.backends.mongodb import checked_history
from tests.contract.records import message, saved_session


@pytest.fixture
def store(mongodb_backend: Backend) -> Iterator[Persistence]:
    with mongodb_backend.open() as persistence:
        yield persistence


@pytest.mark.parametrize(
    "meanwhile",
    ["truncate", "clear", "delete", "delete before", "make again", "give way", "overtake"],
)
def test_an_append_that_something_else_gets_ahead_of_is_right_all_the_same(
    store: Persistence,
    mongodb_backend: Backend,
    raw_mongodb: Database[Any],
    monkeypatch: pytest.MonkeyPatch,
    meanwhile: str,
) -> None:
    saved_session(store)
    kept = message("kept")
    store.sessions.add_messages("session", [kept, message("cut off")])
    other = mongodb_backend.open()

    def interfere() -> None:
        if meanwhile == "truncate":
            other.sessions.truncate_after("session", kept.id)
        elif meanwhile == "clear":
            other.sessions.clear_messages("session")
        elif meanwhile in ("give way", "overtake"):
            other.sessions.add_messages("session", [message("other"), message("other")])
        else:
            other.sessions.delete("session")
        if meanwhile == "make again":
            saved_session(other)

    command = "insert_many" if meanwhile in ("delete before", "overtake") else "update_one"
    send = getattr(Collection, command)
    interfered = False

    def late(*arguments: Any, **options: Any) -> Any:
        nonlocal interfered
        if not interfered:
            interfered = True
            interfere()
        return send(*arguments, **options)

    with other, monkeypatch.context() as patch:
        patch.setattr(Collection, command, late)
        batch = [message("mine 1"), message("mine 2")]
        if meanwhile.startswith("delete"):
            with pytest.raises(RecordNotFoundError):
                store.sessions.add_messages("session", batch)
            assert raw_mongodb.messages.count_documents({}) == 0
            return
        positions = store.sessions.add_messages("session", batch)
    expected = {
        "truncate": ["kept", "mine 1", "mine 2"],
        "clear": ["mine 1", "mine 2"],
        "make again": ["mine 1", "mine 2"],
        "give way": ["kept", "cut off", "other", "other", "mine 1", "mine 2"],
        "overtake": ["kept", "cut off", "other", "other", "mine 1", "mine 2"],
    }[meanwhile]
    assert checked_history(store, raw_mongodb) == expected
    assert [expected[position - 1] for position in positions] == ["mine 1", "mine 2"]
