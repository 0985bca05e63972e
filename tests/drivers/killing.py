"""Child processes that share all that the test has set up, and are killed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable


def in_child(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            work()
            os._exit(0)
        os._exit(1)
    return pid


def exit_status(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
