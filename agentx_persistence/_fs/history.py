"""What a process knows of a log that it has read before: it reads only what has come since."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from threading import Lock

from agentx_persistence._fs.log_file import Line, LogFile, LogState, position_of

_BLOCK, _LARGEST_BLOCK = 2**16, 2**22
_LINES_AT_ONCE = 1000


class History:
    """Where each line starts, from some line on up to the last, and which ids there are.

    It begins at the end of the file, so that the last messages of a long history cost no more than
    those of a short one, and is extended to the start when something asks for it.
    """

    def __init__(self, state: LogState) -> None:
        self._lock = Lock()
        self._head = state.head
        self._before = state.length  # the number of lines whose start is not known
        self._starts = array("Q")
        self._end = state.end
        self._ids: dict[str, int] = {}

    @property
    def weight(self) -> int:
        return len(self._ids) + 1

    def follow(self, file: LogFile) -> bool:
        """Take in what was appended; tell whether this is still the same log."""
        with self._lock:
            if file.is_as(self._head, self._end):
                return True
            state = file.state()
            if state.head != self._head or state.end < self._end:
                return False
            if state.end > self._end:
                lines = file.lines(self._end, state.end)
                if position_of(lines[0], 0, len(lines[0])) != self._count() + 1:
                    return False
                self._add([len(line) + 1 for line in lines])
            return self._count() == state.length

    def add(self, end: int, ids: Mapping[str, int], lines: Sequence[bytes]) -> None:
        """Take in what this process has appended, unless another thread has read it already.

        :param end: where the log ended before
        :param ids: with their positions; all those before have been read
        """
        with self._lock:
            if self._end == end:
                self._add(map(len, lines))
            self._ids.update(ids)

    def _add(self, lengths: Iterable[int]) -> None:
        for length in lengths:
            self._starts.append(self._end)
            self._end += length

    @property
    def end(self) -> int:
        return self._end

    def count(self) -> int:
        with self._lock:
            return self._count()

    def lines(self, file: LogFile, start: int, stop: int) -> list[Line]:
        """Return the lines behind position `start` up to position `stop`."""
        if start >= stop:
            return []
        with self._lock:
            self._extend(file, start)
            first = self._starts[start - self._before]
            end = self._end if stop == self._count() else self._starts[stop - self._before]
        lines = file.lines(first, end)
        if len(lines) != stop - start:
            raise file.corrupt(first)
        return [file.parse(line, start + 1 + index) for index, line in enumerate(lines)]

    def start(self, file: LogFile, position: int) -> int:
        """Return where the line with this position starts."""
        with self._lock:
            self._extend(file, position - 1)
            return self._starts[position - 1 - self._before]

    def position(self, file: LogFile, id: str) -> int | None:
        """Return the position of the message with this id, or ``None``."""
        while (known := len(self._ids)) < (count := self.count()):
            lines = self.lines(file, known, min(known + _LINES_AT_ONCE, count))
            with self._lock:
                for position, line in enumerate(lines, known + 1):
                    if self._ids.setdefault(file.id_of(line, position), position) != position:
                        raise file.corrupt(self._starts[position - 1])
        return self._ids.get(id)

    def _count(self) -> int:
        return self._before + len(self._starts)

    def _extend(self, file: LogFile, before: int) -> None:
        """Find the starts of lines, block by block from the end, until so many are not known.

        Damage in front of those is not looked for.
        """
        block = _BLOCK
        while self._before > before:
            end = self._starts[0] if self._starts else self._end
            low = max(0, end - block)
            starts = self._starts_in(file, low, end, before)
            self._starts = starts + self._starts
            self._before -= len(starts)
            if self._before == 0 and self._starts[0] != file.start:
                raise file.corrupt(file.start)
            block = min(block * 4, _LARGEST_BLOCK) if starts else block * 4

    def _starts_in(self, file: LogFile, low: int, end: int, before: int) -> array[int]:
        data = file.read(low, end - low)
        starts = array("Q")
        stop = len(data) - 1
        position = self._before
        while position and (feed := data.rfind(b"\n", 0, stop)) >= 0:
            if position_of(data, feed + 1, stop) != position:
                if position <= before:
                    break
                raise file.corrupt(low + feed + 1)
            starts.append(low + feed + 1)
            stop = feed
            position -= 1
        if low == 0 and position > before and feed < 0:
            raise file.corrupt(0)
        starts.reverse()
        return starts
