"""Deletions: each document goes whole, and only if it still belongs to the owner.

Up to some thousands of rows go in one transaction. It locks images in the order in which they are
listed, then sessions in the order of their ids, and deletes what still belongs to the owner under
these locks. A record that is being moved away is either moved before, and stays, or its new version
is saved after the deletion.

More rows go in chunks. The owner is hidden first: a container's row is removed, as what it owns is
found without it; an image or session keeps its row, with an empty revision, until the last chunk.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy.engine.interfaces import DBAPICursor as Cursor

from agentx_persistence._sql.documents import Documents
from agentx_persistence._sql.engine import Database
from agentx_persistence._sql.owned import LISTED, OwnedRows, Owner
from agentx_persistence._sql.rows import CHUNK, LogRows, Walk
from agentx_persistence.storage import CONTAINERS, IMAGES, ITEMS, SESSIONS, Kind

# How many images one transaction looks at.
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

    def delete(self, kind: Kind, key: str) -> bool:
        there = False

        def work(cursor: Cursor) -> bool:
            nonlocal there
            revision = self._documents.lock(cursor, kind, key)
            there = there or bool(revision)
            # An absent document cannot be locked. It may have been created since.
            if revision is None and kind not in (CONTAINERS, IMAGES):
                return True
            whole = self._whole[kind](cursor, key)
            if revision is not None and whole:
                self._owned.remove(cursor, kind, key)
            elif revision:
                self._owned.hide(cursor, kind, key)
            return whole

        if not self._database.write(work):
            self._in_chunks[kind](key)
        return there

    # Each of these deletes all that the document owns, or nothing if that is too much for one
    # transaction.

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

    # Each of these deletes in chunks what has been hidden before, and can be repeated.

    def _clear_session(self, id: str) -> None:
        walk = Walk()

        def work(cursor: Cursor) -> bool:
            state = self._rows.lock(cursor, id)
            if state is None:
                return True
            if state.revision:  # created anew
                return self._rows.clear(cursor, id, state.count, walk)
            if not self._rows.clear(cursor, id, 0, walk):
                return False
            self._owned.remove(cursor, SESSIONS, id)
            return True

        self._rows.in_chunks(work)

    def _clear_sessions(self, owner: Owner, holds: Callable[[Cursor], bool]) -> bool:
        """Delete the owner's sessions; tell whether that was done.

        :param holds: tells, in each transaction, whether to go on
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
            """Delete a few images; tell whether none are left, or one was only hidden."""
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
