"""The items in which LangGraph's checkpoints are kept.

* ``(container, "checkpoints", thread, ":" + namespace, checkpoint)`` is the namespace of a
  checkpoint, so that each listing is one of a prefix, and the newest checkpoint comes first.
* In it the item "~checkpoint" is the checkpoint, and before it come the writes of each task.
* ``(container, "runs", run)`` has an entry for each checkpoint whose metadata names that run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from agentx_persistence import InvalidRecordError, ItemRecord
from agentx_persistence.integrations.langgraph.items import Space, create_or_change, walk
from agentx_persistence.records import check_id, id_problem
from agentx_persistence.repositories import ItemRepository

CHECKPOINT = "~checkpoint"
# So the namespace of a checkpoint fits an item, unless the container's id is very long.
_MAX_ELEMENT = 64
_COMPLEMENT = bytes(range(255, -1, -1))


class Checkpoints:
    """The checkpoints of one container. A value is the JSON of a checkpoint or of writes."""

    def __init__(self, items: ItemRepository, container_id: str) -> None:
        check_id("container", container_id)
        self._items = items
        self._root = (container_id, "checkpoints")
        self._runs = (container_id, "runs")

    def space(
        self, thread: str | None = None, ns: str | None = None, checkpoint: str | None = None
    ) -> Space:
        """Return the namespace of all checkpoints, of a thread's, or of one's `ns`, or of one."""
        space: Space = self._root
        if thread is not None:
            space = (*space, _element(thread))
            if ns is not None:
                space = (*space, _element(f":{ns}"))
                if checkpoint is not None:
                    space = (*space, _newest_first(checkpoint))
        return space

    def save(self, value: Mapping[str, Any]) -> None:
        """Save a checkpoint in one step; before it, the entry by which its run finds it."""
        space = self.space(value["threadId"], value["checkpointNs"], value["checkpointId"])
        if value["runId"]:
            runs, key = self._entry(space, value["runId"])
            self._items.save(ItemRecord(namespace=runs, key=key, value=list(space)))
        self._items.save(ItemRecord(namespace=space, key=CHECKPOINT, value=dict(value)))

    def save_writes(self, space: Space, value: Mapping[str, Any]) -> None:
        """Save the writes of a task in one step, or merge them with those that are there.

        Of two writes with the same index the first one stays; with a negative index, the last one.
        """

        def merge(old: ItemRecord) -> ItemRecord:
            there, given = old.value["writes"], value["writes"]
            regular = {index: write for index, write in there.items() if int(index) >= 0}
            merged = {**old.value, "writes": {**there, **given, **regular}}
            return old.model_copy(update={"value": merged})

        key = f"write:{_element(value['taskId'])}"
        create_or_change(
            self._items, ItemRecord(namespace=space, key=key, value=dict(value)), merge
        )

    def read(self, space: Space) -> list[Any]:
        """Return the values of one checkpoint: of its writes, then its own; or nothing."""
        return _complete(self._items.find_all(namespace=space))

    def listed(self, space: Space, after: Space | None = None, size: int = 2) -> Iterator[Any]:
        """Yield what `read` returns, of each checkpoint, newest first in each namespace.

        :param after: only those after this checkpoint
        :param size: how many items to read first
        """
        group: list[ItemRecord] = []
        for item in walk(self._items, space, after, size):
            # Writes can be stored before their checkpoint is.
            group = [*group, item] if group and group[0].namespace == item.namespace else [item]
            if values := _complete(group):
                yield values

    def thread(self, thread: str) -> Iterator[ItemRecord]:
        """Yield all items of the thread: of each checkpoint its writes, then itself."""
        return walk(self._items, self.space(thread))

    def delete(self, items: Iterable[ItemRecord]) -> None:
        """Delete the items in reverse: of each checkpoint itself, its writes, its run's entry.

        The newest checkpoint of a namespace goes last, so that no other one passes for it.
        """
        found = [
            (item.namespace, item.key, item.key == CHECKPOINT and item.value.get("runId"))
            for item in items
        ]
        for space, key, run in reversed(found):
            self._items.delete(space, key)
            if run:
                self._items.delete(*self._entry(space, run))

    def delete_run(self, run: str) -> None:
        """Delete the checkpoints of the run, and its entries."""
        for entry in walk(self._items, (*self._runs, _element(run))):
            found = self._items.find_all(namespace=tuple(entry.value))
            if (values := _complete(found)) and values[-1]["runId"] == run:
                self.delete(found)
            self._items.delete(entry.namespace, entry.key)

    def copy(self, source: str, target: str) -> None:
        """Copy a thread, oldest checkpoint first, each after its writes."""
        begin = self.space(target)
        spaces = dict.fromkeys(item.namespace for item in self.thread(source))
        for space in reversed(spaces):
            for item in self._items.find_all(namespace=space):
                if item.key == CHECKPOINT:
                    self.save({**item.value, "threadId": target})
                else:
                    copied = (*begin, *space[len(begin) :])
                    self._items.save(item.model_copy(update={"namespace": copied}))

    def _entry(self, space: Space, run: str) -> tuple[Space, str]:
        return (*self._runs, _element(run)), _element("~" + "/".join(space))


def _complete(items: Sequence[ItemRecord]) -> list[Any]:
    """Return the values, if the last one is a checkpoint."""
    return [item.value for item in items] if items and items[-1].key == CHECKPOINT else []


def _element(text: str) -> str:
    """Return the text as an element or a key; a digest of it, if it is long or cannot be one."""
    if len(text) <= _MAX_ELEMENT and not text.startswith("~") and not id_problem(text):
        return text
    return "~" + hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:48]


def _newest_first(checkpoint_id: str) -> str:
    """Return an element for a checkpoint's id. Their ascending order is the descending one of ids.

    It is the complement of each byte in hexadecimal, and "~", which comes after all digits.
    """
    if id_problem(checkpoint_id) or len(name := checkpoint_id.encode()) > _MAX_ELEMENT:
        reason = f"must be an id of at most {_MAX_ELEMENT} bytes, not {checkpoint_id!r}"
        raise InvalidRecordError("checkpoint", "id", reason)
    return name.translate(_COMPLEMENT).hex() + "~"
