"""What all repositories share: the verbs, and records as documents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from agentx_persistence.errors import (
    InvalidRecordError,
    RecordConflictError,
    RecordNotFoundError,
)
from agentx_persistence.records import Record, check_id
from agentx_persistence.repositories._arguments import (
    attempts,
    check_count,
    check_ids,
    check_limit,
    check_time,
    decode_cursor,
    encode_cursor,
    named,
    new_token,
)
from agentx_persistence.repositories._changes import (
    Change,
    as_function,
    checked,
    sets_time,
    timed,
)
from agentx_persistence.repositories._loading import load
from agentx_persistence.storage import Document, Kind, Order, Query, Storage, Stored

R = TypeVar("R", bound=Record)


@dataclass(frozen=True, slots=True)
class Page(Generic[R]):
    """Some records, and the cursor for those that follow; ``None`` when there are no more."""

    items: list[R]
    next_cursor: str | None


class RecordStore(Generic[R]):
    """Records of one kind, by the keys of their documents."""

    kind: ClassVar[Kind]
    record: ClassVar[type[Any]]
    many: ClassVar[TypeAdapter[Any]]
    # The fields that make the key, separated by commas.
    key_fields: ClassVar[str]
    orders: ClassVar[tuple[Order, ...]] = ("newest", "oldest")

    def __init__(self, storage: Storage, contention_timeout: float = 60.0) -> None:
        """:param contention_timeout: see `create_persistence`"""
        self._storage, self._contention_timeout = storage, contention_timeout
        # The fields that determine a record's index entries.
        self._places = itemgetter(*self.kind.fields, "created_at")

    def save(self, record: R) -> None:
        """Create the record, or replace the whole of the one with this id, in one step.

        Listings then find it only by its new fields. What it owns stays as it is, and its owner
        need not exist.

        :raises RecordTooLargeError: if the backend cannot hold it
        """
        self._storage.put(self.kind, self._document(record))

    def create(self, record: R) -> None:
        """Create the record.

        :raises RecordConflictError: if the id is taken; nothing changes then
        :raises RecordTooLargeError: if the backend cannot hold it
        """
        document = self._document(record)
        if not self._storage.create(self.kind, document):
            raise RecordConflictError(self.kind.noun, self._name(document.key))

    def _update(self, key: str, change: Change[R]) -> R:
        apply, is_timed = as_function(self.record, change), sets_time(change)
        for _ in attempts(self._storage, self.kind.noun, self._name(key), self._contention_timeout):
            stored = self._storage.get(self.kind, [key]).get(key)
            if stored is None:
                break
            old = self._load_one(stored)
            new: R = checked(self.record, self.key_fields, old, apply(old))
            if not is_timed:
                new = timed(old, new)
            stays = self._places(old.__dict__) == self._places(new.__dict__)
            replace = self._storage.amend if stays else self._storage.replace
            if replace(self.kind, self._document(new), stored.revision):
                return new
        raise RecordNotFoundError(self.kind.noun, self._name(key))

    def _find(self, key: str) -> R | None:
        stored = self._storage.peek(self.kind, key)
        return None if stored is None else self._load_one(stored)

    def _find_many(self, keys: Sequence[str]) -> list[tuple[str, R]]:
        found = self._storage.get(self.kind, keys) if keys else {}
        listed = [key for key in keys if key in found]
        return list(zip(listed, self._load([found[key] for key in listed]), strict=True))

    def _find_all(self, query: Query) -> list[R]:
        check_limit("limit", query.limit)
        return self._load(self._storage.find(self.kind, self._checked(query)).documents)

    def _find_page(self, query: Query, cursor: str | None) -> Page[R]:
        check_count("size", query.limit, 1)
        query = self._checked(query)
        if cursor is not None:
            query = query._replace(after=decode_cursor(query.order, cursor))
        listing = self._storage.find(self.kind, query)
        following = listing.after and encode_cursor(query.order, listing.after)
        return Page(self._load(listing.documents), following)

    def _count(self, query: Query) -> int:
        return self._storage.count(self.kind, self._checked(query))

    def _checked(self, query: Query) -> Query:
        order = query.order
        if order not in self.orders:
            reason = f"must be one of {', '.join(map(repr, self.orders))}, not {order!r}"
            raise InvalidRecordError("argument", "order", reason)
        if query.since is not None:
            check_time("since", query.since)
        if query.until is not None:
            check_time("until", query.until)
        if order == "active" and tuple(sorted(query.where)) not in self.kind.active:
            fields = " or ".join(" and ".join(names) for names in self.kind.active)
            reason = f"'active' lists by {fields}; give no other filter"
            raise InvalidRecordError("argument", "order", reason)
        return query

    def _document(self, record: R) -> Document:
        if not isinstance(record, self.record):
            reason = f"must be {self.record.__name__}, not {named(record)}"
            raise InvalidRecordError(self.record._rules.kind, "record", reason)
        text = record.to_json()
        values = record.__dict__
        fields = {
            field: value for field in self.kind.fields if (value := values.get(field)) is not None
        }
        return Document(
            self._key(record), text, values["created_at"], values["updated_at"], fields, new_token()
        )

    def _key(self, record: R) -> str:
        key: str = record.__dict__[self.key_fields]
        return key

    def _name(self, key: str) -> str:
        """Return the id as errors show it."""
        return key

    def _load_one(self, stored: Stored) -> R:
        try:
            # Takes less time than a list of one text.
            record: R = self.record.__pydantic_validator__.validate_json(stored.text)
        except (ValidationError, TypeError):  # as in `load`
            (record,) = self._load([stored])
        return record

    def _load(self, stored: Sequence[Stored]) -> list[R]:
        def describe(index: int) -> tuple[str, str, str]:
            key = stored[index].key
            return self.kind.noun, self._name(key), self._storage.where(self.kind, key)

        return load(self.many, [document.text for document in stored], describe)


class Repository(RecordStore[R], Generic[R]):
    """The verbs of records that have an id."""

    def update(self, id: str, change: Change[R]) -> R:
        """Change the record in one atomic, guarded step, index entries included; return it.

        :param change: a mapping, applied as a JSON Merge Patch (RFC 7396): nested maps are merged,
            ``None`` removes; keys are wire names or snake_case. Or a function from the record to
            the new one; it runs outside locks and transactions, and may be called again. The id
            cannot change. `updated_at` becomes the time of the call unless the change sets it (a
            function: to another time than the old one).
        :raises RecordNotFoundError: if there is no such record
        """
        id = check_id(self.kind.noun, id)
        return self._update(id, change)

    def get(self, id: str) -> R:
        """Return the record.

        :raises RecordNotFoundError: if there is none
        """
        id = check_id(self.kind.noun, id)
        found = self._find(id)
        if found is None:
            raise RecordNotFoundError(self.kind.noun, id)
        return found

    def find(self, id: str) -> R | None:
        """Return the record, or ``None`` if there is none."""
        id = check_id(self.kind.noun, id)
        return self._find(id)

    def find_many(self, ids: Iterable[str]) -> dict[str, R]:
        """Return those of the records that exist, by their ids, in the order of `ids`."""
        return dict(self._find_many(check_ids(self.kind.noun, ids)))

    def exists(self, id: str) -> bool:
        """Tell whether there is such a record."""
        id = check_id(self.kind.noun, id)
        return bool(self._storage.get(self.kind, (id,)))

    def delete(self, id: str) -> bool:
        """Delete the record and all that it owns; tell whether there was such a record.

        A container owns its images, its sessions, and the items whose namespace begins with its
        id; an image owns its sessions, a session its messages. What an absent record owns is
        deleted as well, so that an interrupted deletion can be repeated. A record that moves to
        another owner meanwhile is not touched. One that is saved into this owner meanwhile may be
        deleted or stay.
        """
        id = check_id(self.kind.noun, id)
        return self._storage.delete(self.kind, id)


def query(
    where: Mapping[str, str], order: str, since: int | None, until: int | None, limit: int | None
) -> Query:
    """Return the query of a listing, which `RecordStore` checks."""
    return Query(where, order, "", since, until, None, limit)  # type: ignore[arg-type]
