"""Interrupts at each point of a call where Python can run a signal handler.

CPython looks for signals when a function begins, after a call, and when a loop goes back; so these
are the points, not the lines.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

_CALLS = {dis.opmap[name] for name in ("CALL", "CALL_FUNCTION_EX", "CALL_KW") if name in dis.opmap}
_BACK = {code for name, code in dis.opmap.items() if name.startswith("JUMP_BACKWARD")}


class Interrupt(BaseException):
    """As Ctrl-C is one, but nobody else's."""


def interrupted_at_each_point(
    call: Callable[[], object], *places: str
) -> Iterator[Interrupt | None]:
    """Run `call` again and again, interrupted one point later each time; yield what it raised.

    The last one is not interrupted any more, and yields ``None``.

    :param places: parts of the paths of the source files whose points count
    """
    number = 0
    while True:
        number += 1
        tracer = _Tracer(number, places)
        try:
            sys.settrace(tracer.trace)
            try:
                call()
            finally:
                sys.settrace(None)
        except Interrupt as interrupt:
            yield interrupt
        else:
            # A destructor swallows what is raised in it.
            if not tracer.raised:
                yield None
                return


class _Tracer:
    def __init__(self, number: int, places: tuple[str, ...]) -> None:
        self._left, self._places = number, places
        self._last: dict[FrameType, int] = {}
        self.raised = False

    def trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        path = frame.f_code.co_filename
        if not any(place in path for place in self._places):
            return self.trace
        frame.f_trace_opcodes = True
        if event == "call":
            self._count()
        elif event == "opcode":
            if self._last.get(frame) in _CALLS | _BACK:
                self._count()
            self._last[frame] = frame.f_code.co_code[frame.f_lasti]
        return self.trace

    def _count(self) -> None:
        self._left -= 1
        if self._left == 0:
            self.raised = True
            sys.settrace(None)
            raise Interrupt
