"""A checkpoint saver for LangGraph."""

from __future__ import annotations

import random
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import Any

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

from agentx_persistence import InvalidRecordError, ItemRecord, Persistence, RecordNotFoundError
from agentx_persistence.integrations.langgraph.places import (
    check_container,
    create_or_change,
    element,
    newest_first,
)
from agentx_persistence.integrations.langgraph.threads import Threads

_CHECKPOINT = "~checkpoint"  # comes after the keys of its writes
_PAGE = 32
Space = tuple[str, ...]


class PersistentSaver(BaseCheckpointSaver[str]):
    """Keeps the checkpoints of LangGraph's threads as items, on any backend.

    A checkpoint is one item, saved in one step. The writes of one task at a checkpoint are one item,
    created or merged in one step. The newest checkpoint is the one with the greatest id.

    :param persistence: open, and not closed by the saver
    :param container_id: owns all threads; at most 120 characters. Deleting the container deletes
        them.
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
        self._items = persistence.items
        self._root = (check_container(container_id), "checkpoints")
        self._runs = (container_id, "runs")
        self._threads = Threads()

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return the checkpoint of the config, or the newest of its thread and namespace, or
        ``None``."""
        thread, ns, id = _place(config)
        space = self._space(thread, ns or "")
        if id is not None:
            return self._tuple(self._items.find_all(namespace=(*space, newest_first(id))))
        newest = self._items.find_all(namespace_prefix=space, limit=1)
        while newest:
            namespace = newest[0].namespace
            if newest[0].key != _CHECKPOINT:  # a write
                newest = self._items.find_all(namespace=namespace)
            if found := self._tuple(newest):
                return found
            # Writes can be stored before their checkpoint.
            newest = self._items.find_all(
                namespace_prefix=space, after_namespace=namespace, limit=1
            )
        return None

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
        space = self._space(thread, ns)
        end = None if before is None else get_checkpoint_id(before)
        after = (*space, newest_first(end)) if end is not None and ns is not None else None
        if id is not None and ns is not None:
            groups: Any = [self._items.find_all(namespace=(*space, newest_first(id)))]
        else:
            items = self._walk(space, after, min(limit or _PAGE, _PAGE))
            groups = (list(group) for _, group in groupby(items, attrgetter("namespace")))
        for group in groups:
            if limit is not None and limit <= 0:
                return
            found = self._tuple(group, filter)
            if found is None:
                continue
            name = found.config["configurable"]["checkpoint_id"]
            if (id is None or name == id) and (end is None or name < end):
                yield found
                limit = None if limit is None else limit - 1

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
        value = {
            "threadId": thread,
            "checkpointNs": ns or "",
            "checkpointId": checkpoint["id"],
            "parentId": parent,
            "runId": str(metadata["run_id"]) if "run_id" in metadata else None,
            "metadata": self._dump(metadata),
            "checkpoint": self._dump(checkpoint),
        }
        self._save(value)
        return _config(value, checkpoint["id"])

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Save the writes of a task in one step.

        A write that is there already stays. Errors, interrupts and resume values replace older ones.
        """
        thread, ns, id = _place(config)
        if id is None:
            raise InvalidRecordError("config", "checkpoint_id", "is missing in 'configurable'")
        given = {
            str(WRITES_IDX_MAP.get(channel, index)): [channel, *self._dump(value)]
            for index, (channel, value) in enumerate(writes)
        }

        def merge(old: ItemRecord) -> ItemRecord:
            there = old.value["writes"]
            regular = {index: write for index, write in there.items() if int(index) >= 0}
            merged = {**old.value, "writes": {**there, **given, **regular}}
            return old.model_copy(update={"value": merged})

        value = {"taskId": task_id, "taskPath": task_path, "writes": given}
        namespace = (*self._space(thread, ns or ""), newest_first(id))
        record = ItemRecord(namespace=namespace, key=f"write:{element(task_id)}", value=value)
        create_or_change(self._items, record, merge)

    def delete_thread(self, thread_id: str) -> None:
        """Delete the thread's checkpoints and writes, oldest first. It can be repeated."""
        self._delete(self._walk(self._space(str(thread_id))))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete the checkpoints whose metadata has one of these run ids, with their writes."""
        for run in map(str, run_ids):
            for entry in self._walk((*self._runs, element(run))):
                found = self._items.find_all(namespace=tuple(entry.value))
                if found and found[-1].value.get("runId") == run:
                    self._delete(found)
                self._items.delete(entry.namespace, entry.key)

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy all checkpoints and writes, oldest first, beside those that the target has."""
        source, target = self._space(str(source_thread_id)), self._space(str(target_thread_id))
        spaces = dict.fromkeys(item.namespace for item in self._walk(source))
        for space in reversed(spaces):
            for item in self._items.find_all(namespace=space):
                if item.key == _CHECKPOINT:
                    self._save({**item.value, "threadId": str(target_thread_id)})
                else:
                    copy = {"namespace": (*target, *space[len(target) :])}
                    self._items.save(item.model_copy(update=copy))

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Delete the checkpoints but the newest of each namespace, or all of them.

        Ancestors that the newest one needs to restore its delta channels stay as well.

        :param strategy: "keep_latest" or "delete"
        """
        if strategy not in ("keep_latest", "delete"):
            reason = f"must be 'keep_latest' or 'delete', not {strategy!r}"
            raise InvalidRecordError("argument", "strategy", reason)
        for thread_id in map(str, thread_ids):
            if strategy == "delete":
                self.delete_thread(thread_id)
                continue
            ends: dict[Space, str] = {}
            self._delete(self._older(self._space(thread_id), ends))
            for space, parent in ends.items():
                if not self._items.exists((*space[:-1], newest_first(parent)), _CHECKPOINT):
                    with suppress(RecordNotFoundError):  # the thread was deleted meanwhile
                        self._items.update(space, _CHECKPOINT, _without_parent)

    def get_next_version(self, current: str | None, channel: None) -> str:
        # The random part tells the versions of two branches apart.
        number = int(str(current or 0).partition(".")[0]) + 1
        return f"{number:032}.{random.getrandbits(53):016}"

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return await self._threads.run(self.get_tuple, config)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        found = self.list(config, filter=filter, before=before, limit=limit)
        while (checkpoint := await self._threads.run(next, found, None)) is not None:
            yield checkpoint

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        return await self._threads.run(self.put, config, checkpoint, metadata, new_versions)

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        await self._threads.run(self.put_writes, config, writes, task_id, task_path)

    async def adelete_thread(self, thread_id: str) -> None:
        await self._threads.run(self.delete_thread, thread_id)

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        await self._threads.run(self.delete_for_runs, run_ids)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        await self._threads.run(self.copy_thread, source_thread_id, target_thread_id)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        await self._threads.run(partial(self.prune, thread_ids, strategy=strategy))

    def _space(self, thread: str | None, ns: str | None = None) -> Space:
        """Return the namespace of all checkpoints, of a thread's, or of those of one of its `ns`."""
        if thread is None:
            return self._root
        space = (*self._root, element(thread))
        return space if ns is None else (*space, element(f":{ns}"))

    def _walk(self, space: Space, after: Space | None = None, size: int = _PAGE) -> Iterator[Any]:
        """Yield the items: of each checkpoint its writes, then itself; newest first."""
        page = self._items.find_page(namespace_prefix=space, after_namespace=after, size=size)
        yield from page.items
        while page.next_cursor is not None:
            page = self._items.find_page(
                namespace_prefix=space, size=_PAGE, cursor=page.next_cursor
            )
            yield from page.items

    def _tuple(
        self, items: Sequence[ItemRecord], filter: dict[str, Any] | None = None
    ) -> CheckpointTuple | None:
        """Return the checkpoint of these items, if it is among them and has this metadata."""
        if not items or items[-1].key != _CHECKPOINT:
            return None
        value = items[-1].value
        metadata = self._load(value["metadata"])
        if filter and any(metadata.get(key) != wanted for key, wanted in filter.items()):
            return None
        writes = sorted(
            (writes_sort_key(task["taskPath"], task["taskId"], int(index)), channel, *stored)
            for task in (item.value for item in items[:-1])
            for index, (channel, *stored) in task["writes"].items()
        )
        return CheckpointTuple(
            config=_config(value, value["checkpointId"]),
            checkpoint=self._load(value["checkpoint"]),
            metadata=metadata,
            parent_config=value["parentId"] and _config(value, value["parentId"]),
            pending_writes=[
                (place[1], channel, self._load(stored)) for place, channel, *stored in writes
            ],
        )

    def _save(self, value: dict[str, Any]) -> None:
        """Save a checkpoint. Before it an entry by which its run finds it."""
        space = self._space(value["threadId"], value["checkpointNs"])
        namespace = (*space, newest_first(value["checkpointId"]))
        if value["runId"] is not None:
            runs, key = self._run(namespace, value["runId"])
            self._items.save(ItemRecord(namespace=runs, key=key, value=list(namespace)))
        self._items.save(ItemRecord(namespace=namespace, key=_CHECKPOINT, value=value))

    def _run(self, namespace: Space, run: str) -> tuple[Space, str]:
        return (*self._runs, element(run)), element("~" + "/".join(namespace))

    def _delete(self, items: Iterable[ItemRecord]) -> None:
        """Delete the items in reverse: of each checkpoint itself, its writes, its run's entry."""
        found = [(item.namespace, item.key, item.value.get("runId")) for item in items]
        for namespace, key, run in reversed(found):
            self._items.delete(namespace, key)
            if run is not None:
                self._items.delete(*self._run(namespace, run))

    def _older(self, thread: Space, ends: dict[Space, str]) -> Iterator[ItemRecord]:
        """Yield the items that the newest checkpoints of the thread do not need.

        :param ends: receives the checkpoints that stay without their parent, and the parent's id
        """
        space, kept = None, dict[Space, CheckpointTuple]()
        for item in self._walk(thread):
            if item.namespace[:-1] == space:
                if item.namespace not in kept:
                    yield item
            elif item.key == _CHECKPOINT:
                space, kept = item.namespace[:-1], self._needed(item)
                end = next(reversed(kept))
                if parent := kept[end].parent_config:
                    ends[end] = parent["configurable"]["checkpoint_id"]

    def _needed(self, newest: ItemRecord) -> dict[Space, CheckpointTuple]:
        """Return the checkpoint, and the ancestors from which its delta channels are restored."""
        found = self._tuple([newest])
        assert found is not None
        missing = set(found.metadata.get("counters_since_delta_snapshot", ()))
        kept = {newest.namespace: found}
        while missing := missing - found.checkpoint["channel_values"].keys():
            parent = found.parent_config and self.get_tuple(found.parent_config)
            if not parent:
                break
            found = parent
            kept[(*newest.namespace[:-1], newest_first(found.checkpoint["id"]))] = found
        return kept

    def _dump(self, value: Any) -> Sequence[str]:
        kind, data = self.serde.dumps_typed(value)
        return [kind, b64encode(data).decode()]

    def _load(self, stored: Sequence[str]) -> Any:
        return self.serde.loads_typed((stored[0], b64decode(stored[1])))


def _place(config: RunnableConfig) -> tuple[str, str | None, str | None]:
    """Return the ids of the thread, the namespace and the checkpoint that the config names."""
    given = config.get("configurable", {})
    if "thread_id" not in given:
        raise InvalidRecordError("config", "thread_id", "is missing in 'configurable'")
    return str(given["thread_id"]), given.get("checkpoint_ns"), get_checkpoint_id(config)


def _config(value: dict[str, Any], checkpoint_id: str) -> RunnableConfig:
    place = {"thread_id": value["threadId"], "checkpoint_ns": value["checkpointNs"]}
    return {"configurable": {**place, "checkpoint_id": checkpoint_id}}


def _without_parent(item: ItemRecord) -> ItemRecord:
    return item.model_copy(update={"value": {**item.value, "parentId": None}})
