"""Copying sessions that the target lacks."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from agentx_persistence.errors import RecordConflictError, RecordNotFoundError
from agentx_persistence.storage import SESSIONS, Addition, Document, Slice, Storage, Stored
from agentx_persistence.transfer import _walking as walking
from agentx_persistence.transfer._copied import Batch, Copied, batch_of
from agentx_persistence.transfer.reports import CopyReport


@dataclass
class _New:
    """A session, and how much of it is copied."""

    document: Document
    generation: str  # that of the source's log, before it was read
    position: int = 0  # of the last message that was read
    is_whole: bool = False  # whether all messages were read
    is_counted: bool = False
    written: list[Batch] = field(default_factory=list)


class NewSessions:
    """A target that can do so writes many short sessions at once, while the next are read."""

    def __init__(
        self, source: Storage, target: Storage, report: CopyReport, copied: Copied
    ) -> None:
        self._source, self._target = source, target
        self._report, self._copied = report, copied
        self._begun: list[_New] = []
        self._sent: deque[tuple[_New, Batch]] = deque()

    def copy(self, sessions: Sequence[tuple[Stored, Slice]]) -> Iterator[None]:
        """Copy these sessions, which have messages; yield after the first messages of each."""
        self._begun.clear()
        self._sent.clear()
        # If the target loses one meanwhile, the comparison at the end finds what is missing.
        with suppress(RecordConflictError, RecordNotFoundError):
            for answer in self._target.append_each(self._additions(sessions)):
                new, batch = self._sent.popleft()
                if isinstance(answer, int):  # otherwise, another writer changed the target
                    new.written.append(batch)
                    self._report.messages += batch.size
                if not new.is_counted:
                    new.is_counted = True
                    self._report.wrote(SESSIONS.name)
                    yield
        for new in self._begun:
            if new.is_whole and sum(batch.size for batch in new.written) == new.position:
                document = new.document
                self._copied.add(document.key, new.generation, document.revision, new.written)

    def _additions(self, sessions: Sequence[tuple[Stored, Slice]]) -> Iterator[Addition]:
        """Read the source. The target must not be used, as it may be writing."""
        for mine, newest in sessions:
            assert newest.head is not None
            document = walking.document_of(self._source, SESSIONS, mine)
            new = _New(document, newest.head.generation)
            self._begun.append(new)
            # If the source cuts or deletes it meanwhile, the comparison finds what is missing, too.
            with suppress(RecordConflictError, RecordNotFoundError):
                for texts in walking.batches(self._source, mine.key, 0):
                    after = new.position
                    entries = walking.entries_of(self._source, mine.key, after + 1, texts)
                    new.position += len(texts)
                    self._sent.append((new, batch_of(texts)))
                    create = None if after else document
                    yield Addition(mine.key, entries, mine.updated_at, create, after)
                new.is_whole = True
