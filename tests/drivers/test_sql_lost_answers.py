"""Answers that are lost after the server has done its work: the repeated call is applied once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

from agentx_persistence import BackendUnavailableError, RecordNotFoundError
from agentx_persistence._sql.connections import LostConnectionError
from agentx_persistence.storage import SESSIONS, Slice, Storage, Window
from tests.backends.backend import Backend
from tests.port.given import entries, history, log_of, plain, session, token


@pytest.fixture(params=["mysql", "mariadb", "postgresql"])
def storage(request: pytest.FixtureRequest) -> Iterator[Storage]:
    backend: Backend = request.getfixturevalue(f"{request.param}_backend")
    storage = backend.driver().create_storage()
    yield storage
    storage.close()


def lose(storage: Any, meanwhile: Callable[[], object] = lambda: None) -> None:
    """Lose the answer to the next transaction; then do something before the next one."""
    connections = storage._database._connections
    lost: list[Any] = []

    def losing(call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            answer = call(*arguments)
            if lost:
                return answer
            lost.append(answer)
            writing, storage._database._writing = storage._database._writing, set()
            meanwhile()  # another client would do this
            storage._database._writing = writing
            raise LostConnectionError

        return run

    for name in ("fetch", "write"):
        setattr(connections, name, losing(getattr(connections, name)))


@pytest.mark.parametrize("given", [(), ("x", "b"), tuple("uvwxyz")])
def test_a_tail_is_replaced_once(storage: Storage, given: tuple[str, ...]) -> None:
    log_of(storage, "abc")
    count, generation = storage.head("log")
    lose(storage)
    new = entries(*given)
    assert storage.rewrite("log", 1, new, 9, token(), expected=count, generation=generation) == 2
    assert history(storage) == ["a", *given]


def test_a_tail_is_replaced_once_and_what_is_added_then_stays(storage: Storage) -> None:
    log_of(storage, "abc")
    count, generation = storage.head("log")
    lose(storage, lambda: storage.append("log", entries("later"), 9000))
    new = entries("x", "y")
    assert storage.rewrite("log", 2, new, 9, token(), expected=count, generation=generation) == 1
    assert history(storage) == ["a", "b", "x", "y", "later"]


def test_a_change_after_a_lost_answer_leaves_open_if_the_tail_was_replaced(
    storage: Storage,
) -> None:
    log_of(storage, "abc")
    count, generation = storage.head("log")
    lose(storage, lambda: storage.rewrite("log", "a", entries("other"), 9, token()))
    with pytest.raises(BackendUnavailableError, match="was lost"):
        storage.rewrite("log", 2, [], 9, token(), expected=count, generation=generation)
    assert history(storage) == ["a", "other"]


@pytest.mark.parametrize("meanwhile", [False, True])
def test_a_tail_is_exchanged_once(storage: Storage, meanwhile: bool) -> None:
    log_of(storage, "abc")
    shown: list[Slice] = []
    lose(storage, lambda: meanwhile and storage.append("log", entries("later"), 9000))
    last = Window(last=1, headed=True)
    assert storage.exchange("log", last, [], 9, token(), shown.append) is None
    removed = plain(shown[-1].texts[0])
    kept = [text for text in ("a", "b", "c", *(["later"] * meanwhile)) if text != removed]
    assert history(storage) == kept


def test_a_change_after_a_lost_answer_leaves_open_if_the_tail_was_exchanged(
    storage: Storage,
) -> None:
    log_of(storage, "abc")
    shown: list[Slice] = []
    lose(storage, lambda: storage.rewrite("log", "a", entries("other"), 9, token()))
    window = Window("b", headed=True)
    with pytest.raises((BackendUnavailableError, RecordNotFoundError)):
        storage.exchange("log", window, [], 9, token(), shown.append)
    assert history(storage) == ["a", "other"]


def test_a_fork_knows_how_much_it_has_copied(storage: Storage) -> None:
    log_of(storage, "abc")
    meanwhile: list[Callable[[], object]] = [
        lambda: None,
        lambda: storage.append("copy", entries("later"), 9000),
        lambda: storage.put(SESSIONS, session("copy", "other")),
        lambda: storage.rewrite("copy", "b", entries("later"), 9000, token()),
    ]
    for change in meanwhile:
        lose(storage, change)
        assert storage.fork("log", "b", session("copy")) == 2
        assert history(storage, "copy")[:2] == ["a", "b"]
        assert storage.fork("log", "b", session("copy")) is None
        assert storage.delete(SESSIONS, "copy")


@pytest.mark.parametrize("known", [False, True])
def test_what_an_attempt_deleted_is_told_after_a_lost_answer(storage: Storage, known: bool) -> None:
    before = 5000 if known else None
    log_of(storage, "abc")
    lose(storage)
    assert storage.delete(SESSIONS, "log", before=before) is True
    assert storage.delete(SESSIONS, "log", before=before) is False


def test_a_session_that_is_too_new_stays_after_a_lost_answer(storage: Storage) -> None:
    log_of(storage, "abc")
    storage.append("log", entries("new"), 5000)
    lose(storage, lambda: storage.append("log", entries("newer"), 6000))
    assert storage.delete(SESSIONS, "log", before=5000) is False
    assert history(storage) == ["a", "b", "c", "new", "newer"]


@pytest.mark.parametrize("at", [1000, 6000])
def test_a_session_that_is_created_after_a_lost_answer_is_deleted_only_if_it_is_old(
    storage: Storage, at: int
) -> None:
    log_of(storage, "abc")
    lose(storage, lambda: storage.append("log", entries("x"), at, create=session()))
    if at < 5000:
        assert storage.delete(SESSIONS, "log", before=5000) is True
        assert storage.newest(["log"]) == {}
    else:
        with pytest.raises(BackendUnavailableError, match="was lost"):
            storage.delete(SESSIONS, "log", before=5000)
        assert history(storage) == ["x"]


def test_an_attempt_that_was_undone_has_deleted_nothing(
    storage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_of(storage, "abc")
    database = storage._database
    write, attempts = database._connections.write, count()

    def undone_at_first(work: Callable[[Any], Any]) -> Any:
        def deadlock(cursor: Any) -> None:
            work(cursor)
            raise database._dbapi.OperationalError("undone")

        return write(work if next(attempts) else deadlock)

    def pause(_: float) -> None:
        database._writing.clear()  # another client would do this
        storage.put(SESSIONS, session(updated_at=6000))

    for name in ("is_transient", "is_undone"):
        monkeypatch.setattr(database.flavour, name, lambda error: True)
    monkeypatch.setattr("agentx_persistence.storage._retrying.time.sleep", pause)
    monkeypatch.setattr(database._connections, "write", undone_at_first)
    assert storage.delete(SESSIONS, "log", before=5000) is False
    assert next(attempts) == 2
    assert history(storage) == ["a", "b", "c"]
