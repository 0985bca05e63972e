"""Real processes that work on one thread, or one memory, at the same moment."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from langgraph.checkpoint.base import empty_checkpoint

from agentx_persistence import Persistence
from agentx_persistence.integrations.langgraph import PersistentSaver, PersistentStore
from tests.backends.backend import Backend
from tests.integrations.races import at_once

WORKERS = 8
Act = Callable[[PersistentSaver, PersistentStore, int, int], None]


def _config(number: int, id: str | None = None) -> Any:
    given = {"thread_id": f"t{number}", "checkpoint_ns": ""}
    return {"configurable": given if id is None else {**given, "checkpoint_id": id}}


def _create(saver: PersistentSaver, store: PersistentStore, number: int, worker: int) -> None:
    saver.put(_config(number), {**empty_checkpoint(), "id": f"{worker}"}, {"run_id": "run"}, {})  # type: ignore[typeddict-unknown-key]


def _write(saver: PersistentSaver, store: PersistentStore, number: int, worker: int) -> None:
    # Each worker has a task of its own, and all of them repeat one more.
    saver.put_writes(_config(number, "1"), [("own", worker)], f"task {worker}")
    saver.put_writes(_config(number, "1"), [("shared", 0)] * (worker + 1), "shared")


def _remember(saver: PersistentSaver, store: PersistentStore, number: int, worker: int) -> None:
    store.put((f"n{number}",), f"own {worker}", {"worker": worker})
    store.put((f"n{number}",), "shared", {"worker": worker, "again": [worker] * 100})


def _delete(saver: PersistentSaver, store: PersistentStore, number: int, worker: int) -> None:
    if worker == 0:
        saver.prune([f"t{number}"])
    else:
        id = f"9{worker}"
        saver.put(_config(number, "5"), {**empty_checkpoint(), "id": id}, {}, {})
        saver.put_writes(_config(number, id), [("own", worker)], "task")


def _race(backend: Backend, persistence: Persistence, act: Act, tries: int) -> None:
    at_once(backend, persistence, [partial(_work, act)] * WORKERS, tries)


def _work(act: Act, persistence: Persistence, number: int, worker: int) -> None:
    act(PersistentSaver(persistence), PersistentStore(persistence), number, worker)


@pytest.fixture
def saver(persistence: Persistence) -> PersistentSaver:
    return PersistentSaver(persistence)


def test_eight_creators_make_one_thread(
    backend: Backend, persistence: Persistence, saver: PersistentSaver, tries: int
) -> None:
    _race(backend, persistence, _create, tries)
    for number in range(tries):
        found = [each.checkpoint["id"] for each in saver.list(_config(number))]
        assert found == [f"{worker}" for worker in reversed(range(WORKERS))]
    saver.delete_for_runs(["run"])
    assert list(saver.list(None)) == []


def test_writes_beside_each_other_are_all_kept_once(
    backend: Backend, persistence: Persistence, saver: PersistentSaver, tries: int
) -> None:
    for number in range(tries):
        saver.put(_config(number), {**empty_checkpoint(), "id": "1"}, {}, {})
    _race(backend, persistence, _write, tries)
    own = [(f"task {worker}", "own", worker) for worker in range(WORKERS)]
    for number in range(tries):
        found = saver.get_tuple(_config(number))
        assert found is not None
        assert found.pending_writes == [("shared", "shared", 0)] * WORKERS + own


def test_memories_beside_each_other_are_all_kept(
    backend: Backend, persistence: Persistence, tries: int
) -> None:
    store = PersistentStore(persistence)
    _race(backend, persistence, _remember, tries)
    for number in range(tries):
        *own, shared = store.search((f"n{number}",), limit=99)
        assert [item.value["worker"] for item in own] == list(range(WORKERS))
        assert shared.value["again"] == [shared.value["worker"]] * 100


def test_pruning_takes_nothing_that_is_put_meanwhile(
    backend: Backend, persistence: Persistence, saver: PersistentSaver, tries: int
) -> None:
    for number in range(tries):
        for id in ("1", "2", "5"):
            saver.put(_config(number), {**empty_checkpoint(), "id": id}, {}, {})
    _race(backend, persistence, _delete, tries)
    for number in range(tries):
        found = {each.checkpoint["id"]: each for each in saver.list(_config(number))}
        newest = [f"9{worker}" for worker in range(WORKERS - 1, 0, -1)]
        lost = [id for id in newest if id not in found]
        kept = max(found)
        # Of those before the one that pruning kept, any may be gone; none after it.
        assert all(id < kept for id in lost)
        assert kept == newest[0]
        assert all(len(each.pending_writes or ()) == 1 for id, each in found.items() if id != "5")
