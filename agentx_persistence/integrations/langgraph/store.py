"""A store for LangGraph's long-term memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from operator import eq, ge, gt, le, lt, ne
from typing import Any

from langgraph.store.base import (
    BaseStore,
    GetOp,
    Item,
    ListNamespacesOp,
    MatchCondition,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
    validate_op_namespace,
)

from agentx_persistence import ItemRecord, Persistence
from agentx_persistence.integrations._threads import in_thread
from agentx_persistence.integrations.langgraph.items import PAGE, Space, create_or_merge, walk
from agentx_persistence.records import check_id

_OPERATORS = {"$eq": eq, "$ne": ne, "$gt": gt, "$gte": ge, "$lt": lt, "$lte": le}


class PersistentStore(BaseStore):
    """Keeps LangGraph's memories as items, on any backend.

    Values are JSON and come back exactly; what JSON cannot give back is refused. Each write of a
    batch is an atomic step. Nothing expires, and there is no vector search: as in LangGraph's
    stores without an index, `query` and `index` have no effect.

    :param persistence: open, and not closed by the store
    :param container_id: owns all memories. Deleting the container deletes them.
    """

    __slots__ = ("_items", "_root")

    def __init__(self, persistence: Persistence, *, container_id: str = "langgraph") -> None:
        check_id("container", container_id)
        self._items = persistence.items
        self._root = (container_id, "store")

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Run the operations; return the result of each. All reads come before the first write."""
        ops = list(ops)
        for op in ops:
            validate_op_namespace(op)
        gets = [(self._space(op.namespace), op.key) for op in ops if isinstance(op, GetOp)]
        found = self._items.find_many(gets)
        # The last of several writes of one item counts. All are checked before the first is made.
        writes: dict[tuple[Space, str], ItemRecord | None] = {}
        results: list[Result] = []
        for op in ops:
            result: Result = None
            if isinstance(op, GetOp):
                item = found.get((self._space(op.namespace), op.key))
                result = None if item is None else Item(**_fields(item))
            elif isinstance(op, SearchOp):
                result = list(islice(self._search(op), op.offset, op.offset + op.limit))
            elif isinstance(op, ListNamespacesOp):
                listed = dict.fromkeys(self._namespaces(op))
                result = list(listed)[op.offset : op.offset + op.limit]
            elif isinstance(op, PutOp):
                space, record = self._space(op.namespace), None
                if op.value is not None:
                    record = ItemRecord(namespace=space, key=op.key, value=dict(op.value))
                writes[space, op.key] = record
            else:
                raise TypeError(f"unknown operation: {type(op).__name__}")
            results.append(result)
        for (namespace, key), record in writes.items():
            if record is None:
                self._items.delete(namespace, key)
            else:
                create_or_merge(self._items, record, lambda old, new: new)
        return results

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Run `batch` in a thread."""
        return await in_thread(self.batch, list(ops))

    def _space(self, namespace: Space) -> Space:
        return (*self._root, *namespace)

    def _search(self, op: SearchOp) -> Iterator[SearchItem]:
        """Yield what the filter lets through, by namespace and key."""
        size = PAGE if op.filter else op.offset + op.limit
        for item in walk(self._items, self._space(op.namespace_prefix), size=size):
            if _fits(item.value, op.filter or {}):
                yield SearchItem(**_fields(item))

    def _namespaces(self, op: ListNamespacesOp) -> Iterator[Space]:
        """Yield the namespaces in order, cut to the depth. Of each one item is read."""
        conditions, space = op.match_conditions or (), self._space(())
        for condition in conditions:
            if condition.match_type == "prefix" and "*" not in condition.path:
                space = max(space, self._space(condition.path), key=len)
        after = None
        while found := self._items.find_all(namespace_prefix=space, after_namespace=after, limit=1):
            after = found[0].namespace
            namespace = after[len(self._root) :]
            if all(_matches(condition, namespace) for condition in conditions):
                yield namespace[: op.max_depth]


def _fields(item: ItemRecord) -> dict[str, Any]:
    created, updated = (
        datetime.fromtimestamp(at / 1000, UTC) for at in (item.created_at, item.updated_at)
    )
    named = {"namespace": item.namespace[2:], "key": item.key, "value": item.value}
    return {**named, "created_at": created, "updated_at": updated}


def _matches(condition: MatchCondition, namespace: Space) -> bool:
    path = condition.path
    if condition.match_type not in ("prefix", "suffix"):
        raise ValueError(f"match_type must be 'prefix' or 'suffix', not {condition.match_type!r}")
    start = 0 if condition.match_type == "prefix" else len(namespace) - len(path)
    part = namespace[start : start + len(path)] if start >= 0 else ()
    return len(part) == len(path) and all(
        wanted in ("*", label) for wanted, label in zip(path, part, strict=True)
    )


def _fits(value: Any, wanted: Any) -> bool:
    """Tell whether a value is the wanted one, or has the wanted keys, or passes the operators."""
    if isinstance(wanted, Mapping):
        if any(str(key).startswith("$") for key in wanted):
            return all(_compares(value, name, bound) for name, bound in wanted.items())
        return isinstance(value, Mapping) and all(
            _fits(value.get(key), each) for key, each in wanted.items()
        )
    if isinstance(wanted, list | tuple):
        return (
            isinstance(value, list) and len(value) == len(wanted) and all(map(_fits, value, wanted))
        )
    return bool(value == wanted)


def _compares(value: Any, name: str, bound: Any) -> bool:
    if name not in _OPERATORS:
        raise ValueError(f"unknown operator {name!r}; use one of {', '.join(_OPERATORS)}")
    try:
        return bool(_OPERATORS[name](value, bound))
    except TypeError:  # such as a text and a number, which have no order
        return False
