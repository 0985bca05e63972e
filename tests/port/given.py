"""Documents and entries to store, and what is stored in a form to compare."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count

from agentx_persistence.storage import (
    CONTAINERS,
    IMAGES,
    ITEMS,
    SESSIONS,
    Document,
    Entry,
    Found,
    Kind,
    Order,
    Query,
    Slice,
    Storage,
    Text,
    Window,
)
from agentx_persistence.storage.kinds import SEPARATOR, item_key

_FIELDS = {
    CONTAINERS: {},
    IMAGES: {"container_id": "box", "session_id": "log"},
    SESSIONS: {"container_id": "box", "image_id": "picture"},
    ITEMS: {"namespace": f"box{SEPARATOR}"},
}
_tokens = count()


def token() -> str:
    """Return a token that no other write of these tests has."""
    return f"token-{next(_tokens)}"


def own(kind: Kind, key: str = "key") -> str:
    """Return a key as this kind has them: that of an item begins with its namespace."""
    return item_key(namespace_of("box"), key) if kind is ITEMS else key


def every(kind: Kind, order: Order = "newest") -> Query:
    """Return the query for all documents that these functions make of this kind."""
    return Query({"namespace": namespace_of("box")} if kind is ITEMS else {}, order)


def document(
    kind: Kind,
    key: str | None = None,
    text: str = "text",
    at: int = 1000,
    updated_at: int | None = None,
    **fields: str,
) -> Document:
    key = own(kind) if key is None else key
    updated_at = at if updated_at is None else updated_at
    return Document(key, text, at, updated_at, _FIELDS[kind] | fields, token())


def session(
    key: str = "log",
    text: str = "text",
    at: int = 1000,
    updated_at: int | None = None,
    **fields: str,
) -> Document:
    return document(SESSIONS, key, text, at, updated_at, **fields)


def item(*elements: str, key: str, at: int = 1000) -> Document:
    namespace = namespace_of(*elements)
    return document(ITEMS, item_key(namespace, key), at=at, namespace=namespace)


def namespace_of(*elements: str) -> str:
    return "".join(element + SEPARATOR for element in elements)


def entry(id: str, text: str | None = None) -> Entry:
    return Entry(id, id if text is None else text, "user", "user", 5)


def entries(*ids: str) -> list[Entry]:
    """Return entries whose texts are their ids."""
    return [entry(id) for id in ids]


def log_of(storage: Storage, ids: Iterable[str] = "abcde", log: str = "log") -> None:
    """Create a session with these entries."""
    storage.append(log, entries(*ids), 1000, create=session(log))


def plain(text: Text) -> str:
    return text if isinstance(text, str) else text.decode()


def texts(found: Slice) -> list[str]:
    return [*map(plain, found.texts)]


def history(storage: Storage, log: str = "log") -> list[str]:
    """Return all texts of a log."""
    found = storage.read(log, Window(headed=True))
    assert found.head is not None
    assert found.head.count == len(found.texts)
    return texts(found)


def there(found: object) -> dict[str, tuple[int, str]]:
    """Return what a write found in its way."""
    assert isinstance(found, Found)
    return {id: (position, plain(text)) for id, (position, text) in found.there.items()}


def text_of(storage: Storage, kind: Kind, key: str | None = None) -> str | None:
    key = own(kind) if key is None else key
    found = storage.get(kind, [key])
    assert set(found) <= {key}
    return plain(found[key].text) if found else None


def updated_at(storage: Storage, log: str = "log") -> int:
    """Return the session's time, which reading and listing must agree about."""
    at = storage.get(SESSIONS, [log])[log].updated_at
    listed = storage.find(SESSIONS, Query()).documents
    assert [found.updated_at for found in listed if found.key == log] == [at]
    return at


def found_keys(storage: Storage, kind: Kind, query: Query) -> list[str]:
    """Return the keys of a query without a limit, which `count` must agree with."""
    listing = storage.find(kind, query)
    assert listing.after is None
    assert storage.count(kind, query) == len(listing.documents)
    return [found.key for found in listing.documents]


def paged_keys(storage: Storage, kind: Kind, query: Query, size: int) -> list[str]:
    """Return the keys of a query, read in pages of this size."""
    keys: list[str] = []
    query = query._replace(limit=size)
    while True:
        listing = storage.find(kind, query)
        keys += [found.key for found in listing.documents]
        assert len(keys) == len({*keys})  # or it might go on for ever
        if listing.after is None:
            return keys
        assert len(listing.documents) == size
        query = query._replace(after=listing.after)
