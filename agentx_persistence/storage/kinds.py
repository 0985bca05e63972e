"""The kinds of documents, and the key, indexes and owners of each kind."""

from __future__ import annotations

from collections.abc import Mapping

from agentx_persistence.storage.values import Query

# Each element of an item's namespace ends with this character, and one more separates the namespace
# from the item's key. No id holds a control character, so a prefix that ends with this character
# selects exactly the namespaces that begin with the same elements.
SEPARATOR = "\x1f"


class Kind:
    """A kind of document. `KINDS` contains all of them."""

    name: str
    noun: str
    key: str
    indexes: tuple[tuple[str, ...], ...]
    active: tuple[tuple[str, ...], ...]
    fields: tuple[str, ...]
    owners: Mapping[str, str]

    def __init__(
        self,
        name: str,
        noun: str,
        key: str,
        *,
        indexes: tuple[tuple[str, ...], ...],
        active: tuple[tuple[str, ...], ...] = (),
        fields: tuple[str, ...] = (),
        owners: Mapping[str, str] = {},
    ) -> None:
        """:param noun: the word for one such document in error messages

        :param key: the name of the key, as in the record
        :param indexes: the combinations of fields that `Storage.find` can filter by, the names of
            each sorted
        :param active: the combinations that can also be listed in the order "active", by the time
            of the last change
        :param fields: all the fields that a `Document` of this kind may have
        :param owners: for each field that names an owner, the name of the owner's kind
        """
        self.name, self.noun, self.key = name, noun, key
        self.indexes, self.active = indexes, active
        self.fields, self.owners = fields, owners

    def __repr__(self) -> str:
        return self.name


CONTAINERS = Kind("containers", "container", "container_id", indexes=((),))
IMAGES = Kind(
    "images",
    "image",
    "image_id",
    indexes=((), ("container_id",), ("name",), ("container_id", "name")),
    fields=(
        *("container_id", "session_id", "name", "role_id", "os_id", "model", "thinking"),
        *("prototype_id", "parent_image_id"),
    ),
    owners={"container_id": "containers"},
)
SESSIONS = Kind(
    "sessions",
    "session",
    "session_id",
    indexes=((), ("container_id",), ("image_id",), ("container_id", "image_id")),
    fields=("container_id", "image_id"),
    owners={"container_id": "containers", "image_id": "images"},
    active=(("container_id",),),
)
# The key of an item's document consists of the namespace, a separator and the item's own key. So
# sorting by it sorts by namespace, then by own key, and the items of a namespace, or of all
# namespaces with one prefix, have keys with a common prefix.
# An item belongs to the container whose id is the first element of its namespace.
ITEMS = Kind(
    "items",
    "item",
    "key",
    indexes=(("namespace",),),
    fields=("namespace",),
    owners={"namespace": "containers"},
)
KINDS = (CONTAINERS, IMAGES, SESSIONS, ITEMS)


def owned_by(owner: Kind) -> list[tuple[Kind, str]]:
    """Return the kinds that this kind owns, each with the field that names the owner."""
    return [
        (kind, field)
        for kind in KINDS
        for field, owner_name in kind.owners.items()
        if owner_name == owner.name
    ]


def owned_queries(owner: Kind, key: str) -> list[tuple[Kind, Query]]:
    """Return the queries that find the documents which this document owns, each with its kind."""
    return [
        (kind, Query(order="key", prefix=key + SEPARATOR) if kind is ITEMS else Query({field: key}))
        for kind, field in owned_by(owner)
    ]


def item_key(namespace: str, key: str) -> str:
    """Return the key of an item's document. Each element of `namespace` ends with `SEPARATOR`."""
    return f"{namespace}{SEPARATOR}{key}"


def split_item_key(key: str) -> tuple[str, str]:
    """Return the namespace and the key from which `item_key` made this key."""
    namespace, _, own = key.rpartition(SEPARATOR)
    return namespace, own
