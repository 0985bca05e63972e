"""Deletions and cuts that are too large for one transaction, on small data and smaller limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

from agentx_persistence import ConfigurationError, RecordNotFoundError
from agentx_persistence._sql import deletion, owned, rewriting, rows
from agentx_persistence.storage import CONTAINERS, IMAGES, ITEMS, SESSIONS, Kind, Query, Storage
from tests.backends.backend import Backend
from tests.port.given import document, entries, entry, history, item, log_of, session


@pytest.fixture(params=["sqlite", "mariadb", "mysql", "postgresql"])
def storage(request: pytest.FixtureRequest) -> Iterator[Storage]:
    backend: Backend = request.getfixturevalue(f"{request.param}_backend")
    storage = backend.driver().create_storage()
    yield storage
    storage.close()


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (deletion, owned, rewriting, rows):
        monkeypatch.setattr(module, "CHUNK", 4)
    for module in (deletion, owned):
        monkeypatch.setattr(module, "LISTED", 3)
    monkeypatch.setattr(deletion, "_IMAGES", 2)
    monkeypatch.setattr("agentx_persistence.sqlite._SqliteFlavour.rest", 0.001)


class Interrupted(Exception):
    pass


def interrupt(storage: Any, after: int) -> Callable[[], None]:
    """Break off after so many transactions; return what undoes that."""
    database = storage._database
    write, number = database.write, count()

    def limited(*arguments: Any) -> Any:
        if next(number) == after:
            raise Interrupted
        return write(*arguments)

    database.write = limited

    def undo() -> None:
        del database.write

    return undo


def rows_of(storage: Any, table: str) -> int:
    (found,) = storage._database.fetch(f"SELECT count(*) FROM agentx_{table}")  # noqa: S608
    return int(found[0])


def long(log: str, number: int = 11) -> list[str]:
    return [f"{log}-{n}" for n in range(number)]


def fill(storage: Storage, *boxes: str) -> None:
    """Make containers with everything: as a rule one, and another one with as much."""
    for box in boxes or ("box", "other"):
        storage.put(CONTAINERS, document(CONTAINERS, box))
        for number in range(5):
            image = f"{box}-image-{number}"
            storage.put(IMAGES, document(IMAGES, image, container_id=box))
            for n in range(1 + number * 2):
                log = f"{image}-{n}"
                made = session(log, container_id="third", image_id=image)
                storage.append(log, entries(*long(log, n * 3)), 1, create=made)
        for number in range(7):
            log = f"{box}-log-{number}"
            made = session(log, container_id=box, image_id="none")
            storage.append(log, entries(*long(log, number * 2)), 1, create=made)
        for number in range(8):
            storage.put(ITEMS, item(box, key=f"key {number}"))
            storage.put(ITEMS, item(box, "deep", key=f"key {number}"))


def everything(storage: Storage, owner: str) -> list[tuple[Kind, str]]:
    """Return all documents whose keys begin with the owner's."""
    found = [
        (kind, stored.key)
        for kind in (CONTAINERS, IMAGES, SESSIONS)
        for stored in storage.find(kind, Query()).documents
    ]
    items = storage.find(ITEMS, Query(order="key")).documents
    found += [(ITEMS, stored.key) for stored in items]
    return [(kind, key) for kind, key in found if key.startswith(owner)]


def test_a_container_goes_with_all_that_it_owns_and_nothing_else(storage: Storage) -> None:
    fill(storage)
    left = everything(storage, "other")
    assert len(left) == 1 + 5 + 25 + 7 + 16
    assert storage.delete(CONTAINERS, "box")
    assert everything(storage, "box") == []
    assert everything(storage, "other") == left
    assert not storage.delete(CONTAINERS, "box")
    assert storage.delete(CONTAINERS, "other")
    for table in ("containers", "images", "sessions", "messages", "items"):
        assert rows_of(storage, table) == 0


def test_an_image_goes_with_its_sessions(storage: Storage) -> None:
    fill(storage)
    assert storage.delete(IMAGES, "box-image-4")
    assert not storage.get(IMAGES, ["box-image-4"])
    assert not storage.find(SESSIONS, Query({"image_id": "box-image-4"})).documents
    assert len(storage.find(SESSIONS, Query({"image_id": "box-image-3"})).documents) == 7


def test_an_interrupted_deletion_hides_the_document_and_can_be_repeated(storage: Storage) -> None:
    fill(storage, "other")
    for after in range(1, 400, 9):
        fill(storage, "box")
        undo = interrupt(storage, after)
        try:
            storage.delete(CONTAINERS, "box")
        except Interrupted:
            undo()
        else:
            undo()
            break
        assert not storage.get(CONTAINERS, ["box"])
        assert not storage.delete(CONTAINERS, "box")
        assert everything(storage, "box") == []
        assert len(everything(storage, "other")) == 1 + 5 + 25 + 7 + 16
    assert 20 < after < 390
    storage.delete(CONTAINERS, "other")
    for table in ("containers", "images", "sessions", "messages", "items"):
        assert rows_of(storage, table) == 0


