"""Interrupts at each point of a call where Python can run a signal handler.

CPython looks for signals when a function begins and after each call, and so do these: a profiler
hears of both. Points in the middle of a line, such as that between a lock and its `try`, are among
them; points at which no handler can run are not.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Callable, Iterator
from itertools import count
from types import FrameType
from typing import Any


class Interrupt(BaseException):
    """As Ctrl-C is one, but nobody else's."""


def interrupted_at_each_point(
    call: Callable[[], object], *places: str, first: int = 1, step: int = 1, again: int = 0
) -> Iterator[Interrupt | None]:
    """Run `call` again and again, interrupted some points later each time; yield what it raised.

    The last one is not interrupted any more, and yields ``None``.

    :param places: parts of the paths of the source files whose points count
    :param first: the first point
    :param step: how many points later the next one is
    :param again: how many points later a second interrupt follows, if any
    """
    for number in count(first, step):
        profiler = _Profiler(number, places)
        tracer = _Tracer(profiler, again, places)
        try:
            try:
                if again:
                    sys.settrace(tracer.follow)
                sys.setprofile(profiler.hear)
                call()
            finally:
                sys.setprofile(None)
                sys.settrace(None)
                # CPython 3.11 can keep a tracer that has raised, and that the frames with their
                # connections.
                tracer.last.clear()
        except Interrupt as interrupt:
            yield interrupt
        else:
            # A destructor swallows what is raised in it.
            if not profiler.raised:
                yield None
                return


class _Profiler:
    def __init__(self, number: int, places: tuple[str, ...]) -> None:
        self._left, self._places = number, places
        self.raised = False

    def hear(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "return":
            frame = frame.f_back or frame
        if event not in ("call", "c_return", "return") or not any(
            place in frame.f_code.co_filename for place in self._places
        ):
            return
        if event == "c_return" and argument.__name__ == "__enter__":
            return  # CPython 3.15 calls it for `with`, and looks for no signals before the block
        self._left -= 1
        if self._left == 0:
            self.raised = True
            sys.setprofile(None)
            del argument  # what a function returns; the traceback would keep it alive
            raise Interrupt


class _Tracer:
    """Raises after an interrupt: a profiler that has raised hears no more."""

    def __init__(self, first: _Profiler, again: int, places: tuple[str, ...]) -> None:
        self._first, self._left, self._places = first, again, places
        # What each frame did last.
        self.last: dict[FrameType, str] = {}

    def follow(self, frame: FrameType, event: str, argument: Any) -> Any:
        if not any(place in frame.f_code.co_filename for place in self._places):
            return None
        frame.f_trace_opcodes = True
        if event == "exception":
            self.last[frame] = event
        elif event == "opcode":
            last = self.last.get(frame, "RESUME")
            now = dis.opname[frame.f_code.co_code[frame.f_lasti]]
            self.last[frame] = "ENTER" if (last, now) == ("LOAD_SPECIAL", "CALL") else now
            if self._first.raised and last.startswith(("RESUME", "CALL", "JUMP_BACKWARD")):
                self._left -= 1
                if self._left == 0:
                    raise Interrupt
        return self.follow
