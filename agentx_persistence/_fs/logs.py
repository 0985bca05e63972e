"""The logs of all sessions. Who changes one holds the lock of its session; readers hold none."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from threading import Lock
from typing import NamedTuple, TypeVar

from pydantic_core import to_json

from agentx_persistence._fs.files import File, sync_folder
from agentx_persistence._fs.history import History
from agentx_persistence._fs.log_file import (
    Line,
    LogFile,
    LogState,
    end_append,
    format_lines,
    new_header,
)
from agentx_persistence.documents import Entry, Slice, Window
from agentx_persistence.errors import (
    CorruptRecordError,
    RecordConflictError,
    RecordNotFoundError,
)
from agentx_persistence.forking import ForkAware, renew_after_fork

T = TypeVar("T")

# How many logs, and message ids in them, are remembered. An id takes about 200 bytes.
_MOST_LOGS, _MOST_IDS = 1_000, 200_000
_CHUNK = 2**22


class Log(NamedTuple):
    """The log of a session: which file it is, and whose."""

    file: File
    session_id: str

    @property
    def path(self) -> str:
        return self.file.path


class Logs(ForkAware):
    """All but `create` and `remove` raise `FileNotFoundError` if there is no such file."""

    def __init__(self) -> None:
        self._forget()
        renew_after_fork(self)

    def _forget(self) -> None:
        self._lock = Lock()
        self._histories: OrderedDict[str, History] = OrderedDict()

    def after_fork(self) -> None:
        self._forget()

    def create(self, log: Log) -> LogState:
        """Begin an empty log."""
        log.file.write(new_header(log.session_id))
        return self.state(log)

    def state(self, log: Log) -> LogState:
        with LogFile(log.path, log.session_id) as file:
            return file.state()

    def position(self, log: Log, entry_id: str) -> int:
        return self._ask(log, lambda file, history: _position(file, history, entry_id))

    def read(self, log: Log, window: Window) -> Slice:
        def work(file: LogFile, history: History) -> Slice:
            start, stop = window.within(history.count())
            return Slice(start + 1, [line.text for line in history.lines(file, start, stop)])

        return self._ask(log, work)

    def append(self, log: Log, entries: Sequence[Entry], at: int) -> list[int]:
        def work(file: LogFile, history: History) -> list[int]:
            first, end = history.count() + 1, history.end
            positions, new, added = _sort_out(file, history, entries, first)
            if new:
                lines = format_lines(added, first, at)
                file.append(b"".join(lines), end)
                history.add(end, new, lines)
            elif entries:
                # Who appended them may have died before they were durable.
                file.sync()
            return positions

        return self._ask(log, work, writable=True)

    def prepare_cut(self, log: Log, entry_id: str | None) -> tuple[int, LogState]:
        """Prepare the file without what is behind this entry, or without any for ``None``.

        Return how many entries go, and the state that the log has once the file is published.
        """

        def work(file: LogFile, history: History) -> tuple[int, LogState]:
            keep = 0 if entry_id is None else _position(file, history, entry_id)
            gone = history.count() - keep
            if gone == 0:
                return 0, file.state()
            log.file.prepare(_kept(file, history, keep, log.session_id))
            draft = File(log.file.draft, log.file.draft)
            return gone, self.state(Log(draft, log.session_id))

        return self._ask(log, work)

    def remove(self, file: File) -> None:
        self._forget_log(file.path)
        if file.remove():
            sync_folder(os.path.dirname(file.path))

    def _ask(
        self,
        log: Log,
        work: Callable[[LogFile, History], T],
        *,
        writable: bool = False,
    ) -> T:
        with LogFile(log.path, log.session_id, writable=writable) as file:
            known = self._known(log.path)
            try:
                if known is not None and known.follow(file):
                    return work(file, known)
            except CorruptRecordError:
                # Perhaps the file is only not what it was. If it is damaged, that comes out again.
                self._forget_log(log.path)
            history = History(file.state())
            self._keep(log.path, history)
            return work(file, history)

    def _known(self, path: str) -> History | None:
        with self._lock:
            if path in self._histories:
                self._histories.move_to_end(path)
            return self._histories.get(path)

    def _forget_log(self, path: str) -> None:
        with self._lock:
            self._histories.pop(path, None)

    def _keep(self, path: str, history: History) -> None:
        with self._lock:
            self._histories.pop(path, None)
            self._histories[path] = history
            weight = sum(known.weight for known in self._histories.values())
            while len(self._histories) > 1 and (
                len(self._histories) > _MOST_LOGS or weight > _MOST_IDS
            ):
                weight -= self._histories.popitem(last=False)[1].weight


def _position(log: LogFile, history: History, entry_id: str) -> int:
    position = history.position(log, entry_id)
    if position is None:
        raise RecordNotFoundError("message", entry_id)
    return position


def _sort_out(
    log: LogFile, history: History, entries: Sequence[Entry], first: int
) -> tuple[list[int], dict[str, int], list[Line]]:
    """Return the position of each entry; of those that are not there yet, for which the positions
    from `first` on are, by id; and their lines."""
    positions: list[int] = []
    new: dict[str, int] = {}
    added: list[Line] = []
    for id, text in entries:
        line = Line(to_json(id), text.encode())
        position = history.position(log, id)
        if position is not None:
            (there,) = history.lines(log, position - 1, position)
        else:
            position = new.setdefault(id, first + len(added))
            if position == first + len(added):
                added.append(line)
            there = added[position - first]
        if there != line:
            raise RecordConflictError("message", id)
        positions.append(position)
    return positions, new, added


def _kept(log: LogFile, history: History, count: int, session_id: str) -> Iterator[bytes]:
    yield new_header(session_id)
    if count:
        start = history.start(log, count)
        for offset in range(log.start, start, _CHUNK):
            yield log.read(offset, min(_CHUNK, start - offset))
        end = history.end if count == history.count() else history.start(log, count + 1)
        yield end_append(log.read(start, end - start - 1)) + b"\n"