def test_a_fork_takes_the_id_of_a_long_session_whose_deletion_was_interrupted(
    storage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_of(storage, long("log"))
    log_of(storage, log="other")
    undo = interrupt(storage, 1)
    with pytest.raises(Interrupted):
        storage.delete(SESSIONS, "log")
    undo()
    # Fewer than the chunks that are left.
    monkeypatch.setattr(storage._database, "attempts", 2)
    assert storage.fork("other", None, session("log")) == 5
    assert history(storage) == list("abcde")


@pytest.mark.parametrize("before", [None, 0])
@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_session_that_is_being_deleted_is_there_for_nobody(
    storage: Storage, after: int, before: int | None
) -> None:
    log_of(storage, long("log"))
    undo = interrupt(storage, after)
    with pytest.raises(Interrupted):
        storage.delete(SESSIONS, "log", before=None if before is None else 2**53)
    undo()
    for use in (
        lambda: storage.head("log"),
        lambda: storage.append("log", entries("x"), 1),
        lambda: storage.rewrite("log", None, [], 1, "t"),
        lambda: storage.lookup("log", ["log-1"]),
        lambda: storage.swap("log", entry("log-1"), 1, "t"),
        lambda: storage.fork("log", None, session("copy")),
    ):
        with pytest.raises(RecordNotFoundError):
            use()
    assert storage.get(SESSIONS, ["log"]) == {}
    assert storage.newest(["log"]) == {}
    assert storage.find(SESSIONS, Query()).documents == []
    assert storage.count(SESSIONS, Query({"container_id": "box"})) == 0
    assert storage.delete(SESSIONS, "log", before=before) is False
    assert (rows_of(storage, "sessions"), rows_of(storage, "messages")) == (0, 0)


def test_a_key_whose_session_is_being_deleted_can_be_used_anew(storage: Storage) -> None:
    ways: list[Callable[[], object]] = [
        lambda: storage.put(SESSIONS, session("log")),
        lambda: storage.create(SESSIONS, session("log")),
        lambda: storage.append("log", [], 1, create=session("log")),
        lambda: storage.fork("empty", None, session("log")),
    ]
    storage.put(SESSIONS, session("empty"))
    for way in ways:
        log_of(storage, long("log"))
        generation = storage.head("log").generation
        undo = interrupt(storage, 1)
        with pytest.raises(Interrupted):
            storage.delete(SESSIONS, "log")
        undo()
        way()
        assert storage.head("log").count == 0
        assert storage.head("log").generation != generation
        assert storage.append("log", entries("log-3", "new", "log-0"), 1) == 3
        assert history(storage) == ["log-3", "new", "log-0"]
        assert storage.delete(SESSIONS, "log")
    log_of(storage, long("log"))
    undo = interrupt(storage, 1)
    with pytest.raises(Interrupted):
        storage.delete(SESSIONS, "log")
    undo()
    storage.append("log", entries("log-5"), 1, create=session("log"))
    assert history(storage) == ["log-5"]


def test_a_large_cut_is_one_step_for_readers(storage: Storage) -> None:
    for after in (1, 2):
        log_of(storage, long("log"))
        undo = interrupt(storage, after)
        with pytest.raises(Interrupted):
            storage.rewrite("log", "log-1", entries("log-9"), 1, "token")
        undo()
        assert history(storage) == ["log-0", "log-1", "log-9"]
        assert set(storage.lookup("log", long("log")).there) == {"log-0", "log-1", "log-9"}
        assert storage.append("log", entries("log-4", "log-10"), 1) == 5
        assert storage.fork("log", None, session(f"copy {after}")) == 5
        assert history(storage, f"copy {after}") == history(storage)
        with pytest.raises(RecordNotFoundError):
            storage.fork("log", "log-8", session("another copy"))
        with pytest.raises(RecordNotFoundError):
            storage.swap("log", entry("log-8", "other"), 1, "t")
        assert storage.rewrite("log", "log-9", [], 1, "another") == 2
        assert storage.rewrite("log", None, [], 1, "last") == 3
        assert history(storage) == []
        assert storage.delete(SESSIONS, "log")


def test_a_large_cut_leaves_no_rows(storage: Storage) -> None:
    log_of(storage, long("log", 30))
    assert storage.rewrite("log", "log-1", entries("new"), 1, "token") == 28
    assert rows_of(storage, "messages") == 3


def test_a_fork_replaces_messages_whose_session_others_have_deleted(storage: Any) -> None:
    log_of(storage, ["a", "b", "c"])
    storage.append("copy", entries(*"abcdefgh"), 1, create=session("copy"))
    storage._database.execute("DELETE FROM agentx_sessions WHERE session_id = 'copy'")
    assert storage.fork("log", "b", session("copy")) == 2
    assert history(storage, "copy") == ["a", "b"]
    assert rows_of(storage, "messages") == 5


def test_a_unique_index_of_the_application_is_named(storage: Any) -> None:
    database = storage._database
    database.execute("CREATE UNIQUE INDEX mine ON agentx_sessions (message_count)")
    try:
        assert storage.create(SESSIONS, session("one"))
        for call in (
            lambda: storage.create(SESSIONS, session("two")),
            lambda: storage.fork("one", None, session("two")),
        ):
            with pytest.raises(ConfigurationError, match="remove the unique index"):
                call()
    finally:
        table = "ON agentx_sessions" if database.flavour.backend == "mysql" else ""
        database.execute(f"DROP INDEX mine {table}")
