"""Interrupts at each point of a call where Python can run a signal handler.

CPython looks for signals when a function begins and after each call, and so do these: a profiler
hears of both. Points in the middle of a line, such as that between a lock and its `try`, are among
them; points at which no handler can run are not.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any


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
        profiler = _Profiler(number, places)
        try:
            sys.setprofile(profiler.hear)
            try:
                call()
            finally:
                sys.setprofile(None)
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
        self._left -= 1
        if self._left == 0:
            self.raised = True
            sys.setprofile(None)
            raise Interrupt
