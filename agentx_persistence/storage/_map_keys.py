"""The keys of the map under a `TransactionalStorage`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from agentx_persistence.storage.kinds import SEPARATOR, Kind
from agentx_persistence.storage.values import Document, Order, Place, Query


def key_of(*parts: str) -> str:
    """Return a key. Only its last part may hold a separator."""
    return SEPARATOR.join(parts)


def entry_key(log: str, position: int) -> str:
    return key_of("entry", log, f"{max(position, 0):010}")


def index_keys(kind: Kind, document: Document) -> Iterator[str]:
    """Return the keys of the document's index entries."""
    order: Order
    for order, combinations in (("newest", kind.indexes), ("active", kind.active)):
        for names in combinations:
            if all(name in document.fields for name in names):
                where = {name: document.fields[name] for name in names}
                time = _descending(time_of(order, document))
                yield _index(kind, order, where) + time + document.key


def time_of(order: Order, document: Document) -> int:
    """Return the time by which this order sorts the document."""
    if order == "active":
        return document.updated_at // 1000
    return 0 if order == "key" else document.created_at


def range_of(kind: Kind, query: Query) -> tuple[str, str, int]:
    """Return the range of keys to scan for the query (start included, end excluded), and the offset
    at which the document's own key begins in each of them."""
    if query.order == "key":
        prefix = key_of(kind.name, "")
        return prefix + query.prefix, _end(prefix + query.prefix), len(prefix)
    prefix = _index(kind, query.order, query.where)
    start, stop = prefix, _end(prefix)
    unit = 1000 if query.order == "active" else 1
    if query.until is not None:
        start = prefix + _descending(-(-query.until // unit) - 1)
    if query.since is not None:
        stop = prefix + _descending(query.since // unit - 1)
    return start, stop, len(prefix + _descending(0))


def place_key(kind: Kind, query: Query, place: Place) -> str:
    """Return the key of this place among those that the query scans."""
    if query.order == "key":
        return key_of(kind.name, place.key)
    return _index(kind, query.order, query.where) + _descending(place.time) + place.key


def _index(kind: Kind, order: Order, where: Mapping[str, str]) -> str:
    # JSON escapes the separators that a value may hold.
    values = json.dumps(sorted(where.items()))
    return key_of("index", kind.name, "active" if order == "active" else "newest", values, "")


def _descending(time: int) -> str:
    """Return a text of fixed length; the later the time is, the lower the text sorts."""
    return f"{2**63 - time:020}"


def _end(prefix: str) -> str:
    """Return the lowest text that is higher than all texts with this prefix."""
    prefix = prefix.rstrip("\U0010ffff")
    following = ord(prefix[-1]) + 1
    # U+D800 to U+DFFF are surrogates, which cannot be encoded in UTF-8; U+E000 follows them.
    return prefix[:-1] + ("\ue000" if following == 0xD800 else chr(following))
