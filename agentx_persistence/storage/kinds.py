"""The kinds of documents: the key, the indexes and the owners of each."""

from __future__ import annotations

from collections.abc import Mapping

# Ends each element of an item's namespace, and separates the namespace from the key. No id holds a
# control character, so one namespace begins with another one exactly if its text does.
SEPARATOR = "\x1f"


class Kind:
    """A kind of documents. There are those of `KINDS`, and no others."""

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
        """:param noun: what errors call one of them

        :param key: what the key is called
        :param indexes: the combinations of fields that `Storage.find` can be asked for, each in
            the order of its names
        :param active: those that can be listed by the time of the last change
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
# The key of an item is its namespace, a separator and its own key: so listing by key lists by
# namespace and key, and both a namespace and a prefix of one are a prefix of keys.
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


def item_key(namespace: str, key: str) -> str:
    """Return the document's key for an item of this namespace, whose elements are all ended."""
    return f"{namespace}{SEPARATOR}{key}"


def split_item_key(key: str) -> tuple[str, str]:
    """Return the namespace, whose elements are all ended, and the key of an item."""
    namespace, _, own = key.rpartition(SEPARATOR)
    return namespace, own
