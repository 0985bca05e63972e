"""The log of a session in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from agentx_persistence.errors import RecordNotFoundError
from agentx_persistence.storage import Entry, Found, Head, Slice, Window


class Log:
    """The entries of a session, in lists. `state` is (count, generation, updated_at).

    The log consists of the first `count` entries of the lists. `state` is replaced by one
    assignment, after new entries are in the lists. An append that is interrupted before that leaves
    surplus entries at the end of the lists, which the next append removes.
    """

    __slots__ = ("ids", "positions", "state", "texts")

    def __init__(self, generation: str, updated_at: int) -> None:
        self.texts: list[str] = []
        self.ids: list[str] = []
        self.positions: dict[str, int] = {}
        self.state: tuple[int, str, int] = (0, generation, updated_at)

    @property
    def head(self) -> Head:
        return Head(self.state[0], self.state[1])

    def position(self, id: str) -> int | None:
        """Return the position of the entry, or ``None`` if it is not there."""
        position = self.positions.get(id)
        if position is None or position > self.state[0] or self.ids[position - 1] != id:
            return None
        return position

    def require(self, entry: str | int | None, default: int) -> int:
        """Return the position of an entry that is named by its id or its position.

        :raises RecordNotFoundError: if there is no entry with this id
        """
        if entry is None:
            return default
        if isinstance(entry, int):
            return entry
        position = self.position(entry)
        if position is None:
            raise RecordNotFoundError("message", entry)
        return position

    def find(self, ids: Iterable[str]) -> Found:
        positions = {id: position for id in ids if (position := self.position(id)) is not None}
        texts = self.texts
        return Found(self.head, {id: (at, texts[at - 1]) for id, at in positions.items()})

    def add(self, entries: Sequence[Entry]) -> bool:
        """Put the entries at the end of the lists. They join the log once `state` counts them.

        Return False if the log has the id of one of them already.
        """
        position, texts, ids, positions = self.state[0], self.texts, self.ids, self.positions
        if len(ids) > position or len(texts) > position:
            del texts[position:], ids[position:]
        for entry in entries:
            id = entry.id
            if id in positions and self.position(id) is not None:
                return False
            position += 1
            texts.append(entry.text)
            ids.append(id)
            positions[id] = position
        return True

    def cut(self, kept: int, entries: Sequence[Entry]) -> None:
        """Replace everything after the first `kept` entries. Doing it twice changes nothing."""
        for id in self.ids[kept:]:
            self.positions.pop(id, None)
        self.texts[kept:] = [entry.text for entry in entries]
        self.ids[kept:] = [entry.id for entry in entries]
        for position, entry in enumerate(entries, kept + 1):
            self.positions[entry.id] = position

    def read(self, window: Window) -> Slice:
        after, before, first, last, size, _ = window
        count = self.state[0]
        start = min(self.require(after, 0), count)
        stop = min(self.require(before, count + 1) - 1, count)
        if first is not None:
            stop = min(stop, start + first)
        if last is not None:
            start = max(start, stop - last)
        texts = self.texts[start : max(start, stop)]
        if size is not None:
            texts = texts[::-1] if last is not None else texts
            texts = texts[: _fitting(texts, size)]
            if last is not None:
                start, texts = stop - len(texts), texts[::-1]
        return Slice(texts, start + 1, self.head)


def _fitting(texts: Sequence[str], size: int) -> int:
    """Return how many of the first texts fit into `size` bytes together, but at least one."""
    total = 0
    for index, text in enumerate(texts):
        total += len(text) if text.isascii() else len(text.encode(errors="surrogateescape"))
        if total > size and index:
            return index
    return len(texts)
