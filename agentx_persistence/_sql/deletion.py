"""Deletions. A document is deleted as a whole, and only if it still belongs to the deleted owner.

Up to some thousands of rows are deleted in one transaction. It locks images, then sessions, each in
the same order as other deletions do, and then deletes those that still belong to the owner. A
record that another call is moving to another owner is either moved before it is locked, and stays,
or is saved again after the deletion.

More rows are deleted in chunks. First the owner is hidden from other calls. The row of a container
is removed, as all that it owns is found without that row. An image or session keeps its row, with
an empty `revision`, until the last chunk is deleted.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy.engine.interfaces import DBAPICursor as Cursor

from agentx_persistence._sql.attempts import answer_lost
from agentx_persistence._sql.documents import Documents
from agentx_persistence._sql.engine import Database
from agentx_persistence._sql.owned import LISTED, OwnedRows, Owner
from agentx_persistence._sql.rows import CHUNK, LogRows, Walk
from agentx_persistence.storage import CONTAINERS, IMAGES, ITEMS, SESSIONS, Kind

# How many images one transaction locks when a container is deleted in chunks.
_IMAGES = 50


class Deletion:
    def __init__(self, database: Database, documents: Documents, rows: LogRows) -> None:
        self._database, self._documents, self._rows = database, documents, rows
        self._owned = OwnedRows(database)
        self._whole: dict[Kind, Callable[[Cursor, str], bool]] = {
            CONTAINERS: self._whole_container,
            IMAGES: self._whole_image,
            SESSIONS: self._whole_session,
            ITEMS: lambda cursor, key: True,  # owns nothing
        }
        self._in_chunks: dict[Kind, Callable[[str], None]] = {
            CONTAINERS: self._clear_container,
            IMAGES: self._clear_image,
            SESSIONS: self._clear_session,
        }

    def delete(self, kind: Kind, key: str, before: int | None) -> bool:
        # The revision that an earlier attempt found. That attempt may have deleted the document.
        tried: str | None = None

        def work(cursor: Cursor) -> bool:
            nonlocal tried
            if before is None:
                revision = self._documents.lock(cursor, kind, key)
            else:
                revision, updated_at = self._documents.lock_timed(cursor, kind, key)
                if revision and updated_at >= before:
                    if tried not in (None, revision):
                        backend = self._database.flavour.backend
                        raise answer_lost(backend, f"{kind.noun} {key!r}")
                    tried = None
                    return True
            tried = revision or tried
            # An absent row cannot be locked, and another call may be creating it now. An absent
            # session or item owns nothing.
            if revision is None and kind not in (CONTAINERS, IMAGES):
                return True
            whole = self._whole[kind](cursor, key)
            if revision is not None and whole:
                self._owned.remove(cursor, kind, key)
            elif revision:
                self._owned.hide(cursor, kind, key)
            return whole

        def undone() -> None:
            nonlocal tried
            tried = None

        if not self._database.write(work, undone):
            self._in_chunks[kind](key)
        return tried is not None

    # The methods `_whole_…` delete all that the document owns, and return True. If that is too much
    # for one transaction, they delete nothing and return False.

    def _whole_session(self, cursor: Cursor, id: str) -> bool:
        top = self._rows.top(cursor, id)
        if top > CHUNK:
            return False
        self._rows.delete_range(cursor, id, 0, top)
        return True

    def _whole_image(self, cursor: Cursor, id: str) -> bool:
        return self._delete_sessions(cursor, Owner(images=[id]))

    def _whole_container(self, cursor: Cursor, id: str) -> bool:
        listed = self._owned.lock_images(cursor, id, LISTED)
        if len(listed) == LISTED or self._owned.last_item(cursor, id):
            return False
        images = [image for _, image in listed]
        if not self._delete_sessions(cursor, Owner(container=id, images=images)):
            return False
        self._owned.remove_images(cursor, images)
        self._owned.remove_items(cursor, id)
        return True

    def _delete_sessions(self, cursor: Cursor, owner: Owner) -> bool:
        sessions = self._owned.lock_sessions(cursor, owner)
        if sessions.place is not None or sessions.large:
            return False
        self._owned.remove_sessions(cursor, sessions.small)
        return True

    # The methods `_clear_…` delete in chunks a document that is hidden or absent, and all that it
    # owns. A repeated call deletes what an interrupted one left.

    def _clear_session(self, id: str) -> None:
        walk = Walk()

        def work(cursor: Cursor) -> bool:
            state = self._rows.lock(cursor, id)
            if state is None:
                return True
            if state.revision:  # another call has created the session again: keep its messages
                return self._rows.clear(cursor, id, state.count, walk)
            if not self._rows.clear(cursor, id, 0, walk):
                return False
            self._owned.remove(cursor, SESSIONS, id)
            return True

        self._rows.in_chunks(work)

    def _clear_sessions(self, owner: Owner, holds: Callable[[Cursor], bool]) -> bool:
        """Delete the owner's sessions; return False if `holds` has stopped that.

        :param holds: called in each transaction; returns whether to go on
        """
        held = True
        large: list[str] = []
        walk = Walk()

        def chunk(cursor: Cursor) -> bool:
            nonlocal held, large
            large = []
            held = holds(cursor)
            if not held:
                return True
            sessions = self._owned.lock_sessions(cursor, owner, walk.place)
            self._owned.remove_sessions(cursor, sessions.small)
            for id in sessions.large:
                self._owned.hide(cursor, SESSIONS, id)
            large = sessions.large
            return walk.reached(sessions.place) or bool(large)

        self._rows.in_chunks(chunk)
        while large:
            for id in large:
                self._clear_session(id)
            self._rows.in_chunks(chunk)
        return held

    def _clear_image(self, id: str) -> None:
        """Delete the sessions of an image that is hidden or absent, then the image."""

        def gone(cursor: Cursor) -> bool:
            return not self._documents.lock(cursor, IMAGES, id)

        def work(cursor: Cursor) -> None:
            if self._documents.lock(cursor, IMAGES, id) == "":
                self._owned.remove(cursor, IMAGES, id)

        if self._clear_sessions(Owner(images=[id]), gone):
            self._database.write(work)

    def _clear_container(self, id: str) -> None:
        hidden: str | None = None
        images_walk, items_walk = Walk(), Walk()

        def images(cursor: Cursor) -> bool:
            """Delete a few images. Return True if none are left, or if one was only hidden because
            its sessions are too many for one transaction."""
            nonlocal hidden
            hidden = None
            listed = self._owned.lock_images(cursor, id, _IMAGES, images_walk.place)
            for some in (listed, listed[:1]):
                keys = [image for _, image in some]
                if self._delete_sessions(cursor, Owner(images=keys)):
                    self._owned.remove_images(cursor, keys)
                    more = len(listed) == _IMAGES or len(some) < len(listed)
                    return images_walk.reached(some[-1] if more else None)
            hidden = listed[0][1]
            self._owned.hide(cursor, IMAGES, hidden)
            return True

        def items(cursor: Cursor) -> bool:
            last = self._owned.last_item(cursor, id, items_walk.place)
            self._owned.remove_items(cursor, id, items_walk.place, last)
            return items_walk.reached(last)

        self._rows.in_chunks(images)
        while hidden is not None:
            self._clear_image(hidden)
            self._rows.in_chunks(images)
        self._clear_sessions(Owner(container=id), lambda cursor: True)
        self._rows.in_chunks(items)
