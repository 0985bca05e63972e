"""Looking for damage in one history."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from agentx_persistence.errors import (
    BackendUnavailableError,
    CorruptRecordError,
    PersistenceError,
    RecordNotFoundError,
)
from agentx_persistence.records import MESSAGES, ready
from agentx_persistence.storage import SESSIONS, Storage, Text, Window
from agentx_persistence.transfer import _walking as walking

# How many messages, and how many bytes of them, are read at once.
_COUNT, _BYTES = 1_000, 4_000_000
# How often a history is read at most, if others cut or replace messages meanwhile.
_ATTEMPTS = 5


class History:
    def __init__(self, storage: Storage, log: str) -> None:
        self._storage, self._log = storage, log
        # How many were read, and whether they were cut or replaced whenever they were read.
        self.messages, self.is_restless = 0, False

    def damages(self) -> Iterator[tuple[str, str]]:
        """Yield what is wrong, and where. Yield nothing if the session was deleted."""
        for _ in range(_ATTEMPTS):
            self.messages = 0
            generation, found = None, list[tuple[str, str]]()
            try:
                count, generation = self._storage.head(self._log)
                for damage in self._damages(count):
                    found.append(damage)
            except RecordNotFoundError:
                return  # deleted meanwhile
            except BackendUnavailableError:
                raise
            except PersistenceError as error:
                what = f"the history of session {self._log!r} cannot be read"
                found.append((f"{what} after message {self.messages}", str(error)))
            # What others cut off or replace meanwhile can look like damage.
            if not found or self._generation() == generation:
                yield from found
                return
        self.is_restless = True

    def _generation(self) -> str | None:
        try:
            return self._storage.head(self._log).generation
        except (CorruptRecordError, RecordNotFoundError):
            return None

    def _damages(self, count: int) -> Iterator[tuple[str, str]]:
        known: set[str] = set()
        for texts in self._batches(count):
            positions: dict[str, int] = {}
            for text in texts:
                self.messages += 1
                place, id = self._place(self.messages), self._id(text)
                if id is None:
                    yield f"{place} cannot be read", self._where(self.messages)
                elif id in known:
                    what = f"{place} has the id {id!r}, which an earlier message has"
                    yield what, self._where(self.messages)
                else:
                    known.add(id)
                    positions[id] = self.messages
            yield from self._lost_ids(positions)
        if self.messages < count:
            what = f"session {self._log!r} says that it has {count} messages"
            yield f"{what}, but has {self.messages}", self._where(None)

    def _batches(self, count: int) -> Iterator[Sequence[Text | None]]:
        """Yield the texts in order, a few megabytes at a time; ``None`` for a damaged message."""
        after, size = 0, _COUNT
        while after < count:
            first = min(size, count - after)
            window = Window(after=after, first=first, size=_BYTES, headed=True)
            texts: list[Text | None]
            try:
                found = self._storage.read(self._log, window)
                assert found.start is not None  # as the window asks for it
                missing = found.start - after - 1 if found.texts else 0
                texts = [None] * missing + [*found.texts]
            except CorruptRecordError as error:
                if error.kind != "message":
                    raise
                if size > 1:
                    size = 1  # so that each damaged one is met alone
                    continue
                texts = [None]
            if not texts:
                return
            yield texts
            after += len(texts)

    def _lost_ids(self, positions: Mapping[str, int]) -> Iterator[tuple[str, str]]:
        """Look each message up by its id."""
        try:
            there = self._storage.lookup(self._log, list(positions)).there
        except CorruptRecordError:
            return  # there is a damaged message, which is reported already
        for id, position in positions.items():
            if id not in there or there[id][0] != position:
                what = f"{self._place(position)} is not found by its id {id!r}"
                yield what, self._where(position)

    def _id(self, text: Text | None) -> str | None:
        """Return the id of the message, or ``None`` if it cannot be read."""
        try:
            (message,) = ready(MESSAGES).validate_json(b"[%s]" % walking.raw(text or b""))
            message.to_json()
        except (ValueError, PersistenceError):
            return None
        return message.id

    def _place(self, position: int) -> str:
        return f"message {position} of session {self._log!r}"

    def _where(self, position: int | None) -> str:
        return self._storage.where(SESSIONS, self._log, position)
