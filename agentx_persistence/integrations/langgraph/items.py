"""What the saver and the store both do with items."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

from agentx_persistence import ItemRecord, RecordConflictError, RecordNotFoundError
from agentx_persistence.repositories import ItemRepository

PAGE = 32
Space = tuple[str, ...]
Merge = Callable[[Any, Any], Any]


def walk(
    items: ItemRepository, space: Space, after: Space | None = None, size: int = PAGE
) -> Iterator[ItemRecord]:
    """Yield the items whose namespace begins with `space`, by namespace and key.

    :param after: only those whose namespace comes after this one
    :param size: how many to read first; the pages grow
    """
    find = partial(items.find_page, namespace_prefix=space, after_namespace=after)
    cursor, more = None, True
    while more:
        size = max(1, min(size, PAGE))
        page = find(size=size, cursor=cursor)
        yield from page.items
        cursor, more, size = page.next_cursor, page.next_cursor is not None, 2 * size


def create_or_merge(items: ItemRepository, record: ItemRecord, merge: Merge) -> None:
    """Create the item, or give the one that is there a new value; each is one atomic step.

    :param merge: returns the new value, from the one that is there and the record's
    """

    def change(old: ItemRecord) -> ItemRecord:
        return old.model_copy(update={"value": merge(old.value, record.value)})

    while True:  # again only if the item is deleted between the two steps
        with suppress(RecordConflictError):
            return items.create(record)
        with suppress(RecordNotFoundError):
            items.update(record.namespace, record.key, change)
            return None
