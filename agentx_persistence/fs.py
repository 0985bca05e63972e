"""The filesystem backend: one file for each record, for the processes of one machine."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from agentx_persistence._fs.documents import Documents
from agentx_persistence._fs.files import file_name
from agentx_persistence._fs.locks import Locks
from agentx_persistence._fs.logs import Log, Logs
from agentx_persistence.documents import (
    Document,
    DocumentStorage,
    DocumentStore,
    Entry,
    Slice,
    Window,
)
from agentx_persistence.documents.store import CONTAINERS, IMAGES, SESSIONS
from agentx_persistence.errors import (
    BackendError,
    BackendUnavailableError,
    CorruptRecordError,
    PersistenceClosedError,
    RecordNotFoundError,
)
from agentx_persistence.persistence import PersistenceDriver, Storage

T = TypeVar("T")

_ATTEMPTS = 5
# What the system says when a folder is not there, is none, or is not ours to use.
_UNREACHABLE = {
    *(errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.ETIMEDOUT),
}


def fs_driver(base: str | os.PathLike[str]) -> PersistenceDriver:
    """Return the driver of a store in this folder, which is made if it does not exist.

    Processes and threads of one machine can share it. Files and folders are private to the user.
    """
    return _FsDriver(os.path.abspath(os.fspath(base)))


class _FsDriver(PersistenceDriver):
    def __init__(self, base: str) -> None:
        self._base = base

    def __repr__(self) -> str:
        return f"fs_driver({self._base!r})"

    def create_storage(self) -> Storage:
        return DocumentStorage(FileStore(self._base))


class _Work:
    """What is done while a store is open; the errors of the system end here."""

    def __init__(self, store: DocumentStore) -> None:
        self._store = store

    def __enter__(self) -> None:
        if self._store.closed:
            raise PersistenceClosedError

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, OSError):
            unreachable = error.errno in _UNREACHABLE
            raise (BackendUnavailableError if unreachable else BackendError)(
                "fs", str(error)
            ) from error


class FileStore(DocumentStore):
    """Every method is one step under the lock of its document, or only reads."""

    def __init__(self, base: str) -> None:
        self._work = _Work(self)
        self._locks = Locks(f"{base}/locks")
        self._logs = Logs()
        self._documents = Documents(base, self._locks, self._logs)
        with self._work:
            self._documents.open()

    def put(self, kind: str, document: Document, indexes: Mapping[str, str]) -> None:
        with self._work:
            self._documents.put(kind, document, indexes)

    def get(self, kind: str, key: str) -> Document | None:
        with self._work:
            return self._documents.get(kind, key)[1]

    def find(
        self,
        kind: str,
        index: tuple[str, str] | None,
        after: tuple[int, str] | None,
        limit: int | None,
    ) -> list[Document]:
        with self._work:
            return self._documents.find(kind, index, after, limit)

    def update(
        self, kind: str, key: str, change: Callable[[Document], Document]
    ) -> Document | None:
        with self._work:
            return self._documents.update(kind, key, change)

    def delete(self, kind: str, key: str) -> bool:
        with self._work:
            return self._documents.delete(kind, key)

    def append(self, session_id: str, entries: Sequence[Entry], at: int) -> list[int]:
        with self._work, self._locks.hold("record", file_name(SESSIONS, session_id)):
            return self._ask(session_id, lambda log: self._logs.append(log, entries, at))

    def position(self, session_id: str, entry_id: str) -> int:
        with self._work:
            return self._ask(session_id, lambda log: self._logs.position(log, entry_id))

    def read(self, session_id: str, window: Window) -> Slice:
        with self._work:
            return self._ask(session_id, lambda log: self._logs.read(log, window))

    def count(self, session_id: str) -> int:
        with self._work:
            return self._ask(session_id, lambda log: self._logs.state(log).length)

    def truncate(self, session_id: str, entry_id: str | None) -> int:
        with self._work, self._locks.hold("record", file_name(SESSIONS, session_id)):
            gone, state = self._ask(session_id, lambda log: self._logs.prepare_cut(log, entry_id))
            if gone:
                stored, document = self._documents.get(SESSIONS, session_id)
                if stored and document:
                    # From the log it could not be told any more when it was last added to.
                    self._documents.rewrite(SESSIONS, replace(stored, log=state.mark), document)
                self._documents.log(session_id).file.publish()
            return gone

    def where(self, kind: str, key: str, position: int | None = None) -> str:
        if position is None:
            return self._documents.where(kind, key)
        return f"{self._documents.log(key).path}, line {position + 1}"

    def ping(self) -> None:
        with self._work:
            for kind in (CONTAINERS, IMAGES, SESSIONS):
                self._documents.check_folder(kind)

    def _ask(self, session_id: str, ask: Callable[[Log], T]) -> T:
        """Ask the log of a session that there is."""
        log = self._documents.log(session_id)
        for _ in range(_ATTEMPTS):
            if not self._documents.exists(SESSIONS, session_id):
                raise RecordNotFoundError("session", session_id)
            try:
                return ask(log)
            except FileNotFoundError:
                continue  # it was deleted just now, and perhaps saved again
        raise CorruptRecordError("session", session_id, f"{log.path} is missing")
