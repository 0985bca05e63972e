"""The documents of all kinds, with their index entries.

The file of a document is what counts. It is drafted before its new index entries are made, and
published before its old ones go, which it names. An index entry that does not agree with it is
passed over: a process that dies between leaves only such entries behind, and who meets one removes
it. So does who changes the document next, or opens the store: the draft or the document tells.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import replace

from agentx_persistence._fs import document_file, files, layout
from agentx_persistence._fs.document_file import Stored
from agentx_persistence._fs.files import file_name
from agentx_persistence._fs.index import FIRST, Index, Place, Subject
from agentx_persistence._fs.locks import Locks
from agentx_persistence._fs.logs import Log, Logs
from agentx_persistence.documents import Document
from agentx_persistence.documents.store import CONTAINERS, IMAGES, SESSIONS
from agentx_persistence.errors import BackendError, CorruptRecordError

_LOGGER = logging.getLogger("agentx_persistence")

# How often a listing is done again because what it lists was moved meanwhile.
_ATTEMPTS = 100


class Documents:
    """The folders of the store. A session's log is beside its document."""

    def __init__(self, base: str, locks: Locks, logs: Logs) -> None:
        self._base, self._locks, self._logs = base, locks, logs
        self._deleted_folder = f"{base}/deleted"
        self._drafts_folder = f"{base}/drafts"

    def open(self) -> None:
        """Make the folders; finish what a killed process has not."""
        os.makedirs(os.path.dirname(self._base), exist_ok=True)
        files.make_folder(self._base)
        for name in (CONTAINERS, IMAGES, SESSIONS, "index", "deleted", "drafts", "locks"):
            files.make_folder(f"{self._base}/{name}")
        for draft in os.listdir(self._drafts_folder):
            purpose, _, name = draft.partition("-")
            with self._locks.hold("index" if purpose == "index" else "record", name):
                if purpose in (CONTAINERS, IMAGES, SESSIONS):
                    self._finish_put(purpose, name.partition(".")[0])
                files.remove(f"{self._drafts_folder}/{draft}")
        self.finish_deletions()

    def log(self, session_id: str) -> Log:
        return layout.session_log(self._base, session_id)

    def exists(self, kind: str, key: str) -> bool:
        try:
            os.stat(layout.document_path(self._base, kind, key))
        except FileNotFoundError:
            self.check_folder(kind)
            return False
        return True

    def check_folder(self, kind: str) -> None:
        """:raises OSError: if the folder is not there: what is missing in it may well exist"""
        os.stat(f"{self._base}/{kind}/.")

    def get(self, kind: str, key: str) -> tuple[Stored | None, Document | None]:
        """Return the document, without text if it is damaged, and its `Stored` if that is not."""
        path = layout.document_path(self._base, kind, key)
        data = files.read(path)
        while data is not None:
            stored, document = document_file.load(key, data)
            if kind != SESSIONS or stored is None:
                return stored, document
            try:
                log = self._logs.state(self.log(key))
            except (FileNotFoundError, CorruptRecordError):
                log = None
            if log and log.mark == stored.log:
                return stored, document
            # The two are of one moment if the document is the same before and after.
            again = files.read(path)
            if again == data:
                if log is None:
                    return stored, document._replace(text="")
                at = document.updated_at if log.at is None else log.at
                return stored, document._replace(updated_at=at)
            data = again
        self.check_folder(kind)
        return None, None

    def where(self, kind: str, key: str) -> str:
        """Return where the damage is that left the document without text."""
        if kind == SESSIONS:
            try:
                self._logs.state(self.log(key))
            except FileNotFoundError:
                return f"{self.log(key).path} is missing"
            except CorruptRecordError as error:
                return error.where
        return layout.document_path(self._base, kind, key)

    def find(
        self,
        kind: str,
        index: tuple[str, str] | None,
        after: tuple[int, str] | None,
        limit: int | None,
    ) -> list[Document]:
        subject: Subject = (kind, *(index or (None, None)))
        # Behind this key: no other one is before the key with a NUL, which none has.
        start = FIRST if after is None else (-after[0], after[1] + "\0")
        for _ in range(_ATTEMPTS):
            found: dict[str, Document] = {}
            moved: dict[str, Place] = {}
            stale: list[Place] = []
            end: Place | None = None
            for place in self._index(subject).walk(start):
                if len(found) == limit:
                    end = place
                    break
                document, at = self._now(subject, place)
                if document and at == place:
                    # If it was seen already, it has moved here since.
                    found.pop(document.key, None)
                    found[document.key] = document
                else:
                    stale.append(place)
                    if at:
                        moved[place[1]] = at
            if not found:
                self.check_folder("index")
            for place in stale:
                self._repair(subject, place)
            # What moved meanwhile may be in none of the places that this has come to.
            missed = moved.keys() - found.keys()
            if not any(start <= moved[key] and (end is None or moved[key] < end) for key in missed):
                return list(found.values())
        raise BackendError("fs", "others kept moving what was to be listed")

    def put(self, kind: str, document: Document, indexes: Mapping[str, str]) -> None:
        key = document.key
        name = file_name(kind, key)
        with self._locks.hold("record", name):
            self._finish(kind, name)
            before, there = self.get(kind, key)
            stored = Stored(key, document.created_at, document.updated_at, dict(indexes))
            old = set(before.places(kind).items()) if before else set()
            new = set(stored.places(kind).items())
            # What the change before this one left, or was to leave when it was killed. Only so does
            # the list of them not grow with each change.
            for subject, place in before.leaves if before else ():
                self._index(subject).remove(place)
            if kind == SESSIONS:
                # A log without a document is left over from a killed process.
                ask = self._logs.state if there else self._logs.create
                stored = replace(stored, log=ask(self.log(key)).mark)
            stored = replace(stored, leaves=sorted(old - new, key=str))
            file = layout.document_file(self._base, kind, name)
            file.prepare([document_file.dump(stored, document.text)])
            try:
                for subject, place in new - old:
                    self._index(subject).add(place)
                file.publish()
            except OSError:
                for subject, place in new - old:
                    self._remove_stale(subject, place)
                files.remove(file.draft)
                raise
            for subject, place in stored.leaves:
                self._index(subject).remove(place)

    def update(
        self, kind: str, key: str, change: Callable[[Document], Document]
    ) -> Document | None:
        with self._locks.hold("record", file_name(kind, key)):
            stored, document = self.get(kind, key)
            if document is None:
                return None
            changed = change(document)
            if stored is None:
                raise CorruptRecordError(kind.removesuffix("s"), key, self.where(kind, key))
            if kind == SESSIONS:
                stored = replace(stored, log=self._logs.state(self.log(key)).mark)
            self.rewrite(kind, stored, changed)
            return changed

    def rewrite(self, kind: str, stored: Stored, document: Document) -> None:
        """Replace the text and the `updated_at`. The caller holds the lock of the document."""
        stored = replace(stored, updated_at=document.updated_at)
        file = layout.document_file(self._base, kind, file_name(kind, stored.id))
        file.write(document_file.dump(stored, document.text))

    def delete(self, kind: str, key: str) -> bool:
        name = file_name(kind, key)
        path = layout.document_path(self._base, kind, key)
        deleted = layout.deleted_path(self._base, kind, name)
        with self._locks.hold("record", name):
            self._finish(kind, name)
            there = self.exists(kind, key)
            if there:
                os.replace(path, deleted)
                files.sync_folder(self._deleted_folder)
                files.sync_folder(os.path.dirname(path))
                self._finish_deletion(kind, name)
            else:
                self._remove_rest(kind, name)
        self.finish_deletions()
        return there

    def finish_deletions(self) -> None:
        for entry in os.listdir(self._deleted_folder):
            kind, _, name = entry.removesuffix(".json").partition("-")
            with self._locks.hold("record", name):
                self._finish_deletion(kind, name)

    def _finish(self, kind: str, name: str) -> None:
        """Finish, or take back, what a killed process did to this document."""
        self._finish_deletion(kind, name)
        self._finish_put(kind, name)

    def _finish_put(self, kind: str, name: str) -> None:
        file = layout.document_file(self._base, kind, name)
        data = files.read(file.draft)
        if data is None:
            return
        drafted, current = document_file.load_head(data), files.read(file.path)
        stored = document_file.load_head(current) if current is not None else None
        if drafted and (stored or current is None):
            there = stored.places(kind) if stored else {}
            for subject, place in drafted.places(kind).items() - there.items():
                self._index(subject).remove(place)
        files.remove(file.draft)

    def _finish_deletion(self, kind: str, name: str) -> None:
        deleted = layout.deleted_path(self._base, kind, name)
        data = files.read(deleted)
        if data is None:
            return
        self._remove_rest(kind, name)
        stored = document_file.load_head(data)
        for subject, place in (*stored.places(kind).items(), *stored.leaves) if stored else ():
            self._index(subject).remove(place)
        files.remove(deleted)

    def _remove_rest(self, kind: str, name: str) -> None:
        """Remove what is there beside a document that is gone, or never came to be."""
        if kind == SESSIONS:
            self._logs.remove(layout.log_file(self._base, name))
        files.remove(layout.document_file(self._base, kind, name).draft)

    def _now(self, subject: Subject, place: Place) -> tuple[Document | None, Place | None]:
        """Return the document that an index entry names, and where it is now in that index."""
        stored, document = self.get(subject[0], place[1])
        if document is None:
            return None, None
        if stored is None:  # damaged: nothing tells that the entry is not its own
            return document._replace(created_at=-place[0]), place
        return document, stored.places(subject[0]).get(subject)

    def _repair(self, subject: Subject, place: Place) -> None:
        kind, key = subject[0], place[1]
        name = file_name(kind, key)
        try:
            with self._locks.hold("record", name):
                self._finish(kind, name)
                if not self.exists(kind, key):
                    self._remove_rest(kind, name)
                self._remove_stale(subject, place)
        except OSError as error:
            # What was asked for does not depend on it, and the store may be read-only.
            _LOGGER.warning("%s %r: the index was not repaired: %s", kind, key, error)

    def _remove_stale(self, subject: Subject, place: Place) -> None:
        if self._now(subject, place)[1] != place:
            self._index(subject).remove(place)

    def _index(self, subject: Subject) -> Index:
        return Index(self._base, subject, self._locks)
