"""The statements of a deletion, inside its transaction: list, lock, hide and remove rows."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sqlalchemy import Column, ColumnElement, and_, bindparam, delete, or_, select, update
from sqlalchemy.engine.interfaces import DBAPICursor as Cursor
from sqlalchemy.sql import ClauseElement

from agentx_persistence._sql import tables
from agentx_persistence._sql.documents import DELETED, key_values
from agentx_persistence._sql.engine import Database
from agentx_persistence._sql.rows import CHUNK
from agentx_persistence._sql.statements import chunks, named, numbered
from agentx_persistence._sql.tables import TABLES
from agentx_persistence.storage import IMAGES, SESSIONS, Kind
from agentx_persistence.storage.kinds import SEPARATOR

# How many documents are listed at once.
LISTED = 1000

_images, _sessions, _items = tables.images.c, tables.sessions.c, tables.items.c
# What decides how a session is deleted.
_STATE = (_sessions.message_count, _sessions.revision)


@dataclass
class Owner:
    """The owners whose sessions are deleted: a container, and images."""

    container: str | None = None
    images: Sequence[str] = ()

    @property
    def is_single(self) -> bool:
        return len(self.images) + (self.container is not None) == 1

    def owns(self, container: str | None, image: str | None) -> bool:
        of_container = self.container is not None and container == self.container
        return of_container or image in self.images

    def fields(self) -> Iterator[tuple[str, list[str]]]:
        """Yield the field of a session that names an owner, and owners that it may name."""
        if self.container is not None:
            yield "container_id", [self.container]
        for images in chunks(self.images):
            yield "image_id", images


@dataclass
class Sessions:
    """Locked sessions of an owner.

    Those in `small` can be deleted in this transaction; those in `large` have too many messages for
    it, or are hidden already. If the owner has more sessions, `place` is where to continue; if not,
    it is ``None``.
    """

    small: list[str] = field(default_factory=list)
    large: list[str] = field(default_factory=list)
    place: Sequence[Any] | None = None


class OwnedRows:
    def __init__(self, database: Database) -> None:
        self._database = database

    def hide(self, cursor: Cursor, kind: Kind, key: str) -> None:
        """Hide the document from all calls except its deletion."""
        table = TABLES[kind]
        if kind not in (IMAGES, SESSIONS):
            self.remove(cursor, kind, key)
            return
        values: dict[str, Any] = {"revision": DELETED}
        if kind is SESSIONS:
            values |= {"generation": DELETED, "message_count": 0}
        self._run(
            cursor,
            (kind.name, "hide"),
            lambda: update(table).where(table.c[kind.key] == bindparam("owned")).values(values),
            {"owned": key},
        )

    def remove(self, cursor: Cursor, kind: Kind, key: str) -> None:
        """Delete the document's row, which the caller has locked."""
        table = TABLES[kind]
        condition = [column == bindparam(column.name) for column in table.primary_key]
        self._run(
            cursor,
            (kind.name, "delete"),
            lambda: delete(table).where(*condition),
            key_values(kind, key),
        )

    def lock_images(
        self, cursor: Cursor, container: str, limit: int, after: Sequence[Any] = ()
    ) -> list[Sequence[Any]]:
        """Lock images of the container, including hidden ones; return their places, in order."""
        return self._places(cursor, IMAGES, "container_id", [container], limit, after, lock=True)

    def lock_sessions(self, cursor: Cursor, owner: Owner, after: Sequence[Any] = ()) -> Sessions:
        """Lock sessions of the owner, including hidden ones, until their messages are enough for
        one transaction.

        :param after: the place to continue after; only for a single container or a single image
        """
        if owner.is_single and self._database.flavour.locks_as_it_lists:
            ((field, owners),) = owner.fields()
            listed = locked = self._places(
                cursor, SESSIONS, field, owners, LISTED, after, also=_STATE, lock=True
            )
        else:
            listed = self._list_sessions(cursor, owner, after)
            locked = self._lock_listed(cursor, owner, listed)
        sessions, messages = Sessions(), 0
        for newest, id, count, revision in locked:
            if count > CHUNK or not revision:
                sessions.large.append(id)
            elif messages + count > CHUNK:
                return sessions
            else:
                messages += count
                sessions.small.append(id)
            sessions.place = (newest, id)
        sessions.place = listed[-1][:2] if len(listed) >= LISTED else None
        return sessions

    def _locking(self, size: int) -> ClauseElement:
        among = self._database.flavour.among(_sessions.session_id, "owned", size)
        return (
            select(_sessions.session_id, _sessions.container_id, _sessions.image_id, *_STATE)
            .where(among)
            # PostgreSQL locks in this order, as a listing does. InnoDB locks in the order of ids.
            .order_by(_sessions.newest, _sessions.session_id)
            .with_for_update()
        )

    def _list_sessions(
        self, cursor: Cursor, owner: Owner, after: Sequence[Any]
    ) -> list[Sequence[Any]]:
        listed: list[Sequence[Any]] = []
        # A snapshot may have sessions that others have deleted, and lack others.
        lock = self._database.reads_with_locks
        for column, owners in owner.fields():
            if len(listed) < LISTED:
                listed += self._places(cursor, SESSIONS, column, owners, LISTED, after, lock=lock)
        return listed

    def _lock_listed(
        self, cursor: Cursor, owner: Owner, listed: list[Sequence[Any]]
    ) -> list[Sequence[Any]]:
        """Lock listed sessions; return those that still belong to the owner."""
        places = {id: newest for newest, id in listed}
        states: dict[str, Sequence[Any]] = {}
        for chunk in chunks(list(places)):
            self._run(
                cursor,
                ("lock sessions", len(chunk)),
                partial(self._locking, len(chunk)),
                self._database.flavour.listed("owned", chunk),
            )
            for id, container, image, *state in cursor.fetchall():
                if owner.owns(container, image):
                    states[id] = state
        return [(newest, id, *states[id]) for id, newest in places.items() if id in states]

    def _places(
        self,
        cursor: Cursor,
        kind: Kind,
        field: str,
        owners: Sequence[str],
        limit: int,
        after: Sequence[Any],
        *,
        also: Sequence[Column[Any]] = (),
        lock: bool = False,
    ) -> list[Sequence[Any]]:
        """Return the places of the owners' documents, in order if there is a single owner.

        :param also: columns to return after each place
        """
        table = TABLES[kind]
        order = [table.c.newest, table.c[kind.key]]

        def build() -> ClauseElement:
            listing = select(*order, *also).where(table.c[field].in_(named("owner", len(owners))))
            if len(owners) == 1:
                index = f"ix_{table.name}_{field}_newest_{kind.key}"
                listing = self._database.flavour.from_index(listing, table, index).order_by(*order)
            if after:
                listing = listing.where(self._after(order))
            listing = listing.limit(bindparam("limit"))
            return listing.with_for_update() if lock else listing

        name = ("places", kind.name, field, len(owners), bool(after), lock)
        values = numbered("owner", owners) | {"limit": limit} | _numbered_place(after)
        self._run(cursor, name, build, values)
        return list(cursor.fetchall())

    def remove_sessions(self, cursor: Cursor, ids: Sequence[str]) -> None:
        for chunk in chunks(ids):
            for table in (tables.messages, tables.sessions):
                self._remove_many(cursor, table.c.session_id, chunk)

    def remove_images(self, cursor: Cursor, ids: Sequence[str]) -> None:
        for chunk in chunks(ids):
            self._remove_many(cursor, _images.image_id, chunk)

    def remove_items(
        self,
        cursor: Cursor,
        container: str,
        after: Sequence[str] = (),
        last: Sequence[str] | None = None,
    ) -> None:
        """Delete the container's items after the place `after` and up to the place `last`."""
        condition = self._of_container(after)
        values = _range(container) | _numbered_place(after)
        if last is not None:
            # The second condition implies the first one, but some databases read a range of the
            # index only for the first one.
            condition.append(_items.namespace <= bindparam("last_namespace"))
            condition.append(
                or_(
                    _items.namespace < bindparam("last_namespace"),
                    and_(
                        _items.namespace == bindparam("last_namespace"),
                        _items.key <= bindparam("last_key"),
                    ),
                )
            )
            values |= {"last_namespace": last[0], "last_key": last[1]}
        self._run(
            cursor,
            ("delete items", bool(after), last is None),
            lambda: delete(tables.items).where(*condition),
            values,
        )

    def last_item(
        self, cursor: Cursor, container: str, after: Sequence[str] = ()
    ) -> Sequence[str] | None:
        """Return the place of the item with which a chunk of `LISTED` items ends, or ``None`` if
        there are fewer."""
        lock = self._database.reads_with_locks

        def build() -> ClauseElement:
            query = (
                select(_items.namespace, _items.key)
                .where(*self._of_container(after))
                .order_by(_items.namespace, _items.key)
                .limit(1)
                .offset(LISTED - 1)
            )
            # The items are deleted next, so the lock is the one that their deletion takes.
            return query.with_for_update() if lock else query

        name = ("last item", bool(after), lock)
        self._run(cursor, name, build, _range(container) | _numbered_place(after))
        row: Sequence[str] | None = cursor.fetchone()
        return row

    def _of_container(self, after: Sequence[str]) -> list[ColumnElement[bool]]:
        condition = [_items.namespace >= bindparam("start"), _items.namespace < bindparam("end")]
        return [*condition, self._after([_items.namespace, _items.key])] if after else condition

    def _after(self, order: list[Column[Any]]) -> ColumnElement[bool]:
        places: list[ColumnElement[Any]] = [
            bindparam(f"after{number}") for number in range(len(order))
        ]
        return self._database.flavour.comes_after(order, places, reverse=False)

    def _remove_many(self, cursor: Cursor, column: ColumnElement[Any], keys: list[str]) -> None:
        table: Any = column.table
        flavour = self._database.flavour
        self._run(
            cursor,
            (table.name, "delete many", len(keys)),
            lambda: delete(table).where(flavour.among(column, "owned", len(keys))),
            flavour.listed("owned", keys),
        )

    def _run(
        self,
        cursor: Cursor,
        name: Hashable,
        build: Callable[[], ClauseElement],
        values: dict[str, Any],
    ) -> None:
        statement = self._database.statement(name, build)
        cursor.execute(statement.sql, statement.bind(values))


def _range(container: str) -> dict[str, Any]:
    """Return the bounds of the namespaces whose first element is the container's id."""
    return {"start": container + SEPARATOR, "end": container + chr(ord(SEPARATOR) + 1)}


def _numbered_place(place: Sequence[Any]) -> dict[str, Any]:
    return {f"after{number}": value for number, value in enumerate(place)}
