"""Deleting records with what they own."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress

from agentx_persistence._fs import files
from agentx_persistence._fs.files import Locks
from agentx_persistence._fs.index import Index
from agentx_persistence._fs.listings import place
from agentx_persistence._fs.logs import lock_of
from agentx_persistence._fs.records import Record, Records, file_name
from agentx_persistence.errors import CorruptRecordError
from agentx_persistence.storage import Kind, owned_by
from agentx_persistence.storage.kinds import owned_queries

_PAGE = 1_000


class Deletion:
    def __init__(self, records: Records, locks: Locks, index: Index) -> None:
        self._records, self._locks, self._index = records, locks, index

    def delete(self, kind: Kind, key: str, is_kept: Callable[[], bool]) -> bool:
        """:param is_kept: is called with the document's lock; returns whether to delete nothing"""

        def remove() -> bool | None:
            return None if is_kept() else self._remove(kind, key)

        existed = self._locks.hold(lock_of(kind, key), remove)
        if existed is not None:
            self._delete_owned(kind, key)
        return bool(existed)

    def _delete_owned(self, owner: Kind, owner_key: str, hidden: str | None = None) -> None:
        """Delete all documents of the owner.

        :param hidden: the hidden record file of the owner, if the owner is deleted with an owner of
            its own. If the file disappears, another call has taken over, and this one stops. A
            document that is saved after this method has read it stays.
        """
        for kind, owned in owned_queries(owner, owner_key):
            query = owned._replace(limit=_PAGE)
            while rows := self._index.find(kind, query):
                query = query._replace(after=place(query, rows[-1]))
                records = {row[0]: self._sound(kind, row[0]) for row in rows}
                if hidden is not None and not os.path.exists(hidden):
                    return
                for key, record in records.items():
                    revision = record.revision if hidden and record else None
                    self._delete_one(kind, key, owned.where, revision)

    def _delete_one(
        self, kind: Kind, key: str, where: Mapping[str, str], revision: str | None
    ) -> None:
        nested = bool(owned_by(kind))

        def remove() -> bool:
            record = self._sound(kind, key)
            if record is not None:
                moved = any(record.fields.get(field) != owner for field, owner in where.items())
                if moved or revision not in (None, record.revision):
                    return False
            self._remove(kind, key, hide=nested)
            return True

        def remove_hidden() -> None:
            if os.path.exists(hidden):
                self._remove(kind, key)

        lock, hidden = lock_of(kind, key), f"{self._records.path(kind, key)}.hidden"
        if self._locks.hold(lock, remove) and nested:
            self._delete_owned(kind, key, hidden)
            self._locks.hold(lock, remove_hidden)

    def _remove(self, kind: Kind, key: str, *, hide: bool = False) -> bool:
        """Remove or hide the record; return whether it existed. The caller holds its lock."""
        path = self._records.path(kind, key)
        existed = os.path.exists(path)
        if existed:
            self._index.announce(kind, key, None)
            if hide:
                os.replace(path, f"{path}.hidden")
            else:
                os.unlink(path)
        if not hide:
            self._records.remove_rest(kind, key)
        if existed:
            files.sync_folder(os.path.dirname(path))
        if not hide and (existed or self._index.rows(kind, key)):
            self._index.settle(kind, key, None, file_name(kind, key))
        return existed

    def _sound(self, kind: Kind, key: str) -> Record | None:
        """Return the record, or ``None`` if it is damaged or missing."""
        with suppress(CorruptRecordError):
            return self._records.read(kind, key)
        return None
