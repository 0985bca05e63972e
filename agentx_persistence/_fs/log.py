"""The log of a session: a file to whose end lines are added.

The first line names the session. Each other line is an entry or a mark (with `keep`)::

    {"session":"s","file":"5f0c…","generation":"r1","at":0}
    {"id":"m1","message":{…},"position":1,"left":0,"at":1700000000000}
    {"keep":1,"generation":"t1.4","left":1,"at":1700000000000}

A message with line feeds is in `text` instead of `message`, as a JSON string.

`left` is the number of lines of the same call that follow. A call takes effect when its last line,
with `left` 0, is complete with its line feed. `at` is the latest time of any call so far. A mark
cuts off all entries after the first `keep`. The entries that follow it in the same call are added,
or replace the entry at their position. Entries that were cut off or replaced are overwritten with
spaces.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from io import FileIO
from typing import NamedTuple

from pydantic_core import from_json, to_json

from agentx_persistence._fs.files import read_at
from agentx_persistence.storage import Entry

_TEXT, _NUMBER = rb'("(?:[^"\\]|\\.)*")', rb"(-?\d{1,18})"
_HEADER = re.compile(
    rb'\{"session":%b,"file":"([0-9a-f]{16})","generation":%b,"at":%b\}\n' % (_TEXT, _TEXT, _NUMBER)
)
_ENTRY = re.compile(
    rb'\{"id":%b,"(message|text)":(.*),"position":%b,"left":%b,"at":%b\}\n'
    % (_TEXT, _NUMBER, _NUMBER, _NUMBER),
    re.DOTALL,
)
_MARK = re.compile(
    rb'\{"keep":%b,"generation":%b,"left":%b,"at":%b\}\n' % (_NUMBER, _TEXT, _NUMBER, _NUMBER)
)
_LONGEST_HEADER = 4096
_BLANK = bytes(byte if byte == ord("\n") else ord(" ") for byte in range(256))
_CHUNK = 1 << 20
_TAIL = 1 << 16
# How many bytes at each end of a call identify it. They have the id of its first entry, or the
# token of its mark, and the position of its last entry.
_KNOWN = 1024


class Line(NamedTuple):
    """The place of an entry in the file.

    `id` is ``None`` if the entry is damaged. `length` is that of the whole line in bytes, `size`
    that of the entry's text.
    """

    id: str | None
    offset: int
    length: int
    size: int


class Log(NamedTuple):
    """The content of a log file up to the offset `end`.

    `lines` has the entries that are not in the index or differ from it. The other entries, at
    positions up to `indexed`, are in the index under the log's `number`. `newest` is the offset of
    the last call, and how it begins and ends, if its writer may still take it back.
    """

    header: bytes
    end: int
    count: int  # type: ignore[assignment]  # hides the method `tuple.count`
    generation: str
    at: int
    damaged: frozenset[int]
    number: int | None
    indexed: int
    lines: dict[int, Line]
    ids: dict[str, int]
    newest: tuple[int, bytes, bytes] | None = None


def new_header(session: str, generation: str, at: int) -> bytes:
    names = to_json(session), os.urandom(8).hex().encode(), to_json(generation)
    return b'{"session":%b,"file":"%b","generation":%b,"at":%d}\n' % (*names, at)


def read_header(file: FileIO) -> tuple[str, Log] | None:
    """Return the session and its log without entries, or ``None`` if the header is damaged."""
    data = read_at(file, 0, _LONGEST_HEADER)
    found = _HEADER.match(data)
    if found is None:
        return None
    session, _, generation, at = found.groups()
    header = found.group()
    log = Log(
        *(header, len(header), 0, from_json(generation), int(at), frozenset(), None, 0, {}, {})
    )
    return from_json(session), log


def format_entries(entries: Sequence[Entry], first: int, at: int) -> list[bytes]:
    """Return the lines of entries at the positions from `first` on. The lines end their call."""
    left = len(entries)
    lines = []
    for position, (id, text, *_) in enumerate(entries, first):
        left -= 1
        raw = b'"message":' + text.encode() if "\n" not in text else b'"text":' + to_json(text)
        lines.append(
            b'{"id":%b,%b,"position":%d,"left":%d,"at":%d}\n'
            % (to_json(id), raw, position, left, at)
        )
    return lines


def appended(log: Log, entries: Sequence[Entry], written: Sequence[bytes], at: int) -> Log:
    """Return the log with entries that were just written at its `end`, as `advance` would.

    `lines` and `ids` are changed in place. The old `log` shares them, but its `count` excludes the
    new entries.
    """
    end, count = log.end, log.count
    for entry, line in zip(entries, written, strict=True):
        count += 1
        size = len(entry.text) if entry.text.isascii() else len(entry.text.encode())
        log.lines[count] = Line(entry.id, end, len(line), size)
        log.ids[entry.id] = count
        end += len(line)
    return Log(log.header, end, count, log.generation, at, *log[5:])


def format_mark(keep: int, generation: str, left: int, at: int) -> bytes:
    return b'{"keep":%d,"generation":%b,"left":%d,"at":%d}\n' % (
        *(keep, to_json(generation), left, at),
    )


def text_at(data: bytes, start: int, line: Line, position: int) -> bytes | None:
    """Return the text of the entry whose line begins at `start` of `data`.

    Return ``None`` if the bytes there are not the line of this entry.
    """
    # Nearly all lines pass these two comparisons, which are several times as fast as the regular
    # expression.
    id, _, length, size = line
    before, after = b'{"id":"%b","message":' % (id or "").encode(), b',"position":%d,' % position
    begin = start + len(before)
    end = begin + size
    if data[start:begin] == before and data[end : end + len(after)] == after:
        return data[begin:end]
    found = _ENTRY.fullmatch(data, start, start + length)
    if found is None or (from_json(found[1]), int(found[4])) != (id, position):
        return None
    return from_json(found[3]).encode() if found[2] == b"text" else found[3]


def advance(log: Log, file: FileIO, limit: int) -> Log:
    """Return the log with the complete calls that follow its `end` in the file.

    Stop after the call with which `lines` reaches `limit` entries.
    """
    _, end, count, generation, at, damaged, _, indexed, *_, newest = log
    lines, ids, void = dict(log.lines), dict(log.ids), set(damaged)
    call: list[tuple[int, bytes]] = []
    for offset, data in _lines(file, end):
        call.append((offset, data))
        found = _ENTRY.fullmatch(data) or _MARK.fullmatch(data)
        if found is not None and found.group(found.re.groups - 1) != b"0":
            continue
        marked = False
        for start, line in call:
            if mark := _MARK.fullmatch(line):
                count, generation, at = int(mark[1]), from_json(mark[2]), int(mark[4])
                marked, indexed = True, min(indexed, count)
                for position in [p for p in lines if p > count]:
                    ids.pop(lines.pop(position).id or "", None)
                void = {position for position in void if position <= count}
                continue
            parsed = _ENTRY.fullmatch(line)
            position = int(parsed[4]) if parsed else count + 1
            if not marked and position <= count and void.issuperset(range(position, count + 1)):
                # The damage contains line feeds, so that more damaged entries were counted than
                # there are.
                for extra in range(position, count + 1):
                    void.discard(extra)
                    lines.pop(extra, None)
                count, indexed = position - 1, min(indexed, position - 1)
            for missing in range(count + 1, position):
                void.add(missing)
                lines[missing] = Line(None, start, len(line), 0)
            if parsed is None or not (marked or position > count):
                position = count + 1
                void.add(position)
                lines[position] = Line(None, start, len(line), 0)
            else:
                id, text = from_json(parsed[1]), parsed[3]
                size = len(text) if parsed[2] == b"message" else len(from_json(text).encode())
                void.discard(position)
                lines[position] = Line(id, start, len(line), size)
                ids[id], at = position, int(parsed[6])
            count = max(count, position)
        newest = call[0][0], call[0][1][:_KNOWN], call[-1][1][-_KNOWN:]
        call.clear()
        end = offset + len(data)
        if len(lines) >= limit:
            break
    return Log(
        *(log.header, end, count, generation, at, frozenset(void), log.number, indexed, lines, ids),
        newest,
    )


def _lines(file: FileIO, start: int) -> Iterator[tuple[int, bytes]]:
    """Yield the offset and content of each line from `start` on that ends with a line feed."""
    file.seek(start)
    with open(file.fileno(), "rb", closefd=False) as buffered:
        for line in buffered:
            if line.endswith(b"\n"):
                yield start, line
            start += len(line)


def ends_as_known(log: Log, file: FileIO) -> bool:
    """Return whether the file still has the last call that was read.

    A process that fails while it writes truncates the file again, and another process may have
    written another call in the same place.
    """
    if log.newest is None:
        return True
    offset, begin, end = log.newest
    found = read_at(file, offset, len(begin)), read_at(file, log.end - len(end), len(end))
    return found == (begin, end)


def last_call(file: FileIO) -> tuple[int, int] | None:
    """Return the number of entries and the time after the last call, read from the file's end.

    Return ``None`` if the end of the file is not enough to know them.
    """
    size = os.fstat(file.fileno()).st_size
    start = max(0, size - _TAIL)
    lines = read_at(file, start, size - start).splitlines(keepends=True)
    for before, line in zip(lines[-2::-1], lines[:0:-1], strict=True):
        if mark := _MARK.fullmatch(line):
            return int(mark[1]), int(mark[4])
        entry, mark = _ENTRY.fullmatch(line), _MARK.fullmatch(before)
        if entry is not None and entry[5] == b"0":
            return max(int(entry[4]), int(mark[1]) if mark else 0), int(entry[6])
    return None


def blank(file: FileIO, start: int, stop: int) -> None:
    """Overwrite the lines between the two offsets with spaces; keep their line feeds."""
    while start < stop:
        data = read_at(file, start, min(_CHUNK, stop - start))
        file.seek(start)
        file.write(data.translate(_BLANK))
        start += len(data) or stop
