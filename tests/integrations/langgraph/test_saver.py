from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest
from langgraph.checkpoint.base import Checkpoint, empty_checkpoint
from langgraph.checkpoint.serde.types import ERROR, INTERRUPT, RESUME

from agentx_persistence import ContainerRecord, InvalidRecordError, Persistence
from agentx_persistence.integrations.langgraph import PersistentSaver

ODD = ["", " ", "a b ", "é🙂", "x" * 1000, "a/b:c|d", "~a", "\n", "-", "a\x1fb"]


def _config(thread: Any = "t", id: str | None = None, ns: str = "") -> Any:
    given = {"thread_id": thread, "checkpoint_ns": ns}
    return {"configurable": given if id is None else {**given, "checkpoint_id": id}}


def _checkpoint(id: str, **values: Any) -> Checkpoint:
    return {**empty_checkpoint(), "id": id, "channel_values": values}


def _put(saver: PersistentSaver, id: str, parent: str | None = None, **named: Any) -> Any:
    thread, ns = named.pop("thread", "t"), named.pop("ns", "")
    metadata = {"source": "loop", "step": 0, **named.pop("metadata", {})}
    return saver.put(_config(thread, parent, ns), _checkpoint(id, **named), metadata, {})  # type: ignore[arg-type]


def _ids(saver: PersistentSaver, config: Any, **asked: Any) -> list[str]:
    return [each.config["configurable"]["checkpoint_id"] for each in saver.list(config, **asked)]


def test_its_types_are_sound(mypy: Callable[..., str]) -> None:
    modules = [f"langgraph/{name}" for name in ("saver", "store", "places", "items")]
    assert mypy("langgraph,langchain_core", *modules) == ""


def test_any_thread_and_namespace_is_kept_apart(persistence: Persistence) -> None:
    saver = PersistentSaver(persistence)
    for place in [(thread, ns) for thread in [*ODD, 7] for ns in ODD]:
        _put(saver, "1", thread=place[0], ns=place[1], value=repr(place))
    for thread in [*ODD, 7]:
        for ns in ODD:
            found = saver.get_tuple(_config(thread, ns=ns))
            assert found is not None
            assert found.checkpoint["channel_values"] == {"value": repr((thread, ns))}
            assert found.config == _config(str(thread), "1", ns)
        assert len(_ids(saver, {"configurable": {"thread_id": thread}})) == len(ODD)
    assert len(_ids(saver, None)) == len(ODD) * (len(ODD) + 1)


@pytest.mark.parametrize("id", ["", "x" * 65, "a\n", "\ud800", 7])
def test_an_impossible_checkpoint_id_is_refused(persistence: Persistence, id: Any) -> None:
    saver = PersistentSaver(persistence)
    with pytest.raises(InvalidRecordError, match="checkpoint: id"):
        _put(saver, id)
    assert _ids(saver, None) == []


def test_of_a_refused_checkpoint_nothing_is_written(persistence: Persistence) -> None:
    saver = PersistentSaver(persistence)
    for named in ({"thread": "\ud800"}, {"ns": "\ud800"}, {"metadata": {"run_id": "\ud800"}}):
        with pytest.raises(InvalidRecordError, match="surrogate"):
            _put(saver, "1", **{"metadata": {"run_id": "run"}, **named})
    assert persistence.items.count(namespace_prefix=("langgraph",)) == 0


def test_what_a_config_lacks_is_named(persistence: Persistence) -> None:
    saver = PersistentSaver(persistence)
    with pytest.raises(InvalidRecordError, match="thread_id"):
        saver.get_tuple({"configurable": {}})
    with pytest.raises(InvalidRecordError, match="checkpoint_id"):
        saver.put_writes(_config(), [("a", 1)], "task")
    with pytest.raises(InvalidRecordError, match="strategy"):
        saver.prune(["t"], strategy="keep")


def test_the_newest_checkpoint_has_the_greatest_id(persistence: Persistence) -> None:
    saver = PersistentSaver(persistence)
    ids = ["b", "a", "ab", "aba", "é", "a-", "b1", "🙂", "1"]
    for id in ids:
        _put(saver, id)
        saver.put_writes(_config("t", id), [("channel", id)], "task")
    ordered = sorted(ids, reverse=True)
    assert _ids(saver, _config()) == ordered
    assert saver.get_tuple(_config()).config == _config("t", ordered[0])  # type: ignore[union-attr]
    for number, id in enumerate(ordered):
        before = _config("t", id)
        assert _ids(saver, _config(), before=before) == ordered[number + 1 :]
        assert _ids(saver, _config(), before=before, limit=2) == ordered[number + 1 : number + 3]
        assert (
            _ids(saver, {"configurable": {"thread_id": "t"}}, before=before)
            == (ordered[number + 1 :])
        )
        for other in ids:
            asked, found = _config("t", other), [other] if other < id else []
            assert _ids(saver, asked, before=before) == found
            del asked["configurable"]["checkpoint_ns"]
            assert _ids(saver, asked, before=before) == found
    for limit in range(-1, 11):
        assert _ids(saver, _config(), limit=limit) == ordered[: max(limit, 0)]


def test_writes_without_a_checkpoint_are_not_taken_for_one(persistence: Persistence) -> None:
    """A process can die, or be slow, between the writes of a step and its checkpoint."""
    saver = PersistentSaver(persistence)
    saver.put_writes(_config("t", "2"), [("channel", "early")], "task")
    assert saver.get_tuple(_config()) is None
    assert _ids(saver, None) == []
    _put(saver, "1")
    saver.put_writes(_config("t", "3"), [("channel", "early")], "task")
    assert saver.get_tuple(_config()).config == _config("t", "1")  # type: ignore[union-attr]
    assert _ids(saver, _config()) == ["1"]
    saver.prune(["t"])
    _put(saver, "3")
    found = saver.get_tuple(_config())
    assert found is not None
    assert found.pending_writes == [("task", "channel", "early")]


