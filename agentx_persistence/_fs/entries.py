"""The entries of the logs: finding, reading and changing them."""

from __future__ import annotations

import logging
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from io import FileIO
from typing import NoReturn, cast

from agentx_persistence._fs import files
from agentx_persistence._fs.log import (
    Line,
    Log,
    advance,
    blank,
    format_entries,
    format_mark,
    new_header,
    text_at,
)
from agentx_persistence._fs.logs import LONG_TAIL, UNINDEXED, Logs, changed_at
from agentx_persistence._fs.records import Row, file_name
from agentx_persistence.errors import (
    BackendUnavailableError,
    CorruptRecordError,
    RecordNotFoundError,
)
from agentx_persistence.storage import SESSIONS, Entry, Found, Head, Text

_LOGGER = logging.getLogger("agentx_persistence")
_CHUNK = 10_000
_FEW_BYTES = 65_536


class Entries(Logs):
    def write(
        self, key: str, file: FileIO, state: Log, at: int, form: Callable[[int], list[bytes]]
    ) -> tuple[list[bytes], int]:
        """Add the lines of one call to the log, durably; return the lines and their time.

        :param form: returns the lines for a given time
        """
        stat, known = os.stat(self._records.path(SESSIONS, key)), self._seconds.get(key)
        row, latest = None, max(at, state.at)
        if known != (stat.st_ino, stat.st_mtime_ns, latest // 1000):
            record = self._records.read(SESSIONS, key)
            if record is None:
                raise RecordNotFoundError("session", key)
            latest = max(at, changed_at(record, state))
            row = record.row(SESSIONS, latest)
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
                os.truncate(self._path(key), state.end)
            raise
        if row is None or self._settled(key, row):
            self._seconds[key] = stat.st_ino, stat.st_mtime_ns, latest // 1000
        return lines, latest

    def _settled(self, key: str, row: Row) -> bool:
        try:
            self._index.settle(SESSIONS, key, row)
        except (BackendUnavailableError, sqlite3.Error) as error:
            # The change is durable, and the file decides where an unsure row is listed.
            _LOGGER.warning("%s: the index entry could not be updated: %s", self._path(key), error)
            return False
        return True

    def change(
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
        """Keep the first `keep` entries, and write `entries` at the positions from `first` on."""
        name = file_name(SESSIONS, key)
        gone = self.regions(
            key, state, *((keep + 1, state.count) if keep < first else (first, first))
        )

        def form(latest: int) -> list[bytes]:
            mark = format_mark(keep, generation, len(entries), latest)
            return [mark, *format_entries(entries, first, latest)]

        self.write(key, file, state, at, form)
        for start, stop in gone:  # first, so that nothing that fails below leaves the texts
            blank(file, start, stop)
        state = advance(state, file, sys.maxsize)
        state, dead = self._index.flush(name, state, sum(stop - start for start, stop in gone))
        self.remember(key, state)
        if dead > max(_FEW_BYTES, state.end // 2):
            self._compact(key, file, state)

    def _compact(self, key: str, file: FileIO, state: Log) -> None:
        """Write the log anew, without what is dead in it. If that fails, a later change does it."""
        path = self._path(key)
        chunks = self.copied(key, state.generation, state.at, file, state, state.count)
        try:
            os.replace(files.draft(path, chunks), path)
            files.sync_folder(os.path.dirname(path))
        except BaseException as error:
            with suppress(OSError):
                files.remove(f"{path}.draft")
            if not isinstance(error, OSError):
                raise
            _LOGGER.warning("%s could not be rewritten without dead entries: %s", path, error)
            return
        self._index.forget(file_name(SESSIONS, key))
        self.with_log(key, lambda new: self.state(key, new, locked=True))

    def regions(self, key: str, state: Log, first: int, last: int) -> list[tuple[int, int]]:
        """Return the byte ranges of the entries in the file; adjacent ranges are merged."""
        regions: list[tuple[int, int]] = []
        for start in range(first, last + 1, _CHUNK):
            for line in self.lines(key, state, start, min(last, start + _CHUNK - 1)):
                if regions and regions[-1][1] == line.offset:
                    regions[-1] = (regions[-1][0], line.offset + line.length)
                else:
                    regions.append((line.offset, line.offset + line.length))
        return regions

    def copied(
        self, key: str, generation: str, at: int, file: FileIO, state: Log, count: int
    ) -> Iterator[bytes]:
        """Yield the content of a new log file with the first `count` entries."""
        yield new_header(key, generation, at)
        for start, stop in self.regions(key, state, 1, count):
            for offset in range(start, stop, 1 << 20):
                yield files.read_at(file, offset, min(1 << 20, stop - offset))
        yield format_mark(count, generation, 0, at)

    def appended(self, key: str, state: Log) -> Log:
        begin = next(iter(state.lines.values())).offset
        if len(state.lines) >= UNINDEXED or state.end - begin > LONG_TAIL:
            state, _ = self._index.flush(file_name(SESSIONS, key), state)
        return self.remember(key, state)

    def refused(
        self,
        key: str,
        file: FileIO,
        state: Log,
        entries: Sequence[Entry],
        expected: int | None,
        generation: str | None,
        keep: int,
    ) -> Found | None:
        """Return `Found` if `expected` or `generation` differ from the log, or if one of the ids is
        among its first `keep` entries; otherwise ``None``."""
        ids = [entry.id for entry in entries]
        there = self.positions(key, state, ids)
        if (
            expected in (None, state.count)
            and generation in (None, state.generation)
            and not any(position <= keep for position in there.values())
        ):
            return None
        files.sync(file.fileno())  # an interrupted call may have written these entries unsynced
        return self.found(key, file, state, ids)

    def positions(self, key: str, state: Log, ids: Sequence[str]) -> dict[str, int]:
        there = {id: at for id in ids if 0 < (at := state.ids.get(id, 0)) <= state.count}
        if len(there) < len(ids):
            there |= self._index.positions(state, [id for id in ids if id not in there])
            if state.damaged and len(there) < len(ids):
                # The id of a damaged entry is unknown. It could be one of these.
                for position in state.damaged:
                    self._refuse(key, position, self.lines(key, state, position, position)[0])
        return there

    def position(self, key: str, state: Log, entry: str | int | None, default: int) -> int:
        if entry is None or isinstance(entry, int):
            return default if entry is None else entry
        there = self.positions(key, state, [entry])
        if entry not in there:
            raise RecordNotFoundError("message", entry)
        return there[entry]

    def found(self, key: str, file: FileIO, state: Log, ids: Sequence[str]) -> Found:
        there = {
            id: (at, self.texts(key, file, self.lines(key, state, at, at), at)[0])
            for id, at in self.positions(key, state, ids).items()
        }
        return Found(Head(state.count, state.generation), there)

    def lines(self, key: str, state: Log, first: int, last: int) -> list[Line]:
        newer = [state.lines.get(at) for at in range(first, last + 1)]
        if None not in newer:
            return cast(list[Line], newer)
        found = self._index.lines(state, first, last)
        lines = [line or found.get(at) for at, line in enumerate(newer, first)]
        if None in lines:
            raise CorruptRecordError("session", key, self._path(key))
        return cast(list[Line], lines)

    def texts(self, key: str, file: FileIO, lines: Sequence[Line], first: int) -> list[Text]:
        """Return the texts of the entries in these lines, whose positions start at `first`."""
        texts: list[Text] = []
        start = 0
        while start < len(lines):
            begin = end = lines[start].offset
            for line in lines[start:]:
                if line.offset != end:
                    break
                end += line.length
            data = files.read_at(file, begin, end - begin)
            for line in lines[start:]:
                at = line.offset - begin
                if at < 0 or at >= end - begin:
                    break
                text = text_at(data, at, line, first + start)
                if text is None:
                    self._refuse(key, first + start, line)
                texts.append(text)
                start += 1
        return texts

    def _refuse(self, key: str, position: int, line: Line) -> NoReturn:
        where = f"{self._path(key)}, byte {line.offset}"
        raise CorruptRecordError("message", line.id or f"#{position}", where)
