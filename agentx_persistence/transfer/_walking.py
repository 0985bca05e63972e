"""Reads a whole store in bounded pieces, and makes of its texts what a storage writes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic.alias_generators import to_camel
from pydantic_core import SchemaValidator, core_schema, from_json

from agentx_persistence.errors import CorruptRecordError, InvalidRecordError, RecordConflictError
from agentx_persistence.records import check_id, new_id
from agentx_persistence.storage import (
    CONTAINERS,
    IMAGES,
    ITEMS,
    SESSIONS,
    Document,
    Entry,
    Kind,
    Query,
    Storage,
    Stored,
    Text,
    Window,
)
from agentx_persistence.storage.kinds import SEPARATOR, split_item_key

# Owners before what they own.
ORDER = (CONTAINERS, IMAGES, ITEMS, SESSIONS)
# How many are read at once: at first, and at most.
FEW, _MANY = 8, 64
_BATCH_COUNT = 1_000
_BATCH_BYTES = 4_000_000
# `Entry(…)` calls this from a Python function, which takes half as long as reading the text.
_new = tuple.__new__
# Reads the whole text, and makes objects of these fields only.
_FIELDS = SchemaValidator(
    core_schema.typed_dict_schema(
        {
            name: core_schema.typed_dict_field(schema)
            for name, schema in (
                *((name, core_schema.str_schema()) for name in ("id", "role", "subtype")),
                ("timestamp", core_schema.int_schema()),
            )
        },
        config=core_schema.CoreConfig(strict=True, extra_fields_behavior="ignore"),
    )
)


def pages(
    storage: Storage, kind: Kind, containers: Sequence[str] | None
) -> Iterator[Sequence[Stored]]:
    """Yield all documents of the kind, or those of these containers.

    Items come by key, the others oldest first. Containers that are given come in any order.
    """
    containers = _each_once(containers)
    if containers is None:
        yield from listing(storage, kind, Query(order="key" if kind is ITEMS else "oldest"))
    elif kind is CONTAINERS:
        if found := storage.get(CONTAINERS, containers):
            yield list(found.values())
    else:
        for container in containers:
            if kind is ITEMS:
                query = Query(order="key", prefix=container + SEPARATOR)
            else:
                query = Query({"container_id": container}, "oldest")
            yield from listing(storage, kind, query)


def _each_once(containers: Sequence[str] | None) -> Sequence[str] | None:
    """:raises InvalidRecordError: if one of them can be no container's id"""
    if isinstance(containers, str):
        raise InvalidRecordError("argument", "containers", "must be a sequence of ids, not str")
    return containers and list(
        dict.fromkeys(check_id("container", container) for container in containers)
    )


def listing(storage: Storage, kind: Kind, query: Query) -> Iterator[Sequence[Stored]]:
    limit, after = FEW, None
    while True:
        documents, after = storage.find(kind, query._replace(limit=limit, after=after))
        limit = fitting(limit, sum(len(document.text) for document in documents))
        if documents:
            yield documents
        if after is None:
            return


def fitting(count: int, size: int) -> int:
    """Return how many to read next to get a few megabytes, after `count` had this size together."""
    return max(1, min(count * _BATCH_BYTES // max(size, 1), 2 * count, _MANY))


def total(storage: Storage, kind: Kind, containers: Sequence[str] | None) -> int:
    """Return about how many documents `pages` yields."""
    containers = _each_once(containers)
    if containers is None:
        return storage.count(kind, Query(order="key" if kind is ITEMS else "newest"))
    if kind is CONTAINERS:
        return len(containers)
    if kind is ITEMS:
        queries = [Query(order="key", prefix=container + SEPARATOR) for container in containers]
    else:
        queries = [Query({"container_id": container}) for container in containers]
    return sum(storage.count(kind, query) for query in queries)


def batches(
    storage: Storage, log: str, after: int, through: int | None = None
) -> Iterator[Sequence[Text]]:
    """Yield the texts of a history after a position, a few megabytes at a time.

    :param through: the last position to yield, if the history is that long
    :raises RecordConflictError: if a message was cut or replaced meanwhile
    :raises CorruptRecordError: if a message is missing
    """
    generation = None
    while through is None or after < through:
        first = _BATCH_COUNT if through is None else min(_BATCH_COUNT, through - after)
        window = Window(after=after, first=first, size=_BATCH_BYTES, headed=True)
        texts, start, head = storage.read(log, window)
        assert head is not None  # as the window asks for it
        if generation not in (None, head.generation):
            raise RecordConflictError("session", log, "its messages were cut or replaced meanwhile")
        generation = head.generation
        if start != after + 1 if texts else after < head.count:
            missing = after + 1
            where = storage.where(SESSIONS, log, missing)
            raise CorruptRecordError("message", f"#{missing}", where)
        if not texts:
            return
        after += len(texts)
        yield texts
        if after >= head.count:
            return


def raw(text: Text) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")


def document_of(storage: Storage, kind: Kind, stored: Stored) -> Document:
    """Return the document with exactly the text that was read from this storage.

    :raises CorruptRecordError: if the text is damaged
    """
    try:
        values = from_json(stored.text)
        if kind is ITEMS:
            fields = {"namespace": split_item_key(stored.key)[0]}
        else:
            found = {field: values.get(to_camel(field)) for field in kind.fields}
            fields = {field: value for field, value in found.items() if isinstance(value, str)}
        text, created_at = raw(stored.text).decode(), values["createdAt"]
        if type(created_at) is not int:
            raise TypeError
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        where = storage.where(kind, stored.key)
        raise CorruptRecordError(kind.noun, name(kind, stored.key), where) from error
    return Document(stored.key, text, created_at, stored.updated_at, fields, token())


def entries_of(storage: Storage, log: str, first: int, texts: Sequence[Text]) -> list[Entry]:
    """Return the entries with exactly these texts, which were read from the position `first` on.

    :raises CorruptRecordError: if a text is damaged, or two have the same id
    """
    entries: list[Entry] = []
    try:
        for text in texts:
            found = _FIELDS.validate_json(text)
            string = text if isinstance(text, str) else text.decode()
            values = found["id"], string, found["role"], found["subtype"], found["timestamp"]
            entries.append(_new(Entry, values))
    except ValueError as error:
        position = first + len(entries)
        where = storage.where(SESSIONS, log, position)
        raise CorruptRecordError("message", f"#{position}", where) from error
    if len({entry.id for entry in entries}) < len(entries):
        known = set[str]()
        for position, entry in enumerate(entries, first):
            if entry.id in known:
                where = storage.where(SESSIONS, log, position)
                raise CorruptRecordError("message", entry.id, where)
            known.add(entry.id)
    return entries


def name(kind: Kind, key: str) -> str:
    """Return the id of a document as people write it."""
    return "/".join(key.split(SEPARATOR)) if kind is ITEMS else key


def token() -> str:
    """Return a text that no other write has."""
    return new_id("copy")


def storage_of(persistence: Any) -> Storage:
    """Return the storage of the persistence, which gives exact texts and times."""
    storage: Storage = persistence._storage
    return storage
