"""One thread that works for the target while the caller reads the source."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import ParamSpec, TypeVar

from agentx_persistence.storage import Storage

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Worker:
    """Calls a storage in a thread, in the order in which it is asked.

    So most of the waiting for one server passes while the other works. At most two calls wait for
    their end, so that no more than two batches of messages are held for them.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        # A connection that an application has lent is used in the application's thread alone.
        self._thread = None if storage.joined else ThreadPoolExecutor(1, "agentx-transfer")
        self._begun = deque[Future[object]]()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._thread:
            self._thread.shutdown()
        self.finish()

    def do(self, call: Callable[_P, object], *args: _P.args, **kwargs: _P.kwargs) -> None:
        """Have this called next.

        :raises PersistenceError: what an earlier call raised
        """
        if not self._thread:
            call(*args, **kwargs)
            return
        if len(self._begun) == 2:
            self._begun.popleft().result()
        self._begun.append(self._thread.submit(call, *args, **kwargs))

    def finish(self) -> None:
        """Wait until all calls have ended.

        :raises PersistenceError: what one of them raised
        """
        while self._begun:
            self._begun.popleft().result()

    def ahead(self, items: Iterator[_T]) -> Iterator[_T]:
        """Return the same items; the thread makes the next one while the caller uses one."""
        if not self._thread:
            return items
        return _following(self._thread, items, self._thread.submit(next, items, None))


def _following(
    thread: ThreadPoolExecutor, items: Iterator[_T], coming: Future[_T | None]
) -> Iterator[_T]:
    while (item := coming.result()) is not None:
        coming = thread.submit(next, items, None)
        yield item
