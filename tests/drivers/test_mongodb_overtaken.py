"""An append to MongoDB between whose commands something else happens to the session."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import AutoReconnect

from agentx_persistence import (
    BackendError,
    BackendUnavailableError,
    Persistence,
    RecordNotFoundError,
    SessionRecord,
    create_persistence,
)
from agentx_persistence._mongodb import appending
from agentx_persistence._mongodb.documents import Documents
from agentx_persistence._mongodb.log import Log
from agentx_persistence.mongodb import mongodb_driver
from agentx_persistence.storage import IMAGES, SESSIONS, Document
from tests.backends.backend import Backend
from tests.backends.mongodb import checked_history
from tests.contract.records import message, saved_session, texts
from tests.port.given import entries, history, log_of, session, token
from tests.servers.mongodb import Commands


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


def test_a_batch_beside_a_fast_writer_needs_few_commands(
    mongodb_backend: Backend, raw_mongodb: Database[Any]
) -> None:
    commands, ended = Commands(), threading.Event()
    driver = mongodb_driver(
        *mongodb_backend.arguments, **mongodb_backend.options, event_listeners=[commands]
    )
    sent: list[str] = []

    def append() -> None:
        with mongodb_backend.open() as other:
            while not ended.is_set():
                sent.append(f"other {len(sent)}")
                other.sessions.add_message("session", message(sent[-1]))

    with create_persistence(driver) as store:
        saved_session(store)
        writer = threading.Thread(target=append)
        writer.start()
        try:
            for number in range(3):
                while len(sent) < 5 * (number + 1):
                    time.sleep(0.01)
                commands.sent.clear()
                batch = [f"{number} {place}" for place in range(300)]
                added = store.sessions.add_messages("session", [message(text) for text in batch])
                assert added == list(range(added[0], added[0] + 300))
                assert commands.names.count("insert") <= 2
                assert len(commands.names) < 20
                assert texts(store)[added[0] - 1 : added[-1]] == batch
        finally:
            ended.set()
            writer.join()
        history = checked_history(store, raw_mongodb)
    assert [text for text in history if text.startswith("other")] == sent


@pytest.mark.parametrize("count", [1, 40])
def test_a_call_from_a_signal_handler_inside_another_call_is_refused_at_once(
    mongodb_backend: Backend, raw_mongodb: Database[Any], count: int
) -> None:
    refused: list[BackendError] = []

    class Signalling(Commands):
        """Sends a signal before some of the commands of the main thread."""

        def started(self, event: Any) -> None:
            super().started(event)
            if len(self.sent) in (12, 13, 14):
                signal.raise_signal(signal.SIGUSR1)

    def handle(*_: object) -> None:
        with pytest.raises(BackendError, match="set a flag there") as raised:
            store.sessions.add_message("session", message("from a handler"))
        refused.append(raised.value)

    driver = mongodb_driver(
        *mongodb_backend.arguments, **mongodb_backend.options, event_listeners=[Signalling()]
    )
    before = signal.signal(signal.SIGUSR1, handle)
    try:
        with create_persistence(driver) as store:
            saved_session(store)
            for number in range(3):
                store.sessions.add_messages(
                    "session", [message(f"{number} {place}") for place in range(count)]
                )
            assert len(checked_history(store, raw_mongodb)) == 3 * count
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert len(refused) == 3
    assert not isinstance(refused[0], BackendUnavailableError)


@pytest.mark.parametrize("change", ["append", "put", "rewrite", "grow", "cut", "delete"])
def test_a_fork_whose_answer_is_lost_knows_how_much_it_has_copied(
    mongodb_backend: Backend, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    storage, other = (mongodb_backend.driver().create_storage() for _ in range(2))
    changes: dict[str, Callable[[], object]] = {
        "append": lambda: other.append("copy", entries("later"), 9000),
        "put": lambda: other.put(SESSIONS, session("copy", "other")),
        "rewrite": lambda: other.rewrite("copy", "b", entries("later"), 9000, token()),
        "grow": lambda: other.append("log", entries("later"), 9000),
        "cut": lambda: other.rewrite("log", "a", [], 9000, token()),
        "delete": lambda: other.delete(SESSIONS, "log"),
    }
    insert, lost = Documents.insert, list[str]()

    def lose(documents: Documents, document: Document, *rest: Any) -> bool:
        inserted = insert(documents, document, *rest)
        if document.key == "copy" and not lost:
            lost.append(document.key)
            changes[change]()
            raise AutoReconnect("the answer is lost")
        return inserted

    log_of(storage, "abc")
    with monkeypatch.context() as patch:
        patch.setattr(Documents, "insert", lose)
        through = "c" if change == "cut" else None
        assert storage.fork("log", through, session("copy")) == 3
        assert lost
    assert history(storage, "copy")[:2] == ["a", "b"]
    log_of(storage, "abc", "another")
    assert storage.fork("another", None, session("copy")) is None
    storage.close()
    other.close()


@pytest.mark.parametrize("at", [None, 1000, 6000])
def test_a_deletion_whose_answer_is_lost_deletes_no_session_that_is_too_new(
    mongodb_backend: Backend, monkeypatch: pytest.MonkeyPatch, at: int | None
) -> None:
    storage, other = (mongodb_backend.driver().create_storage() for _ in range(2))
    log_of(storage, "abc")
    send, lost = Collection.find_one_and_update, False

    def lose(*arguments: Any, **options: Any) -> Any:
        nonlocal lost
        found = send(*arguments, **options)
        if not lost:
            lost = True
            if at is not None:
                other.append("log", entries("x"), at, create=session())
            raise AutoReconnect("the answer is lost")
        return found

    monkeypatch.setattr(Collection, "find_one_and_update", lose)
    if at == 6000:
        with pytest.raises(BackendUnavailableError, match="read it to see"):
            storage.delete(SESSIONS, "log", before=5000)
        assert history(storage) == ["x"]
    else:
        assert storage.delete(SESSIONS, "log", before=5000) is True
        assert storage.newest(["log"]) == {}
    storage.close()
    other.close()


def test_what_was_staged_is_removed_if_the_session_is_deleted_and_created_anew(
    store: Persistence,
    mongodb_backend: Backend,
    raw_mongodb: Database[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    saved_session(store)
    hold = Log.hold
    new = SessionRecord(session_id="session")
    batch = [message(f"{number}") for number in range(20)]
    with mongodb_backend.open() as other:

        def late(log: Log, count: int) -> None:
            other.sessions.delete("session")
            hold(log, count)

        monkeypatch.setattr(Log, "hold", late)
        monkeypatch.setattr(appending, "_OF_A_BATCH", 0)  # the first attempt holds the head
        assert store.sessions.add_messages("session", batch, create=new) == list(range(1, 21))
    assert raw_mongodb["messages"].count_documents({"session_id": "session"}) == 20


@pytest.mark.parametrize("again", ["not", "older", "newer"])
def test_a_deletion_in_a_transaction_whose_answer_is_lost_knows_that_it_deleted(
    mongodb_backend: Backend, monkeypatch: pytest.MonkeyPatch, again: str
) -> None:
    storage, other = (mongodb_backend.driver().create_storage() for _ in range(2))
    commit, lost = ClientSession.commit_transaction, False
    image = Document("image", "{}", 1000, 1000, {"container_id": "box"}, "r")
    newer = image._replace(revision="s", updated_at=6000 if again == "newer" else 1000)

    def lose(unit: ClientSession) -> None:
        nonlocal lost
        commit(unit)
        if not lost:
            lost = True
            if again != "not":
                other.put(IMAGES, newer)
            raise AutoReconnect("the answer is lost")

    storage.put(IMAGES, image)
    monkeypatch.setattr(ClientSession, "commit_transaction", lose)
    if again == "newer":
        with pytest.raises(BackendUnavailableError, match="read it to see"):
            storage.delete(IMAGES, "image", before=5000)
        assert list(storage.get(IMAGES, ["image"])) == ["image"]
    else:
        assert storage.delete(IMAGES, "image", before=5000) is True
        assert storage.get(IMAGES, ["image"]) == {}
    assert lost
    storage.close()
    other.close()
