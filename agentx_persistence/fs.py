"""The filesystem backend: readable files, for the processes of one machine."""

from __future__ import annotations

import errno
import functools
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from io import FileIO
from threading import get_ident
from typing import TYPE_CHECKING, Concatenate, NoReturn, ParamSpec, TypeVar, cast

from agentx_persistence._fs import files
from agentx_persistence._fs.files import Locks, Record, file_name, format_record, parse_record
from agentx_persistence._fs.log import (
    Line,
    Log,
    advance,
    appended,
    blank,
    format_entries,
    format_mark,
    new_header,
    parse_entry,
    read_header,
)
from agentx_persistence.errors import (
    BackendError,
    BackendUnavailableError,
    ConfigurationError,
    CorruptRecordError,
    PersistenceClosedError,
    RecordNotFoundError,
)
from agentx_persistence.storage import (
    ITEMS,
    KINDS,
    SESSIONS,
    Document,
    Entry,
    Found,
    Head,
    Kind,
    Listing,
    PersistenceDriver,
    Place,
    Query,
    Slice,
    Storage,
    Stored,
    Text,
    Window,
    owned_by,
)
from agentx_persistence.storage._forking import ForkAware, renew_after_fork
from agentx_persistence.storage.kinds import SEPARATOR

if TYPE_CHECKING:
    from agentx_persistence._fs.index import Index, Row

P = ParamSpec("P")
T = TypeVar("T")

_LOGGER = logging.getLogger("agentx_persistence")
_FLUSH = 256  # so many entries, which a new process reads from the file, are not in the index yet
_CHUNK = 10_000
_LONG_TAIL = 4_000_000
_FEW_BYTES = 65_536
_PAGE = 1_000
_REMEMBERED = 1_000
_ATTEMPTS = 100
# What the system says when a folder is missing, is none, or is not ours to use.
_UNREACHABLE = {errno.ENOENT, errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.ETIMEDOUT}
_FORBIDDEN = {errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG}


def fs_driver(base: str | os.PathLike[str], *, timeout: float = 30.0) -> PersistenceDriver:
    """Return the driver of a store in this folder, which is made if it does not exist.

    Processes and threads of one machine can share it. Files and folders are private to the user.

    :param timeout: for how many seconds a call waits for a lock at most
    """
    path = os.fspath(base)
    if not isinstance(path, str) or not path or "\0" in path:
        reason = f"base must be the path of a folder, such as 'data/agentx', not {base!r}"
        raise ConfigurationError("fs", reason)
    if not timeout > 0:
        raise ConfigurationError("fs", f"timeout must be a number of seconds, not {timeout!r}")
    return _FsDriver(os.path.abspath(path), timeout)


class _FsDriver(PersistenceDriver):
    def __init__(self, base: str, timeout: float) -> None:
        self._base, self._timeout = base, timeout

    def __repr__(self) -> str:
        return f"fs_driver({self._base!r})"

    def create_storage(self) -> Storage:
        storage = FileStorage(self._base, self._timeout)
        storage.open()
        return storage


def _call(
    method: Callable[Concatenate[FileStorage, P], T],
) -> Callable[Concatenate[FileStorage, P], T]:
    """Refuse a call inside another one of the same thread, and translate the system's errors."""

    @functools.wraps(method)
    def call(self: FileStorage, *args: P.args, **named: P.kwargs) -> T:
        if self.closed:
            raise PersistenceClosedError
        me = get_ident()
        if me in self.inside:
            raise BackendError(
                "fs",
                "a signal's handler or a finalizer cannot call this storage inside another call of "
                "the same thread; set a flag there, and call it afterwards",
            )
        try:
            self.inside.add(me)
            return method(self, *args, **named)
        except OSError as error:
            kind = (
                BackendUnavailableError
                if error.errno in _UNREACHABLE
                else ConfigurationError if error.errno in _FORBIDDEN else BackendError
            )
            raise kind("fs", str(error)) from error
        except self.index_error as error:
            reason = f"{self.base}/index.sqlite3: {error}; if it is damaged, delete it: it is rebuilt"
            raise BackendError("fs", reason) from error
        finally:
            self.inside.discard(me)

    return call


