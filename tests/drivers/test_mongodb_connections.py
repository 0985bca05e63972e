"""Reaching a MongoDB server, losing it, and what is said when that fails."""

from __future__ import annotations

import os
import re
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.errors import AutoReconnect, OperationFailure

from agentx_persistence import (
    BackendUnavailableError,
    ConfigurationError,
    InvalidRecordError,
    Persistence,
    create_persistence,
)
from agentx_persistence.mongodb import mongodb_driver
from tests.backends.backend import Backend
from tests.backends.mongodb import backend_on
from tests.contract.records import image, message, saved_session, session, texts
from tests.drivers.killing import exit_status, in_child
from tests.servers.mongodb import MongodbServer, start_server
from tests.servers.process import free_port

PASSWORD = "s3cr3t:p@ss/w%rd"
QUOTED = "s3cr3t%3Ap%40ss%2Fw%25rd"


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[MongodbServer]:
    """A server that the test may stop and kill."""
    server = start_server(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port where somebody listens who never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def _shown(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + repr(error) + str(error)


@pytest.mark.parametrize("listening", [False, True])
def test_an_unreachable_server_is_an_error_within_five_seconds(
    listening: bool, silent_port: int
) -> None:
    port = silent_port if listening else free_port()
    began = time.monotonic()
    with pytest.raises(BackendUnavailableError, match=str(port)) as raised:
        create_persistence(mongodb_driver(f"mongodb://user:{QUOTED}@127.0.0.1:{port}"))
    assert time.monotonic() - began < 5
    assert raised.value.__cause__ is not None
    for secret in (PASSWORD, QUOTED):
        assert secret not in _shown(raised.value)


@pytest.mark.parametrize(
    "connection_string",
    [
        f"mongodb://user:{PASSWORD}@host",
        f"mongodb://user:{QUOTED}@host:{QUOTED}",
        f"mongodb://user:{QUOTED}@host/?unknownOption[=1",
        f"http://user:{QUOTED}@host",
        f"mongodb://user:{QUOTED}@host/?maxPoolSize={QUOTED}",
        f"mongodb://user:{QUOTED}@[::1",
        "",
        f"mongodb://{PASSWORD}",
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_wrong_connection_string_is_refused_without_being_quoted(connection_string: str) -> None:
    driver = mongodb_driver(connection_string, serverSelectionTimeoutMS=10)
    with pytest.raises((ConfigurationError, BackendUnavailableError)) as raised:
        create_persistence(driver)
    for text in (_shown(raised.value), repr(driver)):
        for part in ("s3cr3t", "ss/w", QUOTED):
            assert part not in text


@pytest.mark.parametrize(
    ("database_name", "prefix"), [("", ""), ("a.b", ""), ("a b", ""), ("$", ""), ("a", "$x")]
)
def test_a_name_that_mongodb_cannot_have_is_refused(
    mongodb_server: MongodbServer, database_name: str, prefix: str
) -> None:
    driver = mongodb_driver(
        mongodb_server.url, database_name=database_name, collection_prefix=prefix
    )
    with pytest.raises(InvalidRecordError) as raised:
        create_persistence(driver)
    assert raised.value.field == ("collection_prefix" if prefix else "database_name")


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"client": object()}, "client"),
        ({"patience": 0}, "patience"),
        ({"patience": "long"}, "patience"),
    ],
)
def test_an_argument_of_a_wrong_kind_is_refused_by_name(
    options: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRecordError) as raised:
        mongodb_driver(**options)
    assert raised.value.field == field


