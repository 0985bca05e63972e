"""What an interrupt inside pymongo leaves behind, and what is made of it."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.errors import ProtocolError

from agentx_persistence import Persistence, create_persistence
from agentx_persistence.mongodb import mongodb_driver
from tests.backends.backend import Backend
from tests.contract.records import message, saved_session, texts
from tests.servers.mongodb import MongodbServer


def _lock_pools(rows: Collection[Any]) -> None:
    for server in rows.database.client._topology._servers.values():
        server.pool.lock.acquire()


def _failing(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, first: Callable[[Collection[Any]], None]
) -> None:
    """Let the next `update_one` do `first` and raise this."""
    update_one = Collection.update_one

    def fail(rows: Any, *arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr(Collection, "update_one", update_one)
        first(rows)
        raise error

    monkeypatch.setattr(Collection, "update_one", fail)


def _append_in_thread(persistence: Persistence) -> None:
    thread = threading.Thread(
        target=persistence.sessions.add_message, args=("session", message("beside")), daemon=True
    )
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


def _hidden_in_a_clean_up() -> RuntimeError:
    error = RuntimeError("release unlocked lock")
    error.__context__ = KeyboardInterrupt()
    return error


@pytest.mark.parametrize("make", [KeyboardInterrupt, TimeoutError, _hidden_in_a_clean_up])
@pytest.mark.filterwarnings("error::ResourceWarning")
def test_a_lock_that_an_interrupt_leaves_locked_holds_nobody_up(
    mongodb_backend: Backend, monkeypatch: pytest.MonkeyPatch, make: Callable[[], BaseException]
) -> None:
    before = threading.active_count()

    raised = type(make().__context__ or make())
    with mongodb_backend.open() as persistence:
        saved_session(persistence)
        for _ in range(3):
            _failing(monkeypatch, make(), _lock_pools)
            with pytest.raises(raised):
                persistence.sessions.add_message("session", message("interrupted"))
            _append_in_thread(persistence)
            persistence.sessions.add_message("session", message("after"))
        assert texts(persistence) == ["beside", "after"] * 3
        _failing(monkeypatch, make(), _lock_pools)
        with pytest.raises(raised):
            persistence.sessions.add_message("session", message("interrupted"))
    deadline = time.monotonic() + 10
    while threading.active_count() > before:
        assert time.monotonic() < deadline, threading.enumerate()
        time.sleep(0.05)
    gc.collect()


def test_what_was_handled_before_is_not_taken_for_an_interrupt(
    mongodb_backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mongodb_backend.open() as persistence:
        saved_session(persistence)
        _failing(monkeypatch, RuntimeError("another one"), lambda _: None)
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            with pytest.raises(RuntimeError, match="another one"):
                persistence.sessions.add_message("session", message())


def test_half_an_answer_is_a_lost_connection(
    mongodb_backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mongodb_backend.open() as persistence:
        saved_session(persistence)
        _failing(monkeypatch, ProtocolError("Got response id 1 but expected 2"), lambda _: None)
        assert persistence.sessions.add_message("session", message("once")) == 1
        assert texts(persistence) == ["once"]


def test_the_callers_own_client_is_kept(
    mongodb_backend: Backend, mongodb_server: MongodbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with MongoClient[dict[str, Any]](mongodb_server.url) as client:
        driver = mongodb_driver(client=client, **mongodb_backend.options)
        with create_persistence(driver) as persistence:
            saved_session(persistence)
            used: list[object] = []
            for _ in range(2):
                _failing(monkeypatch, KeyboardInterrupt(), lambda r: used.append(r.database.client))
                with pytest.raises(KeyboardInterrupt):
                    persistence.sessions.add_message("session", message("interrupted"))
            assert [each is client for each in used] == [True, True]
            assert persistence.sessions.add_message("session", message("after")) == 1
