"""Calls inside the caller's own MongoDB transaction."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from bson import ObjectId
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import OperationFailure

from agentx_persistence import (
    ConfigurationError,
    Persistence,
    RecordConflictError,
    RecordNotFoundError,
    create_persistence,
)
from agentx_persistence.mongodb import mongodb_driver
from tests.backends.backend import Backend
from tests.contract.records import container, image, item, message, saved_session, session, texts
from tests.servers.mongodb import Commands, MongodbServer

Client = MongoClient[dict[str, Any]]


@pytest.fixture
def commands() -> Commands:
    return Commands()


@pytest.fixture
def client(mongodb_server: MongodbServer, commands: Commands) -> Iterator[Client]:
    with mongodb_server.connect(event_listeners=[commands]) as client:
        yield client


@pytest.fixture
def store(mongodb_backend: Backend, client: Client) -> Iterator[Persistence]:
    with create_persistence(mongodb_driver(client=client, **mongodb_backend.options)) as store:
        yield store


def _prepare(store: Persistence) -> None:
    store.containers.save(container())
    saved_session(store)
    store.sessions.add_messages("session", [message(text, id=text) for text in "abcd"])


def _write(inside: Persistence) -> None:
    """Use every verb that writes."""
    inside.images.save(image("i"))
    inside.images.save(image("i", name="again"))
    inside.images.create(image("j"))
    inside.images.update("j", {"name": "changed"})
    inside.items.save(item(key="k"))
    sessions = inside.sessions
    assert sessions.add_message("session", message("e", id="e")) == 5
    assert sessions.add_message("session", message("e", id="e")) == 5
    assert sessions.add_message("new", message("n"), create=session("new")) == 1
    sessions.replace_message("session", message("B", id="b"))
    assert [m.text for m in sessions.rewrite("session", after="d", messages=[message("f")])] == [
        "e"
    ]
    assert sessions.fork("session", session("copy"), through="b") == 2
    sessions.pop_message("session")
    sessions.save(session("gone", container_id="other"))
    sessions.add_message("gone", message())
    assert inside.containers.delete("other") is False


def _check(seen: Persistence) -> None:
    assert [i.image_id for i in seen.images.find_all(name="again")] == ["i"]
    assert [i.image_id for i in seen.images.find_all(name="changed")] == ["j"]
    assert seen.items.exists(("box", "state"), "k")
    assert texts(seen) == ["a", "B", "c", "d"]
    assert texts(seen, "new") == ["n"]
    assert texts(seen, "copy") == ["a", "B"]
    assert seen.sessions.summaries(["session"])["session"].message_count == 4
    assert not seen.sessions.exists("gone")


def test_calls_belong_to_the_callers_transaction(
    store: Persistence, client: Client, raw_mongodb: Database[Any]
) -> None:
    _prepare(store)
    before = {name: list(raw_mongodb[name].find()) for name in raw_mongodb.list_collection_names()}
    with client.start_session() as unit:
        unit.start_transaction()
        inside = store.within(unit)
        _write(inside)
        _check(inside)
        assert texts(store) == ["a", "b", "c", "d"]
        assert not store.sessions.exists("new")
        unit.abort_transaction()
        after = {name: list(raw_mongodb[name].find()) for name in before}
        assert after == before

        unit.start_transaction()
        _write(store.within(unit))
        client[raw_mongodb.name].orders.insert_one({"_id": "theirs"}, session=unit)
        unit.commit_transaction()
    _check(store)
    assert raw_mongodb.orders.count_documents({}) == 1
    assert store.sessions.add_message("session", message("next")) == 5
    assert raw_mongodb.messages.count_documents({}) == 5 + 1 + 2


def test_every_command_of_a_call_is_in_the_transaction(
    store: Persistence, client: Client, commands: Commands
) -> None:
    _prepare(store)
    with client.start_session() as unit, unit.start_transaction():
        commands.sent.clear()
        _write(store.within(unit))
        _check(store.within(unit))
        outside = [name for name, command in commands.sent if not command.get("txnNumber")]
        assert outside == []
        assert len(commands.sent) > 40


@pytest.mark.parametrize(
    "refused",
    [
        lambda inside: inside.sessions.add_message("absent", message()),
        lambda inside: inside.sessions.add_message("session", message("other", id="a")),
        lambda inside: inside.sessions.add_message("session", message(), expected=3),
        lambda inside: inside.sessions.create(session("session")),
        lambda inside: inside.sessions.fork("session", session("session")),
        lambda inside: inside.sessions.replace_message("session", message(id="absent")),
        lambda inside: inside.sessions.rewrite("session", after="b", messages=[message(id="a")]),
        lambda inside: inside.images.update("absent", {"name": "n"}),
    ],
)
def test_a_refused_call_leaves_the_transaction_usable(
    store: Persistence, client: Client, refused: Callable[[Persistence], object]
) -> None:
    _prepare(store)
    with client.start_session() as unit, unit.start_transaction():
        inside = store.within(unit)
        inside.sessions.add_message("session", message("before"))
        with pytest.raises((RecordConflictError, RecordNotFoundError)):
            refused(inside)
        inside.sessions.add_message("session", message("after"))
    assert texts(store) == [*"abcd", "before", "after"]


def test_an_error_that_ends_the_transaction_is_pymongos(store: Persistence, client: Client) -> None:
    _prepare(store)
    with client.start_session() as unit:
        unit.start_transaction()
        inside = store.within(unit)
        assert texts(inside) == ["a", "b", "c", "d"]
        store.sessions.save(session(title="changed by another"))
        with pytest.raises(OperationFailure) as raised:
            inside.sessions.save(session(title="late"))
        assert raised.value.has_error_label("TransientTransactionError")


def test_a_head_that_is_held_is_freed_in_the_transaction(
    store: Persistence, client: Client, raw_mongodb: Database[Any]
) -> None:
    _prepare(store)
    held = {"by": ObjectId(), "count": 1}
    raw_mongodb.sessions.update_one({"_id": "session"}, {"$set": {"held": held}})
    before = raw_mongodb.sessions.find_one()
    assert before is not None
    with client.start_session() as unit:
        unit.start_transaction()
        began = time.monotonic()
        assert store.within(unit).sessions.add_message("session", message("e")) == 5
        assert time.monotonic() - began < 5
        assert raw_mongodb.sessions.find_one() == before
        unit.abort_transaction()
        assert raw_mongodb.sessions.find_one() == before

        unit.start_transaction()
        assert store.within(unit).sessions.add_message("session", message("e")) == 5
        unit.commit_transaction()
    assert texts(store) == [*"abcde"]
    assert "held" not in (raw_mongodb.sessions.find_one() or {})


def test_what_is_no_open_transaction_of_this_client_is_refused(
    store: Persistence, client: Client, mongodb_server: MongodbServer
) -> None:
    with client.start_session() as unit:
        for wrong in (unit, client, None):
            with pytest.raises(ConfigurationError, match="transaction"):
                store.within(wrong)
    with mongodb_server.connect() as other, other.start_session() as foreign:
        foreign.start_transaction()
        with pytest.raises(ConfigurationError, match="client="):
            store.within(foreign)
