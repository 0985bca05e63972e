"""Preparing the next calls while the server works on the last ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from agentx_persistence.storage import Addition

T = TypeVar("T")

# How many characters are sent before the replies are read, and what an addition counts besides its
# texts.
_GROUP, _LEAST = 500_000, 1_000


class Ahead(Iterator[T], Generic[T]):
    """The items in their order. Each can be taken before it is asked for."""

    def __init__(self, items: Iterable[T]) -> None:
        self._items = iter(items)
        self._taken: list[T] = []
        self._error: Exception | None = None

    def take(self) -> None:
        """Take the next item, unless that was done. An error is kept for `next`, so that it is not
        mistaken for an error of the server."""
        if not self._taken and self._error is None:
            try:
                self._taken.append(next(self._items))
            except Exception as error:  # StopIteration, too
                self._error = error

    def __next__(self) -> T:
        self.take()
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None  # else the error would refer to itself
        return self._taken.pop()


def grouped(additions: Iterable[Addition]) -> Iterator[list[Addition]]:
    """Yield the additions in groups, each of which is sent in one round trip.

    A group has at most one addition to each log. An addition that has to be repeated is sent after
    its group, and would otherwise come after later additions to the same log.
    """
    group, size = dict[str, Addition](), 0
    try:
        for addition in additions:
            if size >= _GROUP or addition.log in group:
                yield [*group.values()]
                group, size = {}, 0
            group[addition.log] = addition
            size += _LEAST + sum(len(entry.text) for entry in addition.entries)
    except Exception:
        if group:
            yield [*group.values()]
        raise
    if group:
        yield [*group.values()]
