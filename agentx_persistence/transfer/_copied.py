"""What a copy has read of its source, which the comparison at its end need not read again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from agentx_persistence.errors import RecordNotFoundError
from agentx_persistence.storage import Head, Slice, Storage, Text, Window
from agentx_persistence.transfer import _walking as walking

# How many digests of batches are held, which takes a few megabytes. Histories beyond that are
# compared by reading both sides.
_MOST = 20_000


class Batch(NamedTuple):
    """Consecutive messages: their number and digest."""

    size: int
    digest: int


class _History(NamedTuple):
    source: Head
    target: Head
    batches: Sequence[Batch]


class Copied:
    """Histories that a copy has written from their beginning to their end."""

    def __init__(self) -> None:
        self._histories: dict[str, _History] = {}
        self._left = _MOST

    def add(self, log: str, generation: str, revision: str, batches: Sequence[Batch]) -> None:
        """:param generation: that of the source's log, before it was read
        :param revision: that with which the target's session was created
        """
        if self._left > len(batches):
            self._left -= len(batches) + 1
            count = sum(batch.size for batch in batches)
            heads = Head(count, generation), Head(count, revision)
            self._histories[log] = _History(*heads, batches)

    def proven(self, source: Storage, target: Storage, logs: Sequence[str]) -> dict[str, int]:
        """Return the logs that are certainly the same in both stores, with their numbers of
        messages. Whole histories are read from the target only. The other logs may be the same."""
        proven = {}
        known, start, at_once = [log for log in logs if log in self._histories], 0, walking.FEW
        while some := known[start : start + at_once]:
            mine, theirs = source.newest(some), target.newest(some)
            for log in some:
                history = self._histories[log]
                if _is_same(history, target, log, mine.get(log), theirs.get(log)):
                    proven[log] = history.source.count
            start += len(some)
            at_once = walking.fitting(at_once, size_of(mine) + size_of(theirs))
        return proven


def _is_same(
    history: _History, target: Storage, log: str, mine: Slice | None, theirs: Slice | None
) -> bool:
    # Only an append leaves a log's generation as it is. So if the heads are the same, the source
    # still has what was read, and the target has no other messages, which could be far larger.
    if (mine and mine.head, theirs and theirs.head) != (history.source, history.target):
        return False
    position = 0
    for batch in history.batches:
        window = Window(after=position, first=batch.size, headed=True)
        try:
            found = target.read(log, window)
        except RecordNotFoundError:
            return False
        place = found.start, found.head and found.head.generation
        if place != (position + 1, history.target.generation) or batch != batch_of(found.texts):
            return False
        position += batch.size
    return True


def batch_of(texts: Sequence[Text]) -> Batch:
    # Python's own hash is ten times as fast as one that withstands an attack, and it has 64 bits,
    # too many to meet two batches with the same one by chance.
    stored = [text if isinstance(text, bytes) else walking.raw(text) for text in texts]
    return Batch(len(texts), hash(tuple(stored)))


def size_of(newest: dict[str, Slice]) -> int:
    return sum(len(text) for found in newest.values() for text in found.texts)
