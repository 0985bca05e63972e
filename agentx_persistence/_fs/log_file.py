"""The file of a session's messages: its lines, and where it ends.

The first line names the session, and the generation, which is another one whenever anything but
the end of the file has changed. Each other line is a message, on one line in the file::

    {"id":"msg_1","message":{…},"position":7,"left":0,"at":1700000000000}

`left` is the number of lines of the same append that follow: an append is there when its line with
a 0 is, with its line feed. `at` is the time of the append.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple, Self

from pydantic_core import from_json, to_json

from agentx_persistence._fs import files
from agentx_persistence.errors import CorruptRecordError
from agentx_persistence.loading import readable_id

_LOGGER = logging.getLogger("agentx_persistence")

_TEXT = rb'"(?:[^"\\]|\\.)*"'
_NUMBERS = rb',"position":(\d{1,18}),"left":(\d{1,18}),"at":(-?\d{1,18})\}'
_LINE_ID = re.compile(rb'\{"id":(' + _TEXT + rb"),")
_ID, _MESSAGE = b'{"id":', b',"message":'
_LINE_END = re.compile(_NUMBERS + rb"\Z")
_LONGEST_NUMBERS = 96
_LONGEST_START = 2048  # of a line, up to the message: an id has at most 255 characters
_GENERATION = slice(len('{"generation":"'), len('{"generation":"') + 16)
_TAIL = 4096
_BINARY = getattr(os, "O_BINARY", 0)  # on Windows
_READABLE, _WRITABLE = os.O_RDONLY | _BINARY, os.O_RDWR | _BINARY


class LogState(NamedTuple):
    """A log as its last append left it: how many messages it has, and when that append was.

    :param head: the first line
    """

    head: bytes
    end: int
    length: int
    at: int | None

    @property
    def mark(self) -> tuple[str, int]:
        """What is the same as long as the log is."""
        return self.head[_GENERATION].decode(), self.end


class Line(NamedTuple):
    """:param id: in its JSON form"""

    id: bytes
    text: bytes


def new_header(session_id: str) -> bytes:
    return _header(session_id, secrets.token_hex(8))


def _header(session_id: str, generation: str) -> bytes:
    return to_json({"generation": generation, "session": session_id}) + b"\n"


def format_lines(lines: Sequence[Line], first: int, at: int) -> list[bytes]:
    """Return the lines of one append, with line feeds, from this position on."""
    return [
        b'{"id":%b,"message":%b,"position":%d,"left":%d,"at":%d}\n'
        % (line.id, line.text, first + index, len(lines) - index - 1, at)
        for index, line in enumerate(lines)
    ]


def position_of(data: bytes, start: int, end: int) -> int | None:
    """Return the position of the line between these offsets, ``None`` if it is none."""
    numbers = _LINE_END.search(data, max(start, end - _LONGEST_NUMBERS), end)
    return None if numbers is None else int(numbers[1])


def end_append(line: bytes) -> bytes:
    """Return the line as the last one of its append."""
    numbers = _LINE_END.search(line)
    return line if numbers is None else line[: numbers.start(2)] + b"0" + line[numbers.end(2) :]


class LogFile:
    """The open file. Positions and offsets are those of the file as it was opened: what replaces
    it does not change it."""

    def __init__(self, path: str, session_id: str, *, writable: bool = False) -> None:
        self._path, self._session_id = path, session_id
        self._descriptor = os.open(path, _WRITABLE if writable else _READABLE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    @cached_property
    def start(self) -> int:
        """Where the first message is, or would be."""
        return len(_header(self._session_id, "0" * 16))

    def is_as(self, head: bytes, end: int) -> bool:
        """Tell whether this is the log that had this first line and ended here: who changes
        anything but the end changes the generation, too."""
        return (
            self._size() == end
            and self.read(0, len(head)) == head
            # Damage there would spoil the next line as well.
            and self.read(end - 1, 1) == b"\n"
        )

    def state(self) -> LogState:
        """:raises CorruptRecordError: if the first line or the last whole one is not as written"""
        head = self.read(0, self.start)
        if head != _header(self._session_id, head[_GENERATION].decode(errors="replace")):
            raise CorruptRecordError("session", self._session_id, self.where(0))
        return LogState(head, *self._last_append())

    def _last_append(self) -> tuple[int, int, int | None]:
        """Return its end, the position of its last message, and its time."""
        size = self._size()
        window = _TAIL
        while True:
            low = max(self.start, size - window)
            data = self.read(low, size - low)
            stop = len(data)
            while (feed := data.rfind(b"\n", 0, stop)) >= 0:
                numbers = _LINE_END.search(data, max(0, feed - _LONGEST_NUMBERS), feed)
                if numbers is None:
                    break
                if int(numbers[2]) == 0:
                    return low + feed + 1, int(numbers[1]), int(numbers[3])
                stop = feed
            if feed >= (0 if low == self.start else _LONGEST_NUMBERS):
                raise self.corrupt(low + feed)
            if low == self.start:
                return low, 0, None
            window *= 4

    def _size(self) -> int:
        return os.lseek(self._descriptor, 0, os.SEEK_END)

    def read(self, offset: int, length: int) -> bytes:
        """Return so many bytes, or fewer at the end of the file."""
        os.lseek(self._descriptor, offset, os.SEEK_SET)
        data = os.read(self._descriptor, length)
        while 0 < len(data) < length and (more := os.read(self._descriptor, length - len(data))):
            data += more
        return data

    def lines(self, start: int, end: int) -> list[bytes]:
        """Return the lines between two offsets, without line feeds."""
        # Not splitlines, for which a carriage return ends a line, too.
        lines = self.read(start, end - start).split(b"\n")
        if lines.pop():
            raise self.corrupt(start)
        return lines

    def parse(self, line: bytes, position: int) -> Line:
        """:raises CorruptRecordError: if this is not the line with this position"""
        numbers = _LINE_END.search(line, max(0, len(line) - _LONGEST_NUMBERS))
        # No text in JSON has a quotation mark in it that is not escaped: this is behind the id.
        message = line.find(_MESSAGE)
        if numbers is None or int(numbers[1]) != position or not line.startswith(_ID):
            raise self._damaged(line, position)
        if not 0 < message < numbers.start():
            raise self._damaged(line, position)
        return Line(line[len(_ID) : message], line[message + len(_MESSAGE) : numbers.start()])

    def id_of(self, line: Line, position: int) -> str:
        try:
            return str(from_json(line.id))
        except ValueError as error:
            raise CorruptRecordError("message", f"#{position}", self.where(position)) from error

    def where(self, position: int) -> str:
        return f"{self._path}, line {position + 1}"

    def append(self, data: bytes, end: int) -> None:
        """Write at the end of the last append: durable, or not at all."""
        descriptor = self._descriptor
        if (torn := self._size() - end) > 0:
            _LOGGER.warning(
                "%s: cut off %d bytes of an append that was never acknowledged", self._path, torn
            )
            os.ftruncate(descriptor, end)
        os.lseek(descriptor, end, os.SEEK_SET)
        try:
            files.write_all(descriptor, data)
            os.fsync(descriptor)
        except BaseException:
            seen = self._size() == end + len(data)
            os.ftruncate(descriptor, end)
            if seen:  # perhaps, by others, who must not take what comes there next for this
                os.lseek(descriptor, _GENERATION.start, os.SEEK_SET)
                files.write_all(descriptor, secrets.token_hex(8).encode())
            raise

    def sync(self) -> None:
        os.fsync(self._descriptor)

    def corrupt(self, offset: int) -> CorruptRecordError:
        """Return the error for the line at this offset, or around it."""
        before = self.read(0, offset)
        line = before[before.rfind(b"\n") + 1 :] + self.read(offset, _LONGEST_START)
        return self._damaged(line, before.count(b"\n"))

    def _damaged(self, line: bytes, position: int) -> CorruptRecordError:
        found = _LINE_ID.match(line)
        start = found[0][:-1] + b"}" if found else b""
        return CorruptRecordError("message", readable_id(start, position), self.where(position))
