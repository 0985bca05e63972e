"""The documents of the filesystem backend. Each is a readable file."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from operator import itemgetter
from threading import get_ident
from typing import Any, TypeVar, cast

from agentx_persistence._fs import files
from agentx_persistence._fs.calls import port_call
from agentx_persistence._fs.deletion import Deletion
from agentx_persistence._fs.entries import Entries
from agentx_persistence._fs.files import Locks
from agentx_persistence._fs.index import Index
from agentx_persistence._fs.listings import listed, place, rank
from agentx_persistence._fs.logs import lock_of
from agentx_persistence._fs.records import (
    Records,
    Row,
    format_record,
    record_of,
)
from agentx_persistence._fs.scan import scan
from agentx_persistence.errors import (
    BackendUnavailableError,
    CorruptRecordError,
    RecordNotFoundError,
)
from agentx_persistence.storage import (
    KINDS,
    SESSIONS,
    Document,
    Kind,
    Listing,
    Place,
    Query,
    Storage,
    Stored,
)
from agentx_persistence.storage._forking import ForkAware, renew_after_fork

T = TypeVar("T")

_PAGE = 1_000


class FileDocuments(Storage, ForkAware):
    """Each record is a file; each session has a log file beside its record file.

    A session exists if its record file does. A record file that is renamed to `….hidden` belongs to
    a deletion that has not ended.
    """

    def __init__(self, base: str, timeout: float) -> None:
        self.base, self.closed = base, False
        self.inside: set[int] = set()
        self._locks = Locks(f"{base}/locks", timeout)
        self._records = Records(base)
        self._index = Index(base, self._locks, timeout, lambda: scan(self._records, self._logs))
        self._logs = Entries(self._records, self._locks, self._index)
        self._deletion = Deletion(self._records, self._locks, self._index)
        renew_after_fork(self)

    def __repr__(self) -> str:
        return f"fs_driver({self.base!r})"

    def after_fork(self) -> None:
        self.inside = self.inside & {get_ident()}

    @port_call
    def open(self) -> None:
        for name in ("", "/locks", *(f"/{kind}" for kind in KINDS)):
            files.make_folder(self.base + name)
        self._index.open()
        for kind, key in self._index.unsure():
            self._repair(kind, key)

    def close(self) -> None:
        self.closed = True
        self._index.close()

    @port_call
    def put(self, kind: Kind, document: Document) -> None:
        self._locked(kind, document.key, lambda: self._save(kind, document))

    @port_call
    def create(self, kind: Kind, document: Document) -> bool:
        def work() -> bool:
            if self._records.exists(kind, document.key):
                return False
            self._save(kind, document)
            return True

        return self._locked(kind, document.key, work)

    @port_call
    def replace(self, kind: Kind, document: Document, revision: str) -> bool:
        def work() -> bool:
            record = self._records.read(kind, document.key)
            if record is None or record.revision != revision:
                return False
            self._save(kind, document)
            return True

        return self._locked(kind, document.key, work)

    @port_call
    def get(self, kind: Kind, keys: Sequence[str]) -> dict[str, Stored]:
        found = {}
        for key in keys:
            if (loaded := self._load(kind, key)) is not None:
                found[key] = loaded[0]
        return found

    @port_call
    def find(self, kind: Kind, query: Query) -> Listing:
        found: dict[str, tuple[Any, Stored]] = {}
        after, moved, more = query.after, False, True
        wanted = sys.maxsize if query.limit is None else query.limit
        while more and len(found) <= wanted:
            size = min(wanted - len(found) + 1, _PAGE)
            rows = self._index.find(kind, query._replace(after=after, limit=size))
            for row in rows:
                loaded = self._load(kind, row[0])
                if loaded is not None and listed(kind, query, loaded[1]):
                    # A document that is being saved may have two rows, or a file that already
                    # differs from its row. The file decides, the one that was read last.
                    again = row[0] in found
                    moved = moved or again or rank(query, loaded[1]) != rank(query, row)
                    found[row[0]] = rank(query, loaded[1]), loaded[0]
                if loaded is None:
                    self._repair(kind, row[0])
            more = len(rows) == size
            after = place(query, rows[-1]) if rows else None
        every = list(found.values())
        if moved:
            every.sort(key=itemgetter(0), reverse=query.order == "oldest")
        documents = [stored for _, stored in every[:wanted]]
        if len(every) <= wanted or not documents:
            return Listing(documents, None)
        *time, key = every[wanted - 1][0]
        return Listing(documents, Place(-time[0] if time else 0, key))

    @port_call
    def count(self, kind: Kind, query: Query) -> int:
        number, unsure = self._index.count(kind, query)
        for key in unsure:
            loaded = self._load(kind, key)
            number += loaded is not None and listed(kind, query, loaded[1])
        return number if query.limit is None else min(number, query.limit)

    @port_call
    def delete(self, kind: Kind, key: str, *, before: int | None = None) -> bool:
        def is_kept() -> bool:
            if before is None:
                return False
            loaded = self._load(kind, key)
            return loaded is not None and loaded[0].updated_at >= before

        return self._deletion.delete(kind, key, is_kept)

    def _save(
        self,
        kind: Kind,
        document: Document,
        lines: str = "",
        log: tuple[str, int] = ("", 0),
        at: int | None = None,
    ) -> None:
        """Save the document. The caller holds its lock.

        :param lines: the path of the log's draft, for a new session with entries
        :param log: see `Record`
        :param at: the time of the last change of the log, if later than the document's
        """
        key, path = document.key, self._records.path(kind, document.key)
        if kind is SESSIONS and not lines:
            if os.path.exists(path):
                log = self._logs.mark(key)
            else:
                lines, log = self._logs.draft(document), (document.revision, 0)
        record = record_of(document, log)
        row = record.row(kind, max(document.updated_at, at or document.updated_at))
        draft = f"{path}.draft"
        try:
            files.draft(path, [format_record(record)])
            # A record file that another program took away has left its row. Its log is replaced
            # here.
            moved = bool(lines) or self._index.rows(kind, key) != [(*row, 1)]
            if moved:
                self._index.announce(kind, key, row)
            if lines:
                os.replace(lines, self._records.path(kind, key, "jsonl"))
            os.replace(draft, path)
            files.remove(f"{path}.hidden")
            files.sync_folder(os.path.dirname(path))
        except BaseException as error:
            for drafted in filter(None, (draft, lines)):
                with suppress(OSError):
                    files.remove(drafted)
            if isinstance(error, OSError):
                self._settle(kind, key)
            raise
        if moved:
            self._index.settle(kind, key, row)

    def _repair(self, kind: Kind, key: str) -> None:
        """Correct the document's rows in the index, unless another call holds its lock."""
        with suppress(OSError, sqlite3.Error, CorruptRecordError, BackendUnavailableError):
            work = partial(self._settle, kind, key, wait=False)
            self._locks.hold(lock_of(kind, key), work, wait=False)

    def _settle(self, kind: Kind, key: str, *, wait: bool = True) -> None:
        """Make the document's rows in the index agree with its file. The caller holds its lock."""
        path = self._records.path(kind, key)
        if os.path.exists(f"{path}.hidden") and not os.path.exists(path):
            return  # the row stays, so that a repeated deletion finds the hidden record
        loaded = self._load(kind, key)
        # A call that died has left an unsure row. A record file that another program took away may
        # come back, as from a backup that is being restored: then its log must still be there.
        if loaded is None and not all(sure for *_, sure in self._index.rows(kind, key)):
            self._records.remove_rest(kind, key)
        self._index.settle(kind, key, None if loaded is None else loaded[1], wait=wait)

    def _load(self, kind: Kind, key: str) -> tuple[Stored, Row] | None:
        """Return the document and the row it should have in the index."""
        record = self._records.read(kind, key)
        if record is None:
            return None
        try:
            changed_at = self._logs.changed_at(record) if kind is SESSIONS else record.updated_at
        except RecordNotFoundError:
            return None  # it was deleted just now
        stored = Stored(key, record.text, changed_at, record.revision)
        return stored, record.row(kind, changed_at)

    def _locked(self, kind: Kind, key: str, work: Callable[[], T]) -> T:
        return cast(T, self._locks.hold(lock_of(kind, key), work))
