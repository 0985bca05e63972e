"""What is left when a process dies between two commands, and what is made of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from bson import ObjectId
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import OperationFailure

from agentx_persistence import Persistence, RecordNotFoundError, UserMessage
from agentx_persistence._mongodb import appending, log
from agentx_persistence.storage import SESSIONS
from tests.backends.backend import Backend
from tests.backends.mongodb import backend_on, checked_history
from tests.contract.records import container, image, message, saved_session, session, texts
from tests.servers.mongodb import MongodbServer, start_server

COMMANDS = (
    "aggregate",
    "find_one",
    "find",
    "insert_many",
    "update_one",
    "update_many",
    "insert_one",
    "delete_one",
    "delete_many",
    "find_one_and_update",
)


class Died(BaseException):
    """Ends a call as a killed process would: nothing that follows is run."""


@pytest.fixture(scope="module")
def stand_alone_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongodbServer]:
    """A server without transactions."""
    server = start_server(tmp_path_factory.mktemp("mongodb"), stand_alone=True)
    yield server
    server.stop()


@pytest.fixture(params=["replica set", "stand-alone"])
def server(request: pytest.FixtureRequest) -> MongodbServer:
    name = "mongodb_server" if request.param == "replica set" else "stand_alone_server"
    found: MongodbServer = request.getfixturevalue(name)
    return found


@pytest.fixture
def mongo(server: MongodbServer) -> Iterator[Backend]:
    backend = backend_on(server)
    yield backend
    server.drop(backend.options["database_name"])


@pytest.fixture
def store(mongo: Backend) -> Iterator[Persistence]:
    with mongo.open() as persistence:
        yield persistence


@pytest.fixture
def raw(server: MongodbServer, mongo: Backend) -> Iterator[Database[Any]]:
    with server.connect() as client:
        yield client[mongo.options["database_name"]]


def dying(
    monkeypatch: pytest.MonkeyPatch, work: Callable[[], object], step: int
) -> tuple[bool, object]:
    """Run `work` up to its command number `step`; return whether it ended before, and its result.

    Commands count from 1; the one with this number is not sent any more.
    """
    sent = 0

    def counted(command: Callable[..., Any]) -> Callable[..., Any]:
        def send(*arguments: Any, **options: Any) -> Any:
            nonlocal sent
            sent += 1
            if sent == step:
                raise Died
            return command(*arguments, **options)

        return send

    with monkeypatch.context() as patch:
        for name in COMMANDS:
            patch.setattr(Collection, name, counted(getattr(Collection, name)))
        try:
            return True, work()
        except Died:
            return False, None


def steps(
    monkeypatch: pytest.MonkeyPatch, work: Callable[[], object], most: int = 20
) -> Iterator[int]:
    """Let `work` die at each of its commands in turn, until it gets through."""
    for step in range(1, most + 1):
        ended, _ = dying(monkeypatch, work, step)
        yield step
        if ended:
            assert step > 1
            return
    pytest.fail("it never ended")


@pytest.fixture(params=["found free", "beaten"])
def beaten(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether appends find another writer ahead, so that they stage their messages."""
    if request.param == "beaten":
        monkeypatch.setattr(appending, "_SIMPLE_ATTEMPTS", 0)
        monkeypatch.setattr(appending, "_OF_A_BATCH", 0)
        # The next writer waits so long for one that died while it held the head.
        monkeypatch.setattr(log, "_HOLD", 0.05)
    return request.param == "beaten"


@pytest.mark.parametrize("size", [1, 5])
def test_an_append_that_dies_is_there_wholly_or_not_at_all(
    store: Persistence,
    raw: Database[Any],
    monkeypatch: pytest.MonkeyPatch,
    size: int,
    beaten: bool,
) -> None:
    saved_session(store)
    expected: list[str] = []
    sent: list[UserMessage] = []

    def append() -> None:
        sent[:] = [message(f"{number}") for number in range(size)]
        store.sessions.add_messages("session", sent)

    for _ in steps(monkeypatch, append):
        whole = [str(m.content) for m in sent]
        there = texts(store)[len(expected) :]
        assert there in ([], whole)
        store.sessions.add_message("session", message("next"))
        expected += [*there, "next"]
        assert texts(store) == expected
        # The same again keeps its place, or gets one.
        positions = store.sessions.add_messages("session", sent)
        expected += [] if there else whole
        assert checked_history(store, raw) == expected
        assert [expected[position - 1] for position in positions] == whole