@pytest.mark.parametrize(
    ("code", "words"), [(13, "role readWrite"), (18, "password"), (8000, "password")]
)
def test_what_repeating_cannot_cure_is_a_configuration_error(
    mongodb_backend: Backend, monkeypatch: pytest.MonkeyPatch, code: int, words: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OperationFailure("refused", code)

    with mongodb_backend.open() as persistence:
        with monkeypatch.context() as patch:
            patch.setattr(Collection, "update_one", refuse)
            with pytest.raises(ConfigurationError, match=words) as raised:
                persistence.images.save(image())
        assert isinstance(raised.value.__cause__, OperationFailure)
        persistence.images.save(image())
    monkeypatch.setattr(Collection, "create_indexes", refuse)
    with pytest.raises(ConfigurationError, match=words):
        mongodb_backend.open()


def test_what_passes_is_repeated_and_logged(
    mongodb_backend: Backend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    insert_one = Collection.insert_one
    failures = 2

    def lose(rows: Any, document: Any, **options: Any) -> Any:
        nonlocal failures
        insert_one(rows, document, **options)
        if failures:
            failures -= 1
            raise AutoReconnect("the answer is lost")

    with mongodb_backend.open() as persistence:
        saved_session(persistence)
        monkeypatch.setattr(Collection, "insert_one", lose)
        assert persistence.sessions.add_message("session", message("once")) == 1
        assert texts(persistence) == ["once"]
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    assert "the answer is lost" in caplog.text


@pytest.mark.parametrize("name", ["update_one", "insert_one", "find_one_and_update"])
def test_a_lost_answer_is_applied_once(
    mongodb_backend: Backend, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Each verb, whose every such command is done, but answered only when it is repeated."""
    with mongodb_backend.open() as persistence:
        for verb, expected in LOSING.items():
            saved_session(persistence, verb)
            sessions = persistence.sessions
            sessions.add_messages(verb, [message(text, id=text) for text in "abc"])
            command, answered = getattr(Collection, name), set[str]()

            def lose(
                *arguments: Any,
                command: Any = command,
                answered: set[str] = answered,
                **options: Any,
            ) -> Any:
                done = command(*arguments, **options)
                # A message that is sent again has another `_id`.
                key = re.sub(r"ObjectId\('\w+'\)", "", str(arguments[1:]))
                if key not in answered:
                    answered.add(key)
                    raise AutoReconnect("the answer is lost")
                return done

            with monkeypatch.context() as patch:
                patch.setattr(Collection, name, lose)
                expected[0](persistence, verb)
            assert texts(persistence, verb) == expected[1], verb
            persistence.images.delete("image")


LOSING: dict[str, tuple[Callable[[Persistence, str], object], list[str]]] = {
    "append": (lambda p, id: p.sessions.add_message(id, message("d", id="d")), [*"abcd"]),
    "rewrite": (
        lambda p, id: p.sessions.rewrite(id, after="a", messages=[message("d", id="b")]),
        [*"ad"],
    ),
    "truncate": (lambda p, id: p.sessions.truncate_after(id, "a"), ["a"]),
    "replace": (
        lambda p, id: p.sessions.replace_message(id, message("B", id="b")),
        [*"aBc"],
    ),
    "create": (lambda p, id: p.images.create(image(f"of {id}")), [*"abc"]),
    "update": (lambda p, id: p.sessions.update(id, {"title": "new"}), [*"abc"]),
    "fork": (lambda p, id: p.sessions.fork(id, session("copy")), [*"abc"]),
}


def test_options_go_before_the_connection_string_and_that_before_the_defaults() -> None:
    url = f"mongodb://127.0.0.1:{free_port()}/?serverSelectionTimeoutMS=50"
    began = time.monotonic()
    with pytest.raises(BackendUnavailableError):
        create_persistence(mongodb_driver(url))
    assert time.monotonic() - began < 2
    with pytest.raises(BackendUnavailableError, match=r"0\.12"):
        create_persistence(mongodb_driver(url, serverSelectionTimeoutMS=120))


def test_closing_leaves_the_callers_client_open_and_ends_the_own(
    mongodb_backend: Backend, mongodb_server: MongodbServer
) -> None:
    opened: list[object] = []
    with MongoClient(mongodb_server.url) as client:
        driver = mongodb_driver(client=client, **mongodb_backend.options)
        create_persistence(driver).close()
        assert client.admin.command("ping")["ok"] == 1
        opened.append(driver)
    before = threading.active_count()
    for _ in range(3):
        mongodb_backend.open().close()
    deadline = time.monotonic() + 10
    while threading.active_count() > before:
        assert time.monotonic() < deadline, threading.enumerate()
        time.sleep(0.05)


def test_a_server_killed_and_started_again_loses_no_acknowledged_message(
    own_server: MongodbServer,
) -> None:
    assert own_server.process is not None
    backend = backend_on(own_server)
    acknowledged: list[str] = []
    failed: list[BaseException] = []
    ended = threading.Event()
    with backend.open() as persistence:
        saved_session(persistence)

        def append() -> None:
            while not ended.is_set():
                sent = message(str(len(acknowledged)))
                try:
                    persistence.sessions.add_message("session", sent)
                except BackendUnavailableError as error:
                    failed.append(error)
                    # Repeating it is safe, whether or not it had arrived.
                    while not ended.is_set():
                        try:
                            persistence.sessions.add_message("session", sent)
                            break
                        except BackendUnavailableError as again:
                            failed.append(again)
                    else:
                        return
                acknowledged.append(str(sent.content))

        writer = threading.Thread(target=append)
        writer.start()
        try:
            for _ in range(2):
                time.sleep(0.7)
                own_server.process.kill()
                time.sleep(0.3)
                own_server.process.start()
            reached = len(acknowledged)
            deadline = time.monotonic() + 30
            while len(acknowledged) < reached + 5:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        finally:
            ended.set()
            writer.join()
        history = texts(persistence)
    assert history[: len(acknowledged)] == acknowledged
    assert len(history) - len(acknowledged) in (0, 1)
    assert failed == []  # both times it was back before patience ran out


def test_a_server_that_is_gone_is_an_error_in_the_end(
    own_server: MongodbServer,
) -> None:
    assert own_server.process is not None
    backend = backend_on(own_server)
    driver = mongodb_driver(
        own_server.url, patience=1, **backend.options, serverSelectionTimeoutMS=500
    )
    with create_persistence(driver) as persistence:
        saved_session(persistence)
        own_server.process.stop()
        for call in (
            persistence.ping,
            lambda: persistence.sessions.add_message("session", message()),
            lambda: persistence.sessions.get_messages("session"),
            lambda: persistence.images.find_all(),
            lambda: persistence.sessions.delete("session"),
        ):
            with pytest.raises(BackendUnavailableError, match=backend.options["database_name"]):
                call()
        own_server.process.start()
        assert persistence.sessions.add_message("session", message()) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_children_use_connections_of_their_own(mongodb_backend: Backend) -> None:
    with mongodb_backend.open() as persistence:
        saved_session(persistence)
        persistence.sessions.add_message("session", message("parent"))

        def work() -> None:
            try:
                for _ in range(5):
                    persistence.sessions.add_message("session", message("child"))
                persistence.images.save(image(f"i{os.getpid()}"))
                persistence.close()
            except BaseException:
                traceback.print_exc()
                raise

        children = [in_child(work) for _ in range(3)]
        for _ in range(5):
            persistence.sessions.add_message("session", message("parent"))
        assert [exit_status(child) for child in children] == [0, 0, 0]
        assert sorted(texts(persistence)) == ["child"] * 15 + ["parent"] * 6
        assert len(persistence.images.find_all()) == 3
