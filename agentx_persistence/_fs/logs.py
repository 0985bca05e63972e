"""The logs of the sessions: reading them at one moment, and changing them in one step."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from io import FileIO
from typing import TypeVar, cast

from agentx_persistence._fs import files
from agentx_persistence._fs.files import Locks
from agentx_persistence._fs.index import Index
from agentx_persistence._fs.log import (
    Log,
    advance,
    ends_as_known,
    last_call,
    new_header,
    read_header,
)
from agentx_persistence._fs.records import Record, Records, file_name
from agentx_persistence.errors import (
    BackendUnavailableError,
    CorruptRecordError,
    RecordNotFoundError,
)
from agentx_persistence.storage import SESSIONS, Document, Kind

T = TypeVar("T")

_LOGGER = logging.getLogger("agentx_persistence")
# The newest entries of a log are not in the index yet: at most `UNINDEXED` entries, of at most
# `LONG_TAIL` bytes and one more entry. A new process reads them from the file.
UNINDEXED = 256
LONG_TAIL = 1_000_000
_CHUNK = 10_000
_REMEMBERED = 1_000
_ATTEMPTS = 100


class _Changed(Exception):
    """Entries were cut off, replaced or taken back while the log was read."""


def lock_of(kind: Kind, key: str) -> str:
    """Return the name of the lock that is held while the document or its log changes."""
    return file_name(kind, key)[:2]


def changed_at(record: Record, log: Log) -> int:
    """Return when the session last changed."""
    if (log.generation, log.count) == record.log:
        return record.updated_at
    return max(record.updated_at, log.at)


class Logs:
    def __init__(self, records: Records, locks: Locks, index: Index) -> None:
        self._records, self._locks, self._index = records, locks, index
        self._logs: dict[str, Log] = {}
        # For each session, the inode and mtime of its record file, and the second of its last
        # change that is in the index.
        self._seconds: dict[str, tuple[int, int, int]] = {}

    def _path(self, key: str) -> str:
        return self._records.path(SESSIONS, key, "jsonl")

    def changed_at(self, record: Record) -> int:
        """Return when the session last changed."""
        return changed_at(
            record, self.with_log(record.key, lambda file: self.state(record.key, file))
        )

    def scanned_at(self, record: Record) -> int:
        """Return when the session last changed, without using the index."""

        def work(file: FileIO) -> int:
            empty = self._empty(record.key, file)
            count, at = last_call(file) or (None, 0)
            if count is None or count == record.log[1]:
                return changed_at(record, advance(empty, file, sys.maxsize))
            return max(record.updated_at, at)

        return self.with_log(record.key, work)

    def with_log(self, key: str, work: Callable[[FileIO], T], mode: str = "rb") -> T:
        """Call `work` with the open log file of the session."""
        path = self._path(key)
        for _ in range(_ATTEMPTS):
            try:
                file = cast(FileIO, open(path, mode, buffering=0))  # noqa: SIM115
            except FileNotFoundError:
                if not self._records.exists(SESSIONS, key):
                    break
                continue  # the session is being deleted or created again, or its log file is lost
            with file:
                if not self._records.exists(SESSIONS, key):
                    break
                return work(file)
        else:
            raise CorruptRecordError("session", key, f"{path} is missing")
        self._records.read(SESSIONS, key)  # raises if the store is gone
        raise RecordNotFoundError("session", key)

    def reading(self, key: str, work: Callable[[FileIO, Log], T]) -> T:
        """Call `work` with the log as it is at one moment, without locking it.

        If entries were cut off or replaced meanwhile, call `work` again.
        """

        def once(file: FileIO) -> T:
            state = self.state(key, file)
            try:
                result = work(file, state)
            except CorruptRecordError:
                self._check(key, file, state, known=True)
                read = advance(self._empty(key, file), file, sys.maxsize)
                try:
                    result = work(file, read)
                except CorruptRecordError:
                    self._check(key, file, read, known=True)
                    raise
                name = file_name(SESSIONS, key)
                _LOGGER.warning("the index of %s was wrong: it is rebuilt", file.name)
                self._logs.pop(name, None)
                self._index.forget(name)
            self._check(key, file, state)
            return result

        for _ in range(_ATTEMPTS):
            with suppress(_Changed):
                return self.with_log(key, once)
        raise BackendUnavailableError(
            "fs", f"the session {key!r} was changed during each of {_ATTEMPTS} reads; try again"
        )

    def mark(self, key: str) -> tuple[str, int]:
        """Return the generation and the number of entries. The caller holds the lock."""
        log = self.with_log(key, lambda file: self.state(key, file, locked=True))
        return log.generation, log.count

    def _check(self, key: str, file: FileIO, state: Log, *, known: bool = False) -> None:
        """:param known: whether a last call that was taken back is a change, too"""
        if (
            os.fstat(file.fileno()).st_nlink == 0
            or (known and not ends_as_known(state, file))
            or self.state(key, file).generation != state.generation
        ):
            raise _Changed

    def state(self, key: str, file: FileIO, *, locked: bool = False) -> Log:
        """Return what the file contains now.

        :param locked: the caller holds the lock; a call that was interrupted is then cut off
        """
        name, size = file_name(SESSIONS, key), os.fstat(file.fileno()).st_size
        log = self._logs.get(name)
        if (
            log is None
            or log.end > size
            or len(log.lines) > 2 * UNINDEXED
            or files.read_at(file, 0, len(log.header)) != log.header
            or not ends_as_known(log, file)
        ):
            log, known = self._empty(key, file), self._index.head(name)
            if known is not None and known.header == log.header and known.end <= size:
                log = known
            elif known is not None:
                _LOGGER.warning("the index of %s is for another file: it is rebuilt", file.name)
        while log.end < size:
            if not locked and size - log.end > LONG_TAIL:
                found = self._locks.hold(
                    lock_of(SESSIONS, key), lambda: self.state(key, file, locked=True), wait=False
                )
                if found is not None:
                    return found
            following = advance(log, file, _CHUNK if locked else sys.maxsize)
            if following.end == log.end:
                if locked:
                    os.truncate(self._path(key), log.end)
                    _LOGGER.warning(
                        "%s: cut off %d bytes of a call that was interrupted before it was "
                        "acknowledged",
                        *(file.name, size - log.end),
                    )
                break
            log = following
            if locked and len(log.lines) >= UNINDEXED:
                log, _ = self._index.flush(name, log)
        # While this call holds the lock, no writer can take the last call back.
        return self.remember(key, log._replace(newest=None) if locked and log.newest else log)

    def _empty(self, key: str, file: FileIO) -> Log:
        found = read_header(file)
        if found is None or found[0] != key:
            raise CorruptRecordError("session", key, str(file.name))
        return found[1]

    def remember(self, key: str, log: Log) -> Log:
        if len(self._logs) > _REMEMBERED:
            self._logs.clear()
            self._seconds.clear()
        self._logs[file_name(SESSIONS, key)] = log
        return log

    def draft(self, document: Document, *lines: bytes) -> str:
        header = new_header(document.key, document.revision, document.updated_at)
        return files.draft(self._path(document.key), (header, *lines))