@pytest.mark.parametrize("next_size", [1, 3, 8])
@pytest.mark.parametrize("inserted", range(6))
def test_a_batch_that_is_torn_while_it_is_inserted_is_never_seen(
    store: Persistence,
    raw: Database[Any],
    monkeypatch: pytest.MonkeyPatch,
    inserted: int,
    next_size: int,
) -> None:
    saved_session(store)
    store.sessions.add_message("session", message("first"))
    batch = [message(f"batch {number}") for number in range(5)]
    whole = [str(m.content) for m in batch]
    insert_many = Collection.insert_many

    def torn(rows: Any, documents: list[Any], *arguments: Any, **options: Any) -> Any:
        if inserted:
            insert_many(rows, documents[:inserted], *arguments, **options)
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(Collection, "insert_many", torn)
        with pytest.raises(Died):
            store.sessions.add_messages("session", batch)
    assert texts(store) == ["first"]
    following = [message(f"next {number}") for number in range(next_size)]
    store.sessions.add_messages("session", following)
    expected = ["first", *(str(m.content) for m in following)]
    assert texts(store) == expected
    store.sessions.add_messages("session", batch)
    assert texts(store) == expected + whole
    store.sessions.add_messages("session", [message() for _ in range(5)])
    checked_history(store, raw)


