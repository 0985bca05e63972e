"""A checkpoint saver for LangGraph."""

from __future__ import annotations

import random
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from functools import wraps
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
from agentx_persistence.integrations.langgraph.checkpoints import CHECKPOINT, Checkpoints
from agentx_persistence.integrations.langgraph.items import PAGE, Space

P = ParamSpec("P")
T = TypeVar("T")


def _threaded(
    call: Callable[Concatenate[PersistentSaver, P], T],
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]:
    """Return the method as an async one, which runs it in a thread."""

    @wraps(call)
    async def run(self: PersistentSaver, /, *args: P.args, **kwargs: P.kwargs) -> T:
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
        self._kept = Checkpoints(persistence.items, container_id)

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return the checkpoint of the config, or the newest of its thread and namespace, or
        ``None``."""
        thread, ns, id = _place(config)
        space = self._kept.space(thread, ns or "", id)
        values = next(self._kept.listed(space), None) if id is None else self._kept.read(space)
        return self._tuple(values) if values else None

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
        if id is not None and ns is not None:
            values = self._kept.read(self._kept.space(thread, ns, id))
            groups = iter([values] if values else [])
        else:
            after = None if end is None or ns is None else self._kept.space(thread, ns, end)
            size = PAGE if filter or limit is None else 2 * limit  # most have writes of one task
            groups = self._kept.listed(self._kept.space(thread, ns), after, size)
        for values in groups:
            if limit is not None and limit <= 0:
                return
            name = values[-1]["checkpointId"]
            if (id is None or name == id) and (end is None or name < end):
                metadata = self._load(values[-1]["metadata"]) if filter else {}
                if all(metadata.get(key) == value for key, value in (filter or {}).items()):
                    yield self._tuple(values)
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
        run = metadata.get("run_id")
        value = {
            "threadId": thread,
            "checkpointNs": ns or "",
            "checkpointId": checkpoint["id"],
            "parentId": parent,
            "runId": None if run is None else str(run),
            "metadata": self._dump(metadata),
            "checkpoint": self._dump(checkpoint),
        }
        self._kept.save(value)
        return _config(value, checkpoint["id"])

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
        value = {"taskId": task_id, "taskPath": task_path, "writes": given}
        self._kept.save_writes(self._kept.space(thread, ns or "", id), value)

    def delete_thread(self, thread_id: str) -> None:
        """Delete the thread's checkpoints and writes, oldest first. It can be repeated."""
        self._kept.delete(self._kept.thread(str(thread_id)))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete the checkpoints whose metadata has one of these run ids, with their writes."""
        for run_id in run_ids:
            self._kept.delete_run(str(run_id))

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy all checkpoints and writes, oldest first, beside those that the target has."""
        self._kept.copy(str(source_thread_id), str(target_thread_id))

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Delete the checkpoints of the threads but the newest of each namespace, or all of them.

        The ancestors from which the delta channels of the newest one are restored stay as well.

        :param strategy: "keep_latest" or "delete"
        """
        if strategy not in ("keep_latest", "delete"):
            reason = f"must be 'keep_latest' or 'delete', not {strategy!r}"
            raise InvalidRecordError("argument", "strategy", reason)
        for thread_id in thread_ids:
            if strategy == "delete":
                self.delete_thread(thread_id)
            else:
                self._kept.delete(self._older(str(thread_id)))

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

    def _older(self, thread: str) -> Iterator[ItemRecord]:
        """Yield the items that the newest checkpoints of the thread do not need."""
        newest, needed = None, set[Space]()
        for item in self._kept.thread(thread):
            # Writes that come before the newest checkpoint are its own, or wait for theirs.
            if item.namespace[:-1] == newest:
                if item.namespace not in needed:
                    yield item
            elif item.key == CHECKPOINT:
                newest, needed = item.namespace[:-1], self._needed(item.value)

    def _needed(self, value: dict[str, Any]) -> set[Space]:
        """Return where this checkpoint is, and the ancestors from which its delta channels are
        restored."""
        missing = set(self._load(value["metadata"]).get("counters_since_delta_snapshot", ()))
        place, needed = (value["threadId"], value["checkpointNs"]), set[Space]()
        space, values = self._kept.space(*place, value["checkpointId"]), [value]
        while values and space not in needed:
            needed.add(space)
            parent = values[-1]["parentId"]
            missing -= self._load(values[-1]["checkpoint"])["channel_values"].keys()
            if not missing or parent is None:
                break
            space = self._kept.space(*place, parent)
            values = self._kept.read(space)
        return needed

    def _tuple(self, values: Sequence[Any]) -> CheckpointTuple:
        *tasks, value = values
        writes = sorted(
            (writes_sort_key(task["taskPath"], task["taskId"], int(index)), write)
            for task in tasks
            for index, write in task["writes"].items()
        )
        pending = [
            (task, channel, self._load(stored)) for (_, task, _), (channel, *stored) in writes
        ]
        checkpoint, metadata = self._load(value["checkpoint"]), self._load(value["metadata"])
        parent = None if value["parentId"] is None else _config(value, value["parentId"])
        config = _config(value, value["checkpointId"])
        return CheckpointTuple(config, checkpoint, metadata, parent, pending)

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
    return str(given["thread_id"]), given.get("checkpoint_ns"), get_checkpoint_id(config) or None


def _config(value: dict[str, Any], checkpoint_id: str) -> RunnableConfig:
    place = {"thread_id": value["threadId"], "checkpoint_ns": value["checkpointNs"]}
    return {"configurable": {**place, "checkpoint_id": checkpoint_id}}
