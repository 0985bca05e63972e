"""The storage: documents, and the logs of the sessions."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from io import FileIO
from typing import TypeVar

from agentx_persistence._fs import files
from agentx_persistence._fs.calls import port_call
from agentx_persistence._fs.documents import FileDocuments
from agentx_persistence._fs.log import Log, appended, format_entries
from agentx_persistence._fs.traces import traces
from agentx_persistence.errors import CorruptRecordError, RecordNotFoundError
from agentx_persistence.storage import (
    KINDS,
    SESSIONS,
    Document,
    Entry,
    Found,
    Head,
    Kind,
    Slice,
    Trace,
    Window,
)

T = TypeVar("T")


class FileStorage(FileDocuments):
    @port_call
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
            state = self._logs.state(log, file, locked=True)
            if found := self._logs.refused(
                log, file, state, entries, expected, generation, state.count
            ):
                return found
            if not entries:
                return state.count
            lines, latest = self._logs.write(
                log, file, state, at, partial(format_entries, entries, state.count + 1)
            )
            return self._logs.appended(log, appended(state, entries, lines, latest)).count

        def creating() -> int | Found:
            if create is None or self._records.exists(SESSIONS, log):
                return self._logs.with_log(log, work, "r+b")
            if expected not in (None, 0) or generation not in (None, create.revision):
                return Found(Head(0, ""), {})
            latest = max(at, create.updated_at)
            lines = self._logs.draft(create, *format_entries(entries, 1, latest))
            self._save(SESSIONS, create, lines, (create.revision, 0), latest if entries else None)
            return len(entries)

        return self._locked(SESSIONS, log, creating)

    @port_call
    def read(self, log: str, window: Window) -> Slice:
        def work(file: FileIO, state: Log) -> Slice:
            start = min(self._logs.position(log, state, window.after, 0), state.count)
            stop = min(
                self._logs.position(log, state, window.before, state.count + 1) - 1, state.count
            )
            if window.first is not None:
                stop = min(stop, start + window.first)
            elif window.last is not None:
                start = max(start, stop - window.last)
            lines = self._logs.lines(log, state, start + 1, stop)
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
                self._logs.texts(log, file, lines, start + 1),
                start + 1,
                Head(state.count, state.generation),
            )

        return self._logs.reading(log, work)

    @port_call
    def lookup(self, log: str, ids: Sequence[str]) -> Found:
        return self._logs.reading(log, lambda file, state: self._logs.found(log, file, state, ids))

    @port_call
    def newest(self, logs: Sequence[str]) -> dict[str, Slice]:
        def work(file: FileIO, state: Log) -> Slice:
            texts = self._logs.texts(
                log,
                file,
                self._logs.lines(log, state, max(state.count, 1), state.count),
                state.count,
            )
            return Slice(texts, state.count, Head(state.count, state.generation))

        found = {}
        for log in logs:
            with suppress(RecordNotFoundError):
                found[log] = self._logs.reading(log, work)
        return found

    @port_call
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
            state = self._logs.state(log, file, locked=True)
            done, _, number = state.generation.rpartition(".")
            if done == token:
                return int(number)
            keep = self._logs.position(log, state, after, 0)
            if keep > state.count:
                raise RecordNotFoundError("message", f"#{keep}")
            if found := self._logs.refused(log, file, state, entries, expected, generation, keep):
                return found
            self._logs.change(
                log, file, state, keep, entries, keep + 1, at, f"{token}.{state.count - keep}"
            )
            return state.count - keep

        return self._locked(SESSIONS, log, lambda: self._logs.with_log(log, work, "r+b"))

    @port_call
    def swap(self, log: str, entry: Entry, at: int, token: str) -> None:
        def work(file: FileIO) -> None:
            state = self._logs.state(log, file, locked=True)
            if state.generation != token:
                position = self._logs.position(log, state, entry.id, 0)
                self._logs.change(log, file, state, state.count, [entry], position, at, token)

        self._locked(SESSIONS, log, lambda: self._logs.with_log(log, work, "r+b"))

    @port_call
    def fork(self, log: str, through: str | None, document: Document) -> int | None:
        def work(file: FileIO, state: Log) -> tuple[int, str] | None:
            count = self._logs.position(log, state, through, state.count)
            if self._records.exists(SESSIONS, document.key):
                return None
            chunks = self._logs.copied(
                document.key, document.revision, document.updated_at, file, state, count
            )
            return count, files.draft(self._records.path(SESSIONS, document.key, "jsonl"), chunks)

        def forking() -> int | None:
            try:
                found = self._logs.reading(log, work)
            except BaseException:  # `work` may have left a draft, if the source was cut since
                path = self._records.path(SESSIONS, document.key, "jsonl")
                with suppress(OSError):
                    files.remove(f"{path}.draft")
                raise
            if found is not None:
                self._save(SESSIONS, document, found[1], (document.revision, found[0]))
            return found and found[0]

        return self._locked(SESSIONS, document.key, forking)

    @port_call
    def where(self, kind: Kind, key: str, position: int | None = None) -> str:
        if position is None:
            return self._records.path(kind, key)
        path = self._records.path(kind, key, "jsonl")
        with suppress(RecordNotFoundError, CorruptRecordError):
            log = self._logs.with_log(key, lambda file: self._logs.state(key, file))
            for line in self._logs.lines(key, log, position, position):
                return f"{path}, byte {line.offset}"
        return path

    def traces(self, kind: Kind) -> Iterator[Trace]:
        return traces(self._run, self._records, self._index, self._load, kind)

    @port_call
    def _run(self, work: Callable[[], T]) -> T:
        return work()

    @port_call
    def ping(self) -> None:
        for kind in KINDS:
            os.stat(f"{self.base}/{kind}")
        self._index.head("")