def test_writes_are_kept_once_and_in_the_order_of_tasks(persistence: Persistence) -> None:
    saver = PersistentSaver(persistence)
    place = _put(saver, "1")
    saver.put_writes(place, [("a", 1), ("b", 2)], "task 2", "~pull, b")
    saver.put_writes(place, [("a", 9), ("b", 9), ("c", 3)], "task 2", "~pull, b")
    saver.put_writes(place, [(ERROR, "first"), (INTERRUPT, "one")], "task 1", "~pull, c")
    saver.put_writes(place, [(ERROR, "again"), (RESUME, "go")], "task 1", "~pull, c")
    saver.put_writes(place, [("a", 0)], "x" * 300, "")
    found = saver.get_tuple(place)
    assert found is not None
    assert found.pending_writes == [
        ("x" * 300, "a", 0),
        ("task 2", "a", 1),
        ("task 2", "b", 2),
        ("task 2", "c", 3),
        ("task 1", RESUME, "go"),
        ("task 1", INTERRUPT, "one"),
        ("task 1", ERROR, "again"),
    ]


def test_a_deleted_thread_leaves_nothing(persistence: Persistence) -> None:
    saver = PersistentSaver(persistence)
    for number in range(40):
        place = _put(
            saver, f"{number:02}", thread="a", ns="n" * (number % 3), metadata={"run_id": 1}
        )
        saver.put_writes(place, [("a", number)], "task")
    saver.put_writes(_config("a", "99"), [("early", 1)], "task")
    _put(saver, "1", thread="ab")
    saver.delete_thread("a")
    assert _ids(saver, None) == ["1"]
    assert persistence.items.count(namespace_prefix=("langgraph",)) == 1
    assert persistence.containers.delete("langgraph") is False
    assert _ids(saver, None) == []


def test_runs_are_deleted_in_every_thread_and_copy(persistence: Persistence) -> None:
    saver = PersistentSaver(persistence)
    for run in ("r1", "r2", "odd \n" * 99):
        for thread in ("a", "b"):
            place = _put(saver, f"{run[:2]} {thread}", thread=thread, metadata={"run_id": run})
            saver.put_writes(place, [("a", 1)], "task")
    saver.copy_thread("a", "c")
    assert _ids(saver, _config("c")) == ["r2 a", "r1 a", "od a"]
    saver.delete_for_runs(["r1", "odd \n" * 99, "none"])
    assert _ids(saver, None) == ["r2 a", "r2 b", "r2 a"]
    saver.delete_thread("b")
    saver.delete_for_runs(["r2"])
    assert persistence.items.count(namespace_prefix=("langgraph",)) == 0


def test_pruning_keeps_what_delta_channels_need(persistence: Persistence) -> None:
    saver = PersistentSaver(persistence)
    counted = {"counters_since_delta_snapshot": {"delta": (1, 1)}}
    _put(saver, "1")
    _put(saver, "2", "1", delta="snapshot", metadata=counted)
    for id, parent in (("3", "2"), ("4", "2"), ("5", "4")):
        place = _put(saver, id, parent, metadata=counted)
        saver.put_writes(place, [("delta", id)], "task")
    asked = {"config": _config("t", "5"), "channels": ["delta"]}
    restored = saver.get_delta_channel_history(**asked)  # type: ignore[arg-type]
    saver.prune(["t"])
    assert _ids(saver, _config()) == ["5", "4", "2"]
    assert saver.get_delta_channel_history(**asked) == restored  # type: ignore[arg-type]
    assert restored["delta"] == {"writes": [("task", "delta", "4")], "seed": "snapshot"}


def test_containers_keep_threads_apart(persistence: Persistence) -> None:
    one, other = (PersistentSaver(persistence, container_id=id) for id in ("a", "x" * 255))
    _put(one, "1")
    _put(other, "2")
    persistence.containers.save(ContainerRecord(container_id="a"))
    assert persistence.containers.delete("a") is True
    assert (_ids(one, None), _ids(other, None)) == ([], ["2"])
    with pytest.raises(InvalidRecordError):
        PersistentSaver(persistence, container_id="")


async def test_a_cancelled_call_writes_once_or_not_at_all(persistence: Persistence) -> None:
    saver = PersistentSaver(persistence)
    saves, begun, go_on = [], threading.Event(), threading.Event()
    save = saver._items.save

    def slow(item: Any) -> None:
        begun.set()
        go_on.wait(10)
        saves.append(item.value["place"][-1])
        save(item)

    saver._items.save = slow  # type: ignore[method-assign]
    calls = [
        asyncio.create_task(saver.aput(_config(), _checkpoint(f"{n:03}"), {}, {}))
        for n in range(100)
    ]
    await asyncio.to_thread(begun.wait, 10)
    for call in calls:
        call.cancel()
    await asyncio.sleep(0.1)
    go_on.set()
    done = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(each, asyncio.CancelledError) for each in done)
    assert 1 <= len(saves) == len(set(saves)) < 100
    assert _ids(saver, _config()) == sorted(saves, reverse=True)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_async_calls_work_in_a_child_process(persistence: Persistence) -> None:
    saver = PersistentSaver(persistence)
    asyncio.run(saver.aput(_config(), _checkpoint("1"), {}, {}))
    child = os.fork()
    if child == 0:
        found = asyncio.run(asyncio.wait_for(saver.aget_tuple(_config()), 20))
        os._exit(0 if found and found.checkpoint["id"] == "1" else 1)
    assert os.waitpid(child, 0)[1] == 0
