"""A checkpoint saver for LangGraph."""

from __future__ import annotations

import random
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from functools import partial, wraps
from itertools import groupby, islice
from typing import Any, Concatenate, ParamSpec, TypeVar

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_checkpoint_id,
    get_checkpoint_metadata,
    writes_sort_key,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from agentx_persistence import InvalidRecordError, ItemRecord, Persistence
from agentx_persistence.integrations._threads import in_thread
from agentx_persistence.integrations.langgraph.items import PAGE, Space, create_or_merge, walk
from agentx_persistence.integrations.langgraph.places import CHECKPOINT, element, entry_of, space_of
from agentx_persistence.records import check_id

P = ParamSpec("P")
T = TypeVar("T")


def _threaded(
    call: Callable[Concatenate[Any, P], T],
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]:
    """Return the method as an async one, which runs it in a thread."""

    @wraps(call)
    async def run(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await in_thread(call, self, *args, **kwargs)

    return run


class PersistentSaver(BaseCheckpointSaver[str]):
    """Keeps the checkpoints of LangGraph's threads as items, on any backend.

    A checkpoint is one item, saved in one step. The writes of a task at a checkpoint are one item,
    created or merged in one step. The newest checkpoint is the one with the greatest id.

    :param persistence: open, and not closed by the saver
    :param container_id: owns all threads. Deleting the container deletes them.
    :param serde: how values become bytes; LangGraph's `JsonPlusSerializer` by default
    """

    def __init__(
        self,
        persistence: Persistence,
        *,
        container_id: str = "langgraph",
        serde: SerializerProtocol | None = None,
    ) -> None:
        super().__init__(serde=serde)
        check_id("container", container_id)
        self._items = persistence.items
        self._space = partial(space_of, container_id)

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return the named checkpoint, or the newest of the thread and namespace, or ``None``."""
        thread, ns, id = _place(config)
        space = self._space(thread, ns or "", id)
        found = self._items.find_all(namespace=space) if id else walk(self._items, space, size=2)
        return next(map(self._tuple, _complete(found)), None)

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Iterate over checkpoints: by thread, by namespace, then newest first.

        :param config: its thread, and its namespace and checkpoint if it names them; ``None``: all
        :param filter: only those whose metadata has these values
        :param before: only those with a smaller id than this config's
        """
        thread, ns, id = (None, None, None) if config is None else _place(config)
        end = None if before is None else get_checkpoint_id(before)

        def is_wanted(value: Any) -> bool:
            name = value["place"][-1]
            if (id is not None and name != id) or (end is not None and name >= end):
                return False
            metadata = self._load(value["metadata"]) if filter else {}
            return all(metadata.get(key) == wanted for key, wanted in (filter or {}).items())

        after = None if end is None or ns is None else self._space(thread, ns, end)
        size = PAGE if filter or limit is None else 2 * limit  # most have writes of one task
        found = _complete(walk(self._items, self._space(thread, ns, id), after, size))
        wanted = (values for values in found if is_wanted(values[-1]))
        yield from map(self._tuple, islice(wanted, None if limit is None else max(limit, 0)))

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Save the checkpoint with its metadata in one step; return its config."""
        thread, ns, parent = _place(config)
        metadata = get_checkpoint_metadata(config, metadata)
        run = metadata.get("run_id")
        value: dict[str, Any] = {
            "place": [thread, ns or "", checkpoint["id"]],
            "parentId": parent,
            "runId": None if run is None else str(run),
            "metadata": self._dump(metadata),
            "checkpoint": self._dump(checkpoint),
        }
        self._save(CHECKPOINT, value)
        return _config(*value["place"])

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Save the writes of a task in one step.

        A write that is there already stays. Errors, interrupts and resume values replace those that
        are there.
        """
        thread, ns, id = _place(config)
        if id is None:
            raise InvalidRecordError("config", "checkpoint_id", "is missing in 'configurable'")
        given = {
            str(WRITES_IDX_MAP.get(channel, index)): [channel, *self._dump(value)]
            for index, (channel, value) in enumerate(writes)
        }

        place, key = [thread, ns or "", id], f"write:{element(task_id)}"
        value = {"place": place, "taskId": task_id, "taskPath": task_path, "writes": given}
        record = ItemRecord(namespace=self._space(*place), key=key, value=value)
        create_or_merge(self._items, record, _merged)

    def delete_thread(self, thread_id: str) -> None:
        """Delete the thread's checkpoints and writes, oldest first. It can be repeated."""
        self._delete(walk(self._items, self._space(str(thread_id))))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete the checkpoints whose metadata has one of these run ids, with their writes."""
        for run in map(str, run_ids):
            for entry in walk(self._items, entry_of(self._space(), run)[0]):
                found = self._items.find_all(namespace=entry.value)
                # The checkpoint may have been put again since, by another run.
                self._delete(item for item in found if found[-1].value.get("runId") == run)
                self._items.delete(entry.namespace, entry.key)

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy all checkpoints and writes, oldest first, beside those that the target has."""
        source = walk(self._items, self._space(str(source_thread_id)))
        for space in reversed(dict.fromkeys(item.namespace for item in source)):
            for item in self._items.find_all(namespace=space):  # a checkpoint after its writes
                place = [str(target_thread_id), *item.value["place"][1:]]
                self._save(item.key, {**item.value, "place": place})

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Delete the checkpoints of the threads but the newest of each namespace, or all of them.

        The ancestors from which the delta channels of the newest one are restored stay as well.

        :param strategy: "keep_latest" or "delete"
        """
        if strategy not in ("keep_latest", "delete"):
            reason = f"must be 'keep_latest' or 'delete', not {strategy!r}"
            raise InvalidRecordError("argument", "strategy", reason)
        for thread_id in thread_ids:
            items = walk(self._items, self._space(str(thread_id)))
            self._delete(items if strategy == "delete" else self._not_needed(items))

    def get_next_version(self, current: str | None, channel: None) -> str:
        # The random part tells the versions of two branches apart.
        number = int(str(current or 0).partition(".")[0]) + 1
        return f"{number:032}.{random.getrandbits(53):016}"

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        found = self.list(config, filter=filter, before=before, limit=limit)
        while (checkpoint := await in_thread(next, found, None)) is not None:
            yield checkpoint

    aget_tuple = _threaded(get_tuple)
    aput = _threaded(put)
    aput_writes = _threaded(put_writes)
    adelete_thread = _threaded(delete_thread)
    adelete_for_runs = _threaded(delete_for_runs)
    acopy_thread = _threaded(copy_thread)
    aprune = _threaded(prune)

    def _save(self, key: str, value: dict[str, Any]) -> None:
        """Save a checkpoint, or the writes of a task; before a checkpoint, its run's entry."""
        item = ItemRecord(namespace=self._space(*value["place"]), key=key, value=value)
        if run := value.get("runId"):
            runs, entry = entry_of(item.namespace, run)
            self._items.save(ItemRecord(namespace=runs, key=entry, value=list(item.namespace)))
        self._items.save(item)

    def _delete(self, items: Iterable[ItemRecord]) -> None:
        """Delete the items in reverse: each checkpoint, then its run's entry, then its writes.

        The newest checkpoint of a namespace is deleted last, so that no other becomes the newest.
        """
        found = [(item.namespace, item.key, item.value.get("runId")) for item in items]
        for space, key, run in reversed(found):
            self._items.delete(space, key)
            if run:
                self._items.delete(*entry_of(space, run))

    def _not_needed(self, items: Iterable[ItemRecord]) -> Iterator[ItemRecord]:
        """Yield those of a thread's items that the newest checkpoints do not need."""
        for _, group in groupby(items, lambda item: item.namespace[:-1]):
            # Writes that come before the newest checkpoint are its own, or wait for theirs.
            for newest in group:
                if newest.key == CHECKPOINT:
                    needed = self._needed(newest)
                    # This takes the rest of the group, so the loop ends after it.
                    yield from (item for item in group if item.namespace not in needed)

    def _needed(self, newest: ItemRecord) -> set[Space]:
        """Return where this checkpoint is, and the ancestors that its delta channels need."""
        missing = set(self._load(newest.value["metadata"]).get("counters_since_delta_snapshot", ()))
        place, needed = newest.value["place"][:2], set[Space]()
        one: ItemRecord | None = newest
        while one and one.namespace not in needed:
            needed.add(one.namespace)
            missing -= self._load(one.value["checkpoint"])["channel_values"].keys()
            parent = one.value["parentId"] if missing else None
            one = parent and self._items.find(self._space(*place, parent), CHECKPOINT)
        return needed

    def _tuple(self, values: Sequence[Any]) -> CheckpointTuple:
        *tasks, value = values
        tasks.sort(key=lambda task: writes_sort_key(task["taskPath"], task["taskId"]))
        pending = [
            (task["taskId"], channel, self._load(stored))
            for task in tasks
            for _, (channel, *stored) in sorted(task["writes"].items(), key=lambda one: int(one[0]))
        ]
        thread, ns, id = value["place"]
        checkpoint, metadata = self._load(value["checkpoint"]), self._load(value["metadata"])
        parent = None if value["parentId"] is None else _config(thread, ns, value["parentId"])
        return CheckpointTuple(_config(thread, ns, id), checkpoint, metadata, parent, pending)

    def _dump(self, value: Any) -> Sequence[str]:
        kind, data = self.serde.dumps_typed(value)
        return [kind, b64encode(data).decode()]

    def _load(self, stored: Sequence[str]) -> Any:
        return self.serde.loads_typed((stored[0], b64decode(stored[1])))


def _complete(items: Iterable[ItemRecord]) -> Iterator[list[Any]]:
    """Yield the values of each checkpoint: of its writes, then its own."""
    group: list[ItemRecord] = []
    for item in items:
        group = [*group, item] if group and group[0].namespace == item.namespace else [item]
        if item.key == CHECKPOINT:  # so writes that were stored before theirs are left out
            yield [each.value for each in group]


def _merged(old: Any, new: Any) -> Any:
    """Return a task's writes with new ones. Only those with a negative index, such as errors, are
    replaced."""
    regular = {index: write for index, write in old["writes"].items() if int(index) >= 0}
    return {**old, "writes": {**old["writes"], **new["writes"], **regular}}


def _place(config: RunnableConfig) -> tuple[str, str | None, str | None]:
    """Return the ids of the thread, the namespace and the checkpoint that the config names."""
    given = config.get("configurable", {})
    if "thread_id" not in given:
        raise InvalidRecordError("config", "thread_id", "is missing in 'configurable'")
    return str(given["thread_id"]), given.get("checkpoint_ns"), get_checkpoint_id(config) or None


def _config(thread: str, ns: str, id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread, "checkpoint_ns": ns, "checkpoint_id": id}}
