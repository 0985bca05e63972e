"""What the saver and the store both do with items."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from agentx_persistence import ItemRecord, RecordConflictError, RecordNotFoundError
from agentx_persistence.repositories import ItemRepository

PAGE = 32
Space = tuple[str, ...]


def walk(
    items: ItemRepository, space: Space, after: Space | None = None, size: int = PAGE
) -> Iterator[ItemRecord]:
    """Yield the items whose namespace begins with `space`, by namespace and key.

    :param after: only those whose namespace comes after this one
    :param size: how many to read first; the pages grow
    """
    cursor, more = None, True
    while more:
        size = max(1, min(size, PAGE))
        page = items.find_page(
            namespace_prefix=space, after_namespace=after, size=size, cursor=cursor
        )
        yield from page.items
        cursor, more, size = page.next_cursor, page.next_cursor is not None, 2 * size


def create_or_change(
    items: ItemRepository, record: ItemRecord, change: Callable[[ItemRecord], ItemRecord]
) -> None:
    """Create the item, or change the one that is there; each is one atomic step."""
    while True:  # again only if the item is deleted between the two steps
        try:
            return items.create(record)
        except RecordConflictError:
            try:
                items.update(record.namespace, record.key, change)
            except RecordNotFoundError:
                continue
            return None