def test_a_creating_append_that_dies_creates_all_or_nothing(
    store: Persistence, raw: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    new = session("session")

    def create() -> None:
        store.sessions.add_messages("session", [message("a"), message("b")], create=new)

    for _ in steps(monkeypatch, create):
        if store.sessions.exists("session"):
            assert texts(store) == ["a", "b"]
        else:
            assert store.sessions.add_message("session", message("c"), create=new) == 1
            assert texts(store) == ["c"]
        store.sessions.delete("session")


def test_a_rewrite_that_dies_is_done_or_not(
    store: Persistence, raw: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = ["kept", "old 1", "old 2"]

    def prepare() -> None:
        store.sessions.delete("session")
        saved_session(store)
        store.sessions.add_messages("session", [message(text, id=text) for text in old])

    def rewrite() -> None:
        # One of the ids is used again.
        new = [message("new 1", id="old 2"), message("new 2"), message("new 3")]
        store.sessions.rewrite("session", after="kept", messages=new)

    prepare()
    for _ in steps(monkeypatch, rewrite):
        history = texts(store)
        assert history in (old, ["kept", "new 1", "new 2", "new 3"])
        store.sessions.add_message("session", message("next"))
        assert texts(store) == [*history, "next"]
        assert store.sessions.get_message("session", "old 2").text in ("old 2", "new 1")
        store.sessions.truncate_after("session", "kept")
        store.sessions.add_messages("session", [message(text, id=f"{text}!") for text in old])
        assert texts(store) == ["kept", *old]
        prepare()


def test_a_replacement_that_dies_is_done_or_not(
    store: Persistence, raw: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    saved_session(store)
    store.sessions.add_messages("session", [message(id, id=id) for id in "abc"])
    expected = "b"
    number = 0

    def replace() -> None:
        nonlocal number
        number += 1
        store.sessions.replace_message("session", message(f"b{number}", id="b"))

    for _ in steps(monkeypatch, replace):
        history = texts(store)
        assert history in (["a", expected, "c"], ["a", f"b{number}", "c"])
        expected = history[1]
        number += 1
        store.sessions.replace_message("session", message(f"b{number}", id="b"))
        expected = f"b{number}"
        assert texts(store) == ["a", expected, "c"]
        assert store.sessions.get_message("session", "b").text == expected


def test_a_fork_that_dies_is_there_wholly_or_not_at_all(
    store: Persistence, raw: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    saved_session(store)
    store.sessions.add_messages("session", [message(text) for text in "abc"])
    for _ in steps(monkeypatch, lambda: store.sessions.fork("session", session("copy"))):
        if store.sessions.exists("copy"):
            assert texts(store, "copy") == ["a", "b", "c"]
            store.sessions.delete("copy")
        else:
            store.sessions.save(session("copy"))
            store.sessions.add_message("copy", message("own"))
            assert texts(store, "copy") == ["own"]
            store.sessions.delete("copy")


def test_a_holder_that_died_is_not_waited_for_long(
    store: Persistence, raw: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    saved_session(store)
    held = {"by": ObjectId(), "count": 1}
    raw.sessions.update_one({"_id": "session"}, {"$set": {"held": held}})
    monkeypatch.setattr(log, "_HOLD", 0.3)
    assert texts(store) == []  # readers do not wait
    began = time.monotonic()
    assert store.sessions.add_message("session", message("next")) == 1
    assert 0.3 <= time.monotonic() - began < 5
    assert texts(store) == ["next"]


def test_a_truncation_that_dies_is_done_or_not_and_nothing_comes_back(
    store: Persistence, raw: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    saved_session(store)
    kept = message("kept")
    store.sessions.add_message("session", kept)
    for step in steps(monkeypatch, lambda: store.sessions.truncate_after("session", kept.id)):
        assert texts(store) in (["kept"], ["kept", "a", "b"]) or step == 1
        store.sessions.truncate_after("session", kept.id)
        assert raw.messages.count_documents({"session_id": "session"}) == 1
        assert texts(store) == ["kept"]
        assert store.sessions.add_messages("session", [message("a"), message("b")]) == [2, 3]
        assert checked_history(store, raw) == ["kept", "a", "b"]


@pytest.mark.parametrize("before", [None, 2**53])
def test_a_deletion_that_dies_is_done_or_not_and_can_be_repeated(
    store: Persistence, raw: Database[Any], monkeypatch: pytest.MonkeyPatch, before: int | None
) -> None:
    def prepare() -> None:
        saved_session(store)
        store.sessions.add_messages("session", [message(), message()])

    def delete(before: int | None = before) -> bool:
        return store.sessions._storage.delete(SESSIONS, "session", before=before)

    prepare()
    for _ in steps(monkeypatch, delete):
        if store.sessions.exists("session"):
            assert store.sessions.count_messages("session") == 2
            assert delete() is True
        else:
            with pytest.raises(RecordNotFoundError):
                store.sessions.add_message("session", message())
            assert store.sessions.find_all() == []
            assert delete(before and 0) is False  # what is hidden is not too new
        assert raw.sessions.count_documents({}) == raw.messages.count_documents({}) == 0
        prepare()


def test_a_cascade_that_dies_can_be_repeated_and_then_nothing_is_left(
    store: Persistence, raw: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare() -> None:
        store.containers.save(container())
        for number in range(2):
            store.images.save(image(f"i{number}"))
            store.sessions.save(session(f"s{number}", image_id=f"i{number}"))
            store.sessions.add_message(f"s{number}", message())

    prepare()
    for _ in steps(monkeypatch, lambda: store.containers.delete("box"), most=60):
        store.containers.delete("box")
        for collection in ("containers", "images", "sessions", "messages"):
            assert raw[collection].count_documents({}) == 0
        prepare()


@pytest.mark.parametrize("server", ["replica set"], indirect=True)
def test_a_cascade_that_dies_within_a_transaction_leaves_everything(
    store: Persistence, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.containers.save(container())
    store.images.save(image("i"))
    saved_session(store)
    store.sessions.add_message("session", message("kept"))
    deaths = 0
    for _ in steps(monkeypatch, lambda: store.containers.delete("box"), most=60):
        if not store.containers.exists("box"):
            break
        deaths += 1
        assert store.images.exists("i")
        assert texts(store) == ["kept"]
    assert deaths > 5


def test_a_session_that_is_made_again_over_an_interrupted_deletion_is_empty(
    store: Persistence, raw: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in range(1, 5):
        saved_session(store)
        store.sessions.add_messages("session", [message("old"), message("old")])
        dying(monkeypatch, lambda: store.sessions.delete("session"), step)
        gone = not store.sessions.exists("session")
        saved_session(store)
        store.sessions.add_messages("session", [message("new"), message("new"), message("new")])
        assert texts(store) == ([] if gone else ["old", "old"]) + ["new"] * 3
        store.sessions.delete("session")
        assert raw.messages.count_documents({}) == 0


@pytest.mark.parametrize("server", ["replica set"], indirect=True)
def test_what_is_too_large_for_a_transaction_is_deleted_step_by_step(
    store: Persistence, raw: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    store.images.save(image("i"))
    store.sessions.save(session(image_id="i"))
    store.sessions.add_message("session", message())
    transaction_too_large_for_cache = OperationFailure("too large", 388)

    def refuse(*_: object) -> None:
        raise transaction_too_large_for_cache

    monkeypatch.setattr(ClientSession, "commit_transaction", refuse)
    assert store.images.delete("i") is True
    for collection in ("images", "sessions", "messages"):
        assert raw[collection].count_documents({}) == 0
