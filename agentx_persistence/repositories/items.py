"""The repository of items: what an agent keeps that is not a message."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, ClassVar, TypeAlias

from pydantic import TypeAdapter

from agentx_persistence import records
from agentx_persistence.errors import InvalidRecordError, RecordNotFoundError
from agentx_persistence.records import ItemRecord, check_id, check_namespace
from agentx_persistence.records._fields import MAX_ID_LENGTH
from agentx_persistence.repositories._arguments import named
from agentx_persistence.repositories._changes import Change
from agentx_persistence.repositories._repository import Page, RecordStore
from agentx_persistence.storage import ITEMS, Document, Order, Place, Query
from agentx_persistence.storage.kinds import SEPARATOR, item_key, split_item_key

Namespace: TypeAlias = Sequence[str]
_AFTER_KEYS = "\U0010ffff" * (MAX_ID_LENGTH + 1)  # comes after all keys, as each is shorter


class ItemRepository(RecordStore[ItemRecord]):
    """Items, each with a namespace and a key that is unique in it.

    A container owns the items whose namespace begins with its id.
    """

    kind = ITEMS
    record = ItemRecord
    many: ClassVar[TypeAdapter[Any]] = records.ITEMS
    key_fields = "namespace,key"
    orders: ClassVar[tuple[Order, ...]] = ("key", "newest", "oldest")

    def update(self, namespace: Namespace, key: str, change: Change[ItemRecord]) -> ItemRecord:
        """Change the item in one atomic, guarded step; return it; see `Repository.update`.

        :raises RecordNotFoundError: if there is no such item
        """
        return self._update(_key(namespace, key), change)

    def get(self, namespace: Namespace, key: str) -> ItemRecord:
        """Return the item.

        :raises RecordNotFoundError: if there is none
        """
        document_key = _key(namespace, key)
        found = self._find(document_key)
        if found is None:
            raise RecordNotFoundError("item", self._name(document_key))
        return found

    def find(self, namespace: Namespace, key: str) -> ItemRecord | None:
        """Return the item, or ``None`` if there is none."""
        return self._find(_key(namespace, key))

    def find_many(
        self, keys: Iterable[tuple[Namespace, str]]
    ) -> dict[tuple[tuple[str, ...], str], ItemRecord]:
        """Return those of the items that exist, by namespace and key, in the order of `keys`."""
        if isinstance(keys, (str, bytes, type)) or not hasattr(keys, "__iter__"):
            reason = f"must be pairs of a namespace and a key, not {named(keys)}"
            raise InvalidRecordError("argument", "keys", reason)
        asked = {}
        for pair in keys:
            if not isinstance(pair, (tuple, list)) or len(pair) != 2:
                reason = "each must be a pair of a namespace and a key"
                raise InvalidRecordError("argument", "keys", reason)
            namespace, key = pair
            document_key = _key(namespace, key)
            asked[document_key] = tuple(namespace), key
        return {asked[key]: item for key, item in self._find_many(list(asked))}

    def exists(self, namespace: Namespace, key: str) -> bool:
        """Tell whether there is such an item."""
        return bool(self._storage.get(ITEMS, (_key(namespace, key),)))

    def delete(self, namespace: Namespace, key: str) -> bool:
        """Delete the item; tell whether there was such an item."""
        return self._storage.delete(ITEMS, _key(namespace, key))

    def find_all(
        self,
        *,
        namespace: Namespace | None = None,
        namespace_prefix: Namespace | None = None,
        after_namespace: Namespace | None = None,
        order: str = "key",
        since: int | None = None,
        until: int | None = None,
        limit: int | None = None,
    ) -> list[ItemRecord]:
        """Return at most `limit` items of one namespace, or of all namespaces with a prefix.

        :param namespace: the items of exactly this namespace, by key or by time
        :param namespace_prefix: the items of all namespaces whose first elements are these, by
            namespace and key
        :param after_namespace: only those whose namespace comes after this one, which need not
            exist; for a `namespace_prefix`. So one can start in the middle, or find the namespaces
            that there are without reading all their items.
        :param order: "key" is ascending, by code point; "newest" and "oldest" are those of
            `ContainerRepository.find_all`, and only for a `namespace`
        :param since: see `ContainerRepository.find_all`; not for the order "key"
        :param until: likewise
        """
        query = self._query(namespace, namespace_prefix, after_namespace, order, since, until)
        return self._find_all(query._replace(limit=limit))

    def find_page(
        self,
        *,
        namespace: Namespace | None = None,
        namespace_prefix: Namespace | None = None,
        after_namespace: Namespace | None = None,
        order: str = "key",
        since: int | None = None,
        until: int | None = None,
        size: int = 50,
        cursor: str | None = None,
    ) -> Page[ItemRecord]:
        """Return a page of what `find_all` returns; see `ContainerRepository.find_page`."""
        query = self._query(namespace, namespace_prefix, after_namespace, order, since, until)
        return self._find_page(query._replace(limit=size), cursor)

    def count(
        self, *, namespace: Namespace | None = None, namespace_prefix: Namespace | None = None
    ) -> int:
        """Return the number of items that `find_all` returns for these filters."""
        return self._count(self._query(namespace, namespace_prefix, None, "key", None, None))

    def _query(
        self,
        namespace: Namespace | None,
        namespace_prefix: Namespace | None,
        after_namespace: Namespace | None,
        order: str,
        since: int | None,
        until: int | None,
    ) -> Query:
        if (namespace is None) == (namespace_prefix is None):
            reason = "give either a namespace or a namespace_prefix"
            raise InvalidRecordError("argument", "namespace", reason)
        if after_namespace is not None and namespace_prefix is None:
            reason = "needs a namespace_prefix"
            raise InvalidRecordError("argument", "after_namespace", reason)
        text = _text(namespace if namespace is not None else namespace_prefix)
        if order == "key":
            if since is not None or until is not None:
                reason = "needs the order 'newest' or 'oldest'"
                raise InvalidRecordError("argument", "since" if until is None else "until", reason)
            after = None if after_namespace is None else _after(after_namespace)
            prefix = text + SEPARATOR if namespace is not None else text
            return Query(order="key", prefix=prefix, after=after)
        if namespace is None:
            reason = "must be 'key' for a namespace_prefix"
            raise InvalidRecordError("argument", "order", reason)
        return Query({"namespace": text}, order, "", since, until)  # type: ignore[arg-type]

    def _document(self, record: ItemRecord) -> Document:
        document = super()._document(record)
        return document._replace(fields={"namespace": split_item_key(document.key)[0]})

    def _key(self, record: ItemRecord) -> str:
        return item_key(_joined(record.namespace), record.key)

    def _name(self, key: str) -> str:
        namespace, own = split_item_key(key)
        return "/".join([*namespace.split(SEPARATOR)[:-1], own])


def _text(namespace: Any) -> str:
    try:
        return _known(namespace)
    except TypeError:  # a list, or an element that cannot be hashed
        return _joined(check_namespace(namespace))


@lru_cache
def _known(namespace: tuple[str, ...]) -> str:
    """Return the text of a namespace. It is kept, as an application uses a few again and again."""
    return _joined(check_namespace(namespace))


def _joined(namespace: tuple[str, ...]) -> str:
    return SEPARATOR.join(namespace) + SEPARATOR


def _after(namespace: Namespace) -> Place:
    return Place(0, item_key(_text(namespace), _AFTER_KEYS))


def _key(namespace: Namespace, key: str) -> str:
    return item_key(_text(namespace), check_id("item", key))
