"""Answers that are lost after the server has done its work: the repeated call is applied once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from redis.exceptions import BusyLoadingError, ClusterDownError, ConnectionError, RedisError

from agentx_persistence._redis import copy_scripts
from agentx_persistence.errors import BackendUnavailableError, CorruptRecordError
from agentx_persistence.storage import IMAGES, SESSIONS, Addition, Query, Storage
from tests.backends.backend import Backend
from tests.port.given import (
    document,
    entries,
    entry,
    found_keys,
    history,
    log_of,
    session,
    text_of,
    there,
    token,
)


@pytest.fixture(params=["redis", "redis_cluster"])
def storage(request: pytest.FixtureRequest) -> Any:
    backend: Backend = request.getfixturevalue(f"{request.param}_backend")
    storage = backend.driver().create_storage()
    yield storage
    storage.close()


def losing(storage: Storage, which: int, meanwhile: Callable[[], object] = lambda: None) -> None:
    """Lose the answer to this exchange from now on; then do something before the next one."""
    connection = cast(Any, storage)._connection
    exchange, left = connection._exchange, [which]

    def lose(commands: Any, *rest: Any) -> Any:
        replies = exchange(commands, *rest)
        left[0] -= 1
        if left[0] == 0:
            connection._exchange = exchange
            meanwhile()
            raise ConnectionError("the answer is lost")
        return replies

    connection._exchange = lose


def each_exchange(storage: Storage, prepare: Callable[[], None], call: Callable[[], Any]) -> int:
    """Make the call, losing each of its answers in turn; return how many it has."""
    connection = cast(Any, storage)._connection
    for which in range(1, 30):
        prepare()
        exchange = connection._exchange
        losing(storage, which)
        call()
        if connection._exchange != exchange:
            connection._exchange = exchange  # it had fewer
            return which - 1
    raise AssertionError


def test_creating_is_applied_once(storage: Storage) -> None:
    def call() -> None:
        created = document(IMAGES, name="n")
        assert storage.create(IMAGES, created) is True
        assert found_keys(storage, IMAGES, Query({"name": "n"})) == ["key"]

    assert each_exchange(storage, lambda: storage.delete(IMAGES, "key") and None, call) > 0


def test_replacing_is_applied_once(storage: Storage) -> None:
    old = document(IMAGES, name="old")

    def call() -> None:
        new = document(IMAGES, text="new", name="new")
        assert storage.replace(IMAGES, new, old.revision) is True
        assert text_of(storage, IMAGES) == "new"
        assert found_keys(storage, IMAGES, Query({"name": "old"})) == []

    assert each_exchange(storage, lambda: storage.put(IMAGES, old), call) > 0


def test_rewriting_swapping_and_forking_are_applied_once(storage: Storage) -> None:
    def prepare() -> None:
        for log in ("log", "copy"):
            storage.delete(SESSIONS, log)
        log_of(storage, "abcde")

    def rewrite() -> None:
        assert storage.rewrite("log", "b", entries("x"), 9000, token()) == 3
        assert history(storage) == ["a", "b", "x"]

    def swap() -> None:
        storage.swap("log", entry("c", "new"), 9000, token())
        assert history(storage) == ["a", "b", "new", "d", "e"]

    def fork() -> None:
        assert storage.fork("log", "c", session("copy")) == 3
        assert history(storage, "copy") == ["a", "b", "c"]

    for call in (rewrite, swap, fork):
        assert each_exchange(storage, prepare, call) > 0


@pytest.mark.parametrize("through", ["b", None])
@pytest.mark.parametrize("change", ["append", "put", "rewrite", "grow"])
def test_a_fork_knows_how_much_it_has_copied(
    storage: Storage, change: str, through: str | None
) -> None:
    changes: dict[str, Callable[[], object]] = {
        "append": lambda: storage.append("copy", entries("later"), 9000),
        "put": lambda: storage.put(SESSIONS, session("copy", "other")),
        "rewrite": lambda: storage.rewrite("copy", "b", entries("later"), 9000, token()),
        "grow": lambda: storage.append("log", entries("later"), 9000),
    }
    changed = 0

    def meanwhile() -> None:
        nonlocal changed
        if storage.get(SESSIONS, ["copy"]):
            changes[change]()
            changed += 1

    for which in range(1, 10):
        storage.delete(SESSIONS, "log")
        log_of(storage, "abc")
        losing(storage, which, meanwhile)
        copied = storage.fork("log", through, session("copy"))
        del cast(Any, storage)._connection._exchange  # a fork may have fewer exchanges
        assert copied == (2 if through else 3)
        assert history(storage, "copy")[:2] == ["a", "b"]
        assert storage.delete(SESSIONS, "copy")
    assert changed


@pytest.mark.parametrize("refusal", [BusyLoadingError, ClusterDownError])
def test_a_fork_that_a_server_first_refused_knows_that_the_session_is_of_others(
    storage: Storage, refusal: type[RedisError]
) -> None:
    for log in ("log", "copy"):
        log_of(storage, "abc", log)
    connection = cast(Any, storage)._connection
    exchange, turn = connection._exchange, itertools.count()

    def refuse(commands: Any, *rest: Any) -> Any:
        """Refuse one exchange of three, as a server does that is loading or without a quorum."""
        if next(turn) % 3 == 0:
            raise refusal("not yet")
        return exchange(commands, *rest)

    connection._exchange = refuse
    assert storage.fork("log", "a", session("copy")) is None
    connection._exchange = exchange
    assert history(storage, "copy") == ["a", "b", "c"]


def test_a_fork_replaces_messages_that_lie_there_without_a_session(storage: Storage) -> None:
    log_of(storage, "")
    for texts in ("abc", ""):
        storage.rewrite("log", None, entries(*texts), 9000, token())
        log_of(storage, "xyz", "copy")
        connection, keys = cast(Any, storage)._connection, cast(Any, storage)._keys
        connection.pipeline([("UNLINK", keys.log("copy")[0])])
        assert storage.fork("log", None, session("copy")) == len(texts)
        assert history(storage, "copy") == [*texts]
        assert storage.delete(SESSIONS, "copy")


def test_large_messages_are_copied_some_at_a_time_and_each_once(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copy_scripts, "COPIED_BYTES", 2**20)
    cast(Any, storage)._forks = copy_scripts.ForkScripts(
        cluster=cast(Any, storage)._connection.cluster
    )
    storage.put(SESSIONS, session())
    large = [entry(f"{number}", f"{number}".ljust(50_000, "x")) for number in range(450)]
    storage.append("log", large, 9000)

    def prepare() -> None:
        storage.delete(SESSIONS, "copy")

    def fork() -> None:
        assert storage.fork("log", None, session("copy")) == 450
        assert history(storage, "copy") == [entry.text for entry in large]
        ids = [entry.id for entry in large]
        found = storage.lookup("copy", ids).there
        assert [found[id][0] for id in ids] == list(range(1, 451))

    assert each_exchange(storage, prepare, fork) > 5


def test_a_rewrite_knows_its_answer_after_others_have_rewritten_the_log(storage: Storage) -> None:
    log_of(storage, "abcde")
    storage.rewrite("log", "e", [], 1000, token())  # from now on the server has the script

    def meanwhile() -> None:
        for _ in range(3):
            storage.rewrite("log", "b", entries("y"), 1000, token())

    losing(storage, 1, meanwhile)
    assert storage.rewrite("log", "b", entries("x"), 1000, token()) == 3
    assert history(storage) == ["a", "b", "y"]


def test_a_write_that_cannot_tell_whether_it_was_applied_says_so(storage: Storage) -> None:
    old = document(IMAGES)
    storage.put(IMAGES, old)
    last = each_exchange(
        storage,
        lambda: storage.put(IMAGES, old),
        lambda: storage.replace(IMAGES, document(IMAGES, text="new"), old.revision),
    )
    storage.put(IMAGES, old)
    overwritten = document(IMAGES, text="others")
    seen = []
    for which in range(1, last + 1):
        storage.put(IMAGES, old)
        losing(storage, which, lambda: storage.put(IMAGES, overwritten))
        try:
            seen.append(storage.replace(IMAGES, document(IMAGES, text="new"), old.revision))
        except BackendUnavailableError:
            seen.append("unavailable")
        assert text_of(storage, IMAGES) == "others"
    assert "unavailable" in seen
    assert True not in seen


@pytest.mark.parametrize("kept", [5, 30_000])
def test_a_large_cut_is_one_step_and_keeps_what_comes_before(storage: Storage, kept: int) -> None:
    ids = [f"{number}" for number in range(90_000)]
    storage.put(SESSIONS, session("log"))
    for start in range(0, len(ids), 10_000):
        storage.append("log", entries(*ids[start : start + 10_000]), 1000)
    assert storage.rewrite("log", ids[kept - 1], entries("new"), 1000, "cut") == 90_000 - kept
    assert storage.head("log") == (kept + 1, f"cut.{90_000 - kept}")
    assert history(storage) == [*ids[:kept], "new"]
    assert storage.append("log", entries(ids[kept]), 1000) == kept + 2
    assert storage.lookup("log", [ids[0], ids[kept]]).there.keys() == {ids[0], ids[kept]}


def test_appending_each_is_applied_once(storage: Storage) -> None:
    def taken() -> Iterator[Addition]:
        for number, log in enumerate(logs):
            numbers.append(number)
            yield Addition(log, entries("a", "b"), 1000, session(log), 0)

    def call() -> None:
        numbers.clear()
        for answer in storage.append_each(taken()):
            # If it was repeated, it says what is there.
            assert answer == 2 or there(answer) == {"a": (1, "a"), "b": (2, "b")}

    def prepare() -> None:
        for log in logs:
            storage.delete(SESSIONS, log)

    logs, numbers = ["one", "two", "three"], list[int]()
    assert each_exchange(storage, prepare, call) >= 1
    assert [history(storage, log) for log in logs] == [["a", "b"]] * 3
    assert numbers == [0, 1, 2]


@pytest.mark.parametrize("before", [None, 5000])
def test_a_deletion_is_told_after_a_lost_answer(storage: Storage, before: int | None) -> None:
    def call() -> None:
        assert storage.delete(SESSIONS, "log", before=before) is True
        assert storage.newest(["log"]) == {}

    assert each_exchange(storage, lambda: log_of(storage, "abc"), call) > 0
    assert each_exchange(storage, lambda: None, lambda: _is_absent(storage, before)) > 0


def _is_absent(storage: Storage, before: int | None) -> None:
    assert storage.delete(SESSIONS, "log", before=before) is False


@pytest.mark.parametrize("at", [1000, 6000])
def test_a_session_that_is_created_after_a_lost_answer_is_deleted_only_if_it_is_old(
    storage: Storage, at: int
) -> None:
    created, refused = [], []

    def meanwhile() -> None:
        if not storage.get(SESSIONS, ["log"]):
            storage.append("log", entries("x"), at, create=session())
            created.append(which)

    for which in range(1, 6):
        log_of(storage, "abc")
        losing(storage, which, meanwhile)
        try:
            assert storage.delete(SESSIONS, "log", before=5000) is True
        except BackendUnavailableError:
            refused.append(which)
        cast(Any, storage)._connection.__dict__.pop("_exchange", None)  # it had fewer
        if which in created and at > 5000:
            assert history(storage) == ["x"]
        storage.delete(SESSIONS, "log")
    # The first of these lost the answer that the session was deleted.
    assert refused == (created[:1] if at > 5000 else [])


def test_a_session_that_is_too_new_stays_after_a_lost_answer(storage: Storage) -> None:
    def call() -> None:
        assert storage.delete(SESSIONS, "log", before=1000) is False

    log_of(storage, "abc")
    if cast(Any, storage)._connection.cluster:  # one exchange, which leaves open what it did
        losing(storage, 1)
        with pytest.raises(BackendUnavailableError):
            call()
    else:
        assert each_exchange(storage, lambda: None, call) > 0
    assert history(storage) == ["a", "b", "c"]


def test_a_session_that_does_not_say_when_it_changed_is_damaged(storage: Any) -> None:
    log_of(storage, "abc")
    storage._connection.command(("HDEL", storage._keys.log("log")[0], "updated_at"))
    with pytest.raises(CorruptRecordError):
        storage.delete(SESSIONS, "log", before=2**53)
    assert history(storage) == ["a", "b", "c"]
    assert storage.delete(SESSIONS, "log") is True
