"""Child processes that share all that the test has set up, and are killed."""

from __future__ import annotations

import faulthandler
import os
import traceback
from collections.abc import Callable

SECONDS = 120  # more than any child takes, less than a test's time limit


def in_child(work: Callable[[], None], seconds: float = SECONDS) -> int:
    """Start `work` in a child, which ends with status 0 if it succeeds; return the child's id.

    A child that hangs shows where, and ends after so many seconds.
    """
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            faulthandler.dump_traceback_later(seconds, exit=True, file=2)
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return pid


def exit_status(pid: int) -> int:
    """Wait for the child; return its status, or the negated signal that it died of."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
