"""Repeating a call for a limited time."""

from __future__ import annotations

import logging
import random
import time

_logger = logging.getLogger("agentx_persistence")

_LONGEST_PAUSE = 1.0


class Retries:
    """The further attempts of one call, which has failed once.

    ::

        started, retries = time.monotonic(), None
        while True:
            try:
                return attempt()
            except ServerError as error:
                retries = retries or Retries("mysql", started + 12.0)
                if not retries.pause(error):
                    raise BackendUnavailableError(...) from error
    """

    def __init__(self, backend: str, deadline: float) -> None:
        """:param deadline: no attempt begins later than this time of `time.monotonic()`"""
        self._backend, self.deadline = backend, deadline
        self._attempt = 0

    def pause(self, cause: object) -> bool:
        """Sleep before the next attempt, longer each time; return False after the deadline."""
        # The second attempt begins at once: most often an idle connection was lost, and the next
        # attempt opens a new one.
        pause = 0.0
        if self._attempt:
            pause = min(_LONGEST_PAUSE, 0.05 * 2**self._attempt) * random.uniform(0.5, 1.0)
        self._attempt += 1
        left = self.deadline - time.monotonic()
        if left <= 0:
            return False
        pause = min(pause, left)
        _logger.warning(
            "%s: attempt %d failed, the next one follows in %.2f s: %s",
            self._backend,
            self._attempt,
            pause,
            cause,
        )
        time.sleep(pause)
        return True