class FileStorage(Storage, ForkAware):
    """Each record is a file; each session has a log file beside its record file.

    A session exists if its record file does. A record file `….hidden` is about to be deleted.
    """

    def __init__(self, base: str, timeout: float) -> None:
        import sqlite3

        from agentx_persistence._fs import index

        self.base, self.closed, self.index_error = base, False, sqlite3.Error
        self.inside: set[int] = set()
        self._fields = index.FIELDS
        self._locks = Locks(f"{base}/locks", timeout)
        self._index: Index = index.Index(base, self._locks, timeout, self._scan)
        self._logs: dict[str, Log] = {}
        # For each session the state of its record file, and the second by which it is listed.
        self._seconds: dict[str, tuple[int, int, int]] = {}
        renew_after_fork(self)

    def __repr__(self) -> str:
        return f"fs_driver({self.base!r})"

    def after_fork(self) -> None:
        self.inside = self.inside & {get_ident()}

    @_call
    def open(self) -> None:
        for name in ("", "/locks", *(f"/{kind}" for kind in KINDS)):
            files.make_folder(self.base + name)
        self._index.open()
        for kind, key in self._index.unsure():
            self._locks.hold(_lock(kind, key), partial(self._settle, kind, key), wait=False)

    def close(self) -> None:
        self.closed = True
        self._index.close()

    # Documents

    @_call
    def put(self, kind: Kind, document: Document) -> None:
        self._locked(kind, document.key, lambda: self._save(kind, document))

    @_call
    def create(self, kind: Kind, document: Document) -> bool:
        def work() -> bool:
            if os.path.exists(self._path(kind, document.key)):
                return False
            self._save(kind, document)
            return True

        return self._locked(kind, document.key, work)

    @_call
    def replace(self, kind: Kind, document: Document, revision: str) -> bool:
        def work() -> bool:
            record = self._record(kind, document.key)
            if record is None or record.revision != revision:
                return False
            self._save(kind, document)
            return True

        return self._locked(kind, document.key, work)

    @_call
    def get(self, kind: Kind, keys: Sequence[str]) -> dict[str, Stored]:
        found = {}
        for key in keys:
            if (loaded := self._load(kind, key)) is not None:
                found[key] = loaded[0]
        return found

    @_call
    def find(self, kind: Kind, query: Query) -> Listing:
        found: list[Stored] = []
        wanted = sys.maxsize if query.limit is None else query.limit
        place, seen = query.after, None
        while True:
            size = min(wanted - len(found) + 1, 1000)
            rows = self._index.find(kind, query._replace(after=place, limit=size))
            for row in rows:
                sure = row[-1] and len(found) == wanted
                loaded = None if sure else self._load(kind, row[0])
                if not sure and (loaded is None or not _listed(query, loaded[1], row)):
                    continue
                if _place(query, row) == seen:
                    continue  # a row of the same document, which is being saved
                if len(found) == wanted:
                    return Listing(found, seen if found else None)
                assert loaded is not None
                found.append(loaded[0])
                seen = _place(query, row)
            if len(rows) < size:
                return Listing(found, None)
            place = _place(query, rows[-1])

    @_call
    def count(self, kind: Kind, query: Query) -> int:
        every = query._replace(limit=None)
        ((number,),) = self._index.find(kind, every, "count(*)")
        counted = set()
        for row in self._index.find(kind, every, more=" AND sure = 0"):
            loaded = self._load(kind, row[0])
            if row[0] in counted or loaded is None or not _listed(query, loaded[1], row):
                number -= 1
            else:
                counted.add(row[0])
        return number if query.limit is None else min(number, query.limit)

    @_call
    def delete(self, kind: Kind, key: str) -> bool:
        existed = self._locked(kind, key, lambda: self._remove(kind, key))
        self._delete_owned(kind, key)
        return existed

    def _delete_owned(self, owner: Kind, owner_key: str, hidden: str | None = None) -> None:
        """Delete what the owner has; while it is hidden, not what has changed since then."""
        for kind, field in owned_by(owner):
            query = Query({field: owner_key}, limit=_PAGE)
            if kind is ITEMS:
                query = Query(order="key", prefix=owner_key + SEPARATOR, limit=_PAGE)
            while rows := self._index.find(kind, query):
                query = query._replace(after=_place(query, rows[-1]))
                records = {row[0]: self._record(kind, row[0], damaged=True) for row in rows}
                if hidden is not None and not os.path.exists(hidden):
                    return
                for key, record in records.items():
                    revision = record.revision if hidden and record else None
                    self._delete_one(kind, key, field, owner_key, revision)

    def _delete_one(
        self, kind: Kind, key: str, field: str, owner: str, revision: str | None
    ) -> None:
        nested = bool(owned_by(kind))

        def remove() -> bool:
            record = self._record(kind, key, damaged=True)
            if record is not None and record.revision:
                moved = kind is not ITEMS and record.fields.get(field) != owner
                if moved or revision not in (None, record.revision):
                    return False
            self._remove(kind, key, hide=nested)
            return True

        if self._locked(kind, key, remove) and nested:
            hidden = f"{self._path(kind, key)}.hidden"
            self._delete_owned(kind, key, hidden)
            self._locked(kind, key, lambda: os.path.exists(hidden) and self._remove(kind, key))

    def _remove(self, kind: Kind, key: str, *, hide: bool = False) -> bool:
        """Remove or hide the record; tell whether it was there. The caller holds its lock."""
        path, log = self._path(kind, key), self._path(kind, key, "jsonl")
        existed = os.path.exists(path)
        if existed:
            self._index.announce(kind, key, None)
            if hide:
                os.replace(path, f"{path}.hidden")
            else:
                os.unlink(path)
        if not hide:
            rest = (f"{path}.hidden", f"{path}.draft")
            for left in (*rest, log, f"{log}.draft") if kind is SESSIONS else rest:
                files.remove(left)
        if existed:
            files.sync_folder(os.path.dirname(path))
        if not hide and (existed or self._index.rows(kind, key)):
            self._index.settle(kind, key, None, file_name(kind, key))
        return existed

    def _save(
        self,
        kind: Kind,
        document: Document,
        lines: str = "",
        state: tuple[str, int] = ("", 0),
        at: int | None = None,
    ) -> None:
        """Save the document. The caller holds its lock.

        :param lines: the draft of the log, if it is a new session with entries
        :param state: the log when it was last changed at the document's time; see `Record`
        :param at: when the log was last changed, if that was later
        """
        key, path = document.key, self._path(kind, document.key)
        changed_at = max(document.updated_at, at or document.updated_at)
        if kind is SESSIONS and not lines:
            if os.path.exists(path):
                log = self._with_log(key, lambda file: self._state(key, file, locked=True))
                state = (log.generation, log.count)
            else:
                state = (document.revision, 0)
                lines = self._draft_log(document)
        draft = files.draft(path, [format_record(document, state)])
        row = self._row(kind, key, document.created_at, changed_at, document.fields)
        moved = self._index.rows(kind, key) != [(*row, 1)]
        try:
            if moved:
                self._index.announce(kind, key, row)
            if lines:
                os.replace(lines, self._path(kind, key, "jsonl"))
            os.replace(draft, path)
            files.remove(f"{path}.hidden")
            files.sync_folder(os.path.dirname(path))
        except OSError:
            files.remove(draft)
            self._settle(kind, key)
            raise
        if moved:
            self._index.settle(kind, key, row)

    def _settle(self, kind: Kind, key: str) -> None:
        """List the document where its file says; the caller holds its lock."""
        path = self._path(kind, key)
        if os.path.exists(f"{path}.hidden") and not os.path.exists(path):
            return  # a deletion that is repeated finds it by its row
        loaded = self._load(kind, key)
        if loaded is None:
            files.remove(f"{path}.draft")
        self._index.settle(kind, key, None if loaded is None else loaded[1])

    def _scan(self) -> Iterator[tuple[Kind, Row]]:
        """Give each record of the store, with its row."""
        for kind in KINDS:
            for folder in os.scandir(f"{self.base}/{kind}"):
                if len(folder.name) != 2 or not folder.is_dir(follow_symlinks=False):
                    continue
                for name in os.listdir(folder.path):
                    path = f"{folder.path}/{name}"
                    if name.endswith((".json", ".json.hidden")) and os.path.isfile(path):
                        with open(path, "rb", buffering=0) as file:
                            record = parse_record(file.readall())
                        ours = record and self._path(kind, record.key).startswith(path[:-7])
                        if record is None or not ours:
                            _LOGGER.warning("%s is not listed: it is no record of this store", path)
                            continue
                        changed_at = record.updated_at
                        if kind is SESSIONS:
                            changed_at = self._session_changed_at(record)
                        yield kind, self._row(kind, record.key, record.created_at, changed_at, record.fields)

    def _record(self, kind: Kind, key: str, *, damaged: bool = False) -> Record | None:
        """:param damaged: return a damaged record, without a revision, instead of raising"""
        path = self._path(kind, key)
        try:
            with open(path, "rb", buffering=0) as file:
                data = file.readall()
        except FileNotFoundError:
            os.stat(f"{self.base}/{kind}")  # which raises if the store is gone
            return None
        record = parse_record(data)
        if record is None or record.key != key:
            if damaged:
                return Record(key, 0, 0, {}, "", ("", 0), b"")
            raise CorruptRecordError(kind.noun, key, path)
        return record

    def _load(self, kind: Kind, key: str) -> tuple[Stored, Row] | None:
        """Return the document, and where it is listed."""
        record = self._record(kind, key)
        if record is None:
            return None
        try:
            changed_at = self._session_changed_at(record) if kind is SESSIONS else record.updated_at
        except RecordNotFoundError:
            return None  # it was deleted just now
        row = self._row(kind, key, record.created_at, changed_at, record.fields)
        return Stored(key, record.text, changed_at, record.revision), row

    def _session_changed_at(self, record: Record) -> int:
        log = self._with_log(record.key, lambda file: self._state(record.key, file))
        return _changed_at(record, log)

    def _row(
        self, kind: Kind, key: str, created_at: int, changed_at: int, fields: Mapping[str, str]
    ) -> Row:
        active = -(changed_at // 1000) if kind.active else 0
        return (key, -created_at, active, *(fields.get(name) for name in self._fields[kind]))

    def _path(self, kind: Kind, key: str, form: str = "json") -> str:
        name = file_name(kind, key)
        return f"{self.base}/{kind}/{name[:2]}/{name[2:]}.{form}"

    def _locked(self, kind: Kind, key: str, work: Callable[[], T]) -> T:
        return cast(T, self._locks.hold(_lock(kind, key), work))

    # Logs

    @_call
    def append(
        self,
        log: str,
        entries: Sequence[Entry],
        at: int,
        *,
        create: Document | None = None,
        expected: int | None = None,
        generation: str | None = None,
    ) -> int | Found:
        def work(file: FileIO) -> int | Found:
            state = self._state(log, file, locked=True)
            if found := self._refused(log, file, state, entries, expected, generation, state.count):
                return found
            if not entries:
                return state.count
            lines, latest = self._write(
                log, file, state, at, partial(format_entries, entries, state.count + 1)
            )
            state = self._remember(log, appended(state, entries, lines, latest))
            if len(state.lines) >= _FLUSH:
                self._flush(log, state)
            return state.count

        def creating() -> int | Found:
            if create is None or os.path.exists(self._path(SESSIONS, log)):
                return self._with_log(log, work, "r+b")
            if expected not in (None, 0):
                return Found(Head(0, ""), {})
            latest = max(at, create.updated_at)
            lines = self._draft_log(create, *format_entries(entries, 1, latest))
            self._save(SESSIONS, create, lines, (create.revision, 0), latest if entries else None)
            return len(entries)

        return self._locked(SESSIONS, log, creating)

    @_call
    def read(self, log: str, window: Window) -> Slice:
        def work(file: FileIO, state: Log) -> Slice:
            start = min(self._position(log, state, window.after, 0), state.count)
            stop = min(self._position(log, state, window.before, state.count + 1) - 1, state.count)
            if window.first is not None:
                stop = min(stop, start + window.first)
            elif window.last is not None:
                start = max(start, stop - window.last)
            lines = self._lines(log, state, start + 1, stop)
            if window.size is not None and len(lines) > 1:
                left, taken = window.size, 0
                for line in lines if window.last is None else lines[::-1]:
                    left -= line.size
                    if left < 0 and taken:
                        break
                    taken += 1
                lines = lines[:taken] if window.last is None else lines[-taken:]
                start = start if window.last is None else stop - taken
            return Slice(
                self._texts(log, file, lines, start + 1),
                start + 1,
                Head(state.count, state.generation),
            )

        return self._reading(log, work)

    @_call
    def lookup(self, log: str, ids: Sequence[str]) -> Found:
        return self._reading(log, lambda file, state: self._found(log, file, state, ids))

    @_call
    def newest(self, logs: Sequence[str]) -> dict[str, Slice]:
        def work(file: FileIO, state: Log) -> Slice:
            texts = self._texts(
                log, file, self._lines(log, state, max(state.count, 1), state.count), state.count
            )
            return Slice(texts, state.count, Head(state.count, state.generation))

        found = {}
        for log in logs:
            with suppress(RecordNotFoundError):
                found[log] = self._reading(log, work)
        return found

    @_call
    def rewrite(
        self,
        log: str,
        after: str | int | None,
        entries: Sequence[Entry],
        at: int,
        token: str,
        *,
        expected: int | None = None,
        generation: str | None = None,
    ) -> int | Found:
        def work(file: FileIO) -> int | Found:
            state = self._state(log, file, locked=True)
            done, _, number = state.generation.rpartition(".")
            if done == token:
                return int(number)
            keep = self._position(log, state, after, 0)
            if keep > state.count:
                raise RecordNotFoundError("message", f"#{keep}")
            if found := self._refused(log, file, state, entries, expected, generation, keep):
                return found
            self._change(log, file, state, keep, entries, keep + 1, at, f"{token}.{state.count - keep}")
            return state.count - keep

        return self._locked(SESSIONS, log, lambda: self._with_log(log, work, "r+b"))

    @_call
    def swap(self, log: str, entry: Entry, at: int, token: str) -> None:
        def work(file: FileIO) -> None:
            state = self._state(log, file, locked=True)
            if state.generation != token:
                position = self._position(log, state, entry.id, 0)
                self._change(log, file, state, state.count, [entry], position, at, token)

        self._locked(SESSIONS, log, lambda: self._with_log(log, work, "r+b"))

    @_call
    def fork(self, log: str, through: str | None, document: Document) -> int | None:
        def work(file: FileIO, state: Log) -> tuple[int, str] | None:
            count = self._position(log, state, through, state.count)
            if os.path.exists(self._path(SESSIONS, document.key)):
                return None
            chunks = self._copied(document.key, document.revision, document.updated_at, file, state, count)
            return count, files.draft(self._path(SESSIONS, document.key, "jsonl"), chunks)

        def forking() -> int | None:
            found = self._reading(log, work)
            if found is not None:
                self._save(SESSIONS, document, found[1], (document.revision, found[0]))
            return found and found[0]

        return self._locked(SESSIONS, document.key, forking)

    @_call
    def where(self, kind: Kind, key: str, position: int | None = None) -> str:
        if position is None:
            return self._path(kind, key)
        path = self._path(kind, key, "jsonl")
        with suppress(RecordNotFoundError, CorruptRecordError):
            log = self._with_log(key, lambda file: self._state(key, file))
            for line in self._lines(key, log, position, position):
                return f"{path}, byte {line.offset}"
        return path

    @_call
    def ping(self) -> None:
        for kind in KINDS:
            os.stat(f"{self.base}/{kind}")
        self._index.head("")

    def _with_log(self, key: str, work: Callable[[FileIO], T], mode: str = "rb") -> T:
        """Do the work with the log of the session."""
        record, path = self._path(SESSIONS, key), self._path(SESSIONS, key, "jsonl")
        for _ in range(_ATTEMPTS):
            try:
                file = cast(FileIO, open(path, mode, buffering=0))
            except FileNotFoundError:
                if not os.path.exists(record):
                    break
                continue  # it is being deleted and perhaps created again, or its log is lost
            with file:
                if not os.path.exists(record):
                    break
                return work(file)
        else:
            raise CorruptRecordError("session", key, f"{path} is missing")
        os.stat(f"{self.base}/{SESSIONS}")  # which raises if the store is gone
        raise RecordNotFoundError("session", key)

    def _reading(self, key: str, work: Callable[[FileIO, Log], T]) -> T:
        """Do the work on the log as it is at one moment, without its lock."""

        def once(file: FileIO) -> T:
            state = self._state(key, file)
            try:
                result = work(file, state)
            except CorruptRecordError:
                self._check(key, file, state)
                result = work(file, advance(self._empty(key, file), file, sys.maxsize))
                name = file_name(SESSIONS, key)
                _LOGGER.warning("the index of %s was wrong: it is rebuilt", file.name)
                self._logs.pop(name, None)
                self._index.forget(name)
            self._check(key, file, state)
            return result

        for _ in range(_ATTEMPTS):
            with suppress(_Changed):
                return self._with_log(key, once)
        raise BackendUnavailableError("fs", f"the session {key!r} was changed all the time")

    def _check(self, key: str, file: FileIO, state: Log) -> None:
        if (
            os.fstat(file.fileno()).st_nlink == 0
            or self._state(key, file).generation != state.generation
        ):
            raise _Changed

    def _state(self, key: str, file: FileIO, *, locked: bool = False) -> Log:
        """Return what the file says now; with its lock, cut off a call that was interrupted."""
        name, size = file_name(SESSIONS, key), os.fstat(file.fileno()).st_size
        log = self._logs.get(name)
        if (
            log is None
            or log.end > size
            or len(log.lines) > 2 * _FLUSH
            or files.read_at(file, 0, len(log.header)) != log.header
        ):
            log, known = self._empty(key, file), self._index.head(name)
            if known is not None and known.header == log.header and known.end <= size:
                log = known
            elif known is not None:
                _LOGGER.warning("the index of %s is of another file: it is rebuilt", file.name)
        while log.end < size:
            if not locked and size - log.end > _LONG_TAIL:
                found = self._locks.hold(
                    _lock(SESSIONS, key), lambda: self._state(key, file, locked=True), wait=False
                )
                if found is not None:
                    return found
            following = advance(log, file, _CHUNK if locked else sys.maxsize)
            if following.end == log.end:
                if locked:
                    os.truncate(self._path(SESSIONS, key, "jsonl"), log.end)
                    _LOGGER.warning(
                        "%s: cut off %d bytes of a call that was interrupted before it was "
                        "acknowledged",
                        *(file.name, size - log.end),
                    )
                break
            log = following
            if locked and len(log.lines) >= _CHUNK:
                log, _ = self._index.flush(name, log)
        return self._remember(key, log)

    def _empty(self, key: str, file: FileIO) -> Log:
        found = read_header(file)
        if found is None or found[0] != key:
            raise CorruptRecordError("session", key, str(file.name))
        return found[1]

    def _remember(self, key: str, log: Log) -> Log:
        if len(self._logs) > _REMEMBERED:
            self._logs.clear()
            self._seconds.clear()
        self._logs[file_name(SESSIONS, key)] = log
        return log

    def _draft_log(self, document: Document, *lines: bytes) -> str:
        header = new_header(document.key, document.revision, document.updated_at)
        return files.draft(self._path(SESSIONS, document.key, "jsonl"), (header, *lines))

    def _write(
        self, key: str, file: FileIO, state: Log, at: int, form: Callable[[int], list[bytes]]
    ) -> tuple[list[bytes], int]:
        """Add the lines of one call to the log, durably; return them and the time they have."""
        stat, known = os.stat(self._path(SESSIONS, key)), self._seconds.get(key)
        row, latest = None, max(at, state.at)
        if known != (stat.st_ino, stat.st_mtime_ns, latest // 1000):
            record = self._record(SESSIONS, key)
            if record is None:
                raise RecordNotFoundError("session", key)
            latest = max(at, _changed_at(record, state))
            row = self._row(SESSIONS, key, record.created_at, latest, record.fields)
            if self._index.rows(SESSIONS, key) == [(*row, 1)]:
                row = None
            else:
                self._index.announce(SESSIONS, key, row)
        lines = form(latest)
        try:
            file.seek(state.end)
            files.write_all(file.fileno(), b"".join(lines))
            files.sync(file.fileno())
        except BaseException:
            with suppress(OSError):
                os.truncate(self._path(SESSIONS, key, "jsonl"), state.end)
            raise
        if row is not None:
            self._index.settle(SESSIONS, key, row)
        self._seconds[key] = stat.st_ino, stat.st_mtime_ns, latest // 1000
        return lines, latest

    def _change(
        self,
        key: str,
        file: FileIO,
        state: Log,
        keep: int,
        entries: Sequence[Entry],
        first: int,
        at: int,
        generation: str,
    ) -> None:
        """Keep so many entries, and put these from the position `first` on."""
        name = file_name(SESSIONS, key)
        gone = self._regions(key, state, *((keep + 1, state.count) if keep < first else (first, first)))

        def form(latest: int) -> list[bytes]:
            mark = format_mark(keep, generation, len(entries), latest)
            return [mark, *format_entries(entries, first, latest)]

        self._write(key, file, state, at, form)
        state = advance(state, file, sys.maxsize)
        state, dead = self._index.flush(name, state, sum(stop - start for start, stop in gone))
        self._remember(key, state)
        if dead > max(_FEW_BYTES, state.end // 2):
            chunks = self._copied(key, state.generation, state.at, file, state, state.count)
            path = self._path(SESSIONS, key, "jsonl")
            os.replace(files.draft(path, chunks), path)
            files.sync_folder(os.path.dirname(path))
            self._index.forget(name)
            self._with_log(key, lambda new: self._state(key, new, locked=True))
        else:
            for start, stop in gone:
                blank(file, start, stop)

    def _regions(self, key: str, state: Log, first: int, last: int) -> list[tuple[int, int]]:
        """Return where the entries are in the file, those that are side by side as one."""
        regions: list[tuple[int, int]] = []
        for start in range(first, last + 1, _CHUNK):
            for line in self._lines(key, state, start, min(last, start + _CHUNK - 1)):
                if regions and regions[-1][1] == line.offset:
                    regions[-1] = (regions[-1][0], line.offset + line.length)
                else:
                    regions.append((line.offset, line.offset + line.length))
        return regions

    def _copied(
        self, key: str, generation: str, at: int, file: FileIO, state: Log, count: int
    ) -> Iterator[bytes]:
        """Give the content of a log with the same first entries."""
        yield new_header(key, generation, at)
        for start, stop in self._regions(key, state, 1, count):
            for offset in range(start, stop, 1 << 20):
                yield files.read_at(file, offset, min(1 << 20, stop - offset))
        yield format_mark(count, generation, 0, at)

    def _flush(self, key: str, state: Log) -> None:
        self._remember(key, self._index.flush(file_name(SESSIONS, key), state)[0])

    def _refused(
        self,
        key: str,
        file: FileIO,
        state: Log,
        entries: Sequence[Entry],
        expected: int | None,
        generation: str | None,
        keep: int,
    ) -> Found | None:
        """Return what forbids to add the entries to the first `keep`, if anything."""
        ids = [entry.id for entry in entries]
        there = self._positions(key, state, ids)
        if (
            expected in (None, state.count)
            and generation in (None, state.generation)
            and not any(position <= keep for position in there.values())
        ):
            return None
        files.sync(file.fileno())  # as an interrupted call may have written without that
        return self._found(key, file, state, ids)

    def _positions(self, key: str, state: Log, ids: Sequence[str]) -> dict[str, int]:
        there = {id: state.ids[id] for id in ids if id in state.ids}
        if len(there) < len(ids):
            there |= self._index.positions(state, [id for id in ids if id not in there])
            if state.damaged and len(there) < len(ids):
                # The id of the damaged entry could be one of these.
                for position in state.damaged:
                    self._refuse(key, position, self._lines(key, state, position, position)[0])
        return there

    def _position(self, key: str, state: Log, entry: str | int | None, default: int) -> int:
        if entry is None or isinstance(entry, int):
            return default if entry is None else entry
        there = self._positions(key, state, [entry])
        if entry not in there:
            raise RecordNotFoundError("message", entry)
        return there[entry]

    def _found(self, key: str, file: FileIO, state: Log, ids: Sequence[str]) -> Found:
        there = {
            id: (at, self._texts(key, file, self._lines(key, state, at, at), at)[0])
            for id, at in self._positions(key, state, ids).items()
        }
        return Found(Head(state.count, state.generation), there)

    def _lines(self, key: str, state: Log, first: int, last: int) -> list[Line]:
        found = self._index.lines(state, first, last) if first <= state.indexed else {}
        found |= {at: state.lines[at] for at in range(first, last + 1) if at in state.lines}
        if len(found) < last - first + 1:
            raise CorruptRecordError("session", key, self._path(SESSIONS, key, "jsonl"))
        return [found[position] for position in range(first, last + 1)]

    def _texts(self, key: str, file: FileIO, lines: Sequence[Line], first: int) -> list[Text]:
        """Return the texts of these entries, which are from the position `first` on."""
        texts: list[Text] = []
        start = 0
        while start < len(lines):
            stop, end = start, lines[start].offset
            while stop < len(lines) and lines[stop].offset == end:
                end += lines[stop].length
                stop += 1
            begin = lines[start].offset
            data = files.read_at(file, begin, end - begin)
            for position, line in enumerate(lines[start:stop], first + start):
                at = line.offset - begin
                entry = parse_entry(data[at : at + line.length])
                if entry is None or entry[:2] != (line.id, position):
                    self._refuse(key, position, line)
                texts.append(entry[2])
            start = stop
        return texts

    def _refuse(self, key: str, position: int, line: Line) -> NoReturn:
        where = f"{self._path(SESSIONS, key, 'jsonl')}, byte {line.offset}"
        raise CorruptRecordError("message", line.id or f"#{position}", where)


class _Changed(Exception):
    """Something was cut or replaced while it was read."""


def _lock(kind: Kind, key: str) -> str:
    return file_name(kind, key)[:2]


def _changed_at(record: Record, log: Log) -> int:
    """Return when the session last changed."""
    if (log.generation, log.count) == record.log:
        return record.updated_at
    return max(record.updated_at, log.at)


def _place(query: Query, row: Row) -> Place:
    if query.order == "key":
        return Place(0, row[0])
    return Place(-row[2 if query.order == "active" else 1], row[0])


def _listed(query: Query, now: Row, row: Row) -> bool:
    """Tell whether a document that is at the row `now` is listed because of the other one."""
    if query.order != "key" and _place(query, now) != _place(query, row):
        return False
    return now[3:] == row[3:-1]
