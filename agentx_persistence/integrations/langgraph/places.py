"""The namespaces and keys under which LangGraph's data is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from agentx_persistence import (
    InvalidRecordError,
    ItemRecord,
    RecordConflictError,
    RecordNotFoundError,
)
from agentx_persistence.records import check_id, id_problem
from agentx_persistence.repositories import ItemRepository

# So that a namespace of a container, a thread, a checkpoint namespace and a checkpoint fits an item.
_MAX_CONTAINER = 120
_MAX_ELEMENT = 64
_COMPLEMENT = bytes(range(255, -1, -1))


def check_container(container_id: str) -> str:
    """Return the id. :raises InvalidRecordError: if it is no id, or longer than 120 characters"""
    check_id("container", container_id)
    if len(container_id) > _MAX_CONTAINER:
        reason = f"must have at most {_MAX_CONTAINER} characters, not {len(container_id)}"
        raise InvalidRecordError("argument", "container_id", reason)
    return container_id


def element(text: str) -> str:
    """Return the text as an element or a key; a digest of it, if it is long or cannot be one."""
    if len(text) <= _MAX_ELEMENT and not text.startswith("~") and not id_problem(text):
        return text
    return "~" + hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:48]


def newest_first(checkpoint_id: str) -> str:
    """Return an element for the id of a checkpoint, whose ascending order is that of descending ids.

    It is the complement of each byte in hexadecimal, and "~", which comes after all digits.
    """
    if id_problem(checkpoint_id) or len(name := checkpoint_id.encode()) > _MAX_ELEMENT:
        reason = f"must be an id of at most {_MAX_ELEMENT} bytes, not {checkpoint_id!r}"
        raise InvalidRecordError("checkpoint", "id", reason)
    return name.translate(_COMPLEMENT).hex() + "~"


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
