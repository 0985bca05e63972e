"""Copying between two stores: every byte, every time, and again until both are the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from agentx_persistence.errors import (
    ConfigurationError,
    RecordConflictError,
    RecordNotFoundError,
)
from agentx_persistence.persistence import Persistence
from agentx_persistence.records import ContainerRecord
from agentx_persistence.storage import (
    CONTAINERS,
    SESSIONS,
    Document,
    Kind,
    Slice,
    Storage,
    Stored,
    Window,
)
from agentx_persistence.transfer import _walking as walking
from agentx_persistence.transfer._copied import Copied, size_of
from agentx_persistence.transfer._new_sessions import NewSessions
from agentx_persistence.transfer.comparing import first_difference, missing_or_different, same
from agentx_persistence.transfer.reports import Comparison, CopyReport, Progress, Step

# How often both are compared at the end. What differs, because the source is still written to, is
# copied again each time but the last.
_ROUNDS = 5
_NAMED = 1_000
_SAME = "source and target are the same store"


def copy(
    source: Persistence,
    target: Persistence,
    *,
    containers: Sequence[str] | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> CopyReport:
    """Copy records and messages with every byte and every time, `updated_at` included.

    Afterwards the target has all that the source has, and the same: records and histories of the
    source replace those of the target with the same id. What only the target has stays. The last
    step compares both: it reads from the target all that the source has, and from the source all
    but the messages that this call has read and that have not changed since. What differs, because
    the source is written to, is copied again, a few times. An interrupted copy is continued by
    running it again: what is there is not written twice. The memory it takes does not depend on the
    size of the stores.

    :param containers: only these containers, with their images, sessions and items
    :param dry_run: only count what would be written; histories are then judged by their length and
        their last common message
    :raises ConfigurationError: if both are the same store
    :raises CorruptRecordError: for a record that cannot be copied because it cannot be read;
        `agentx-persistence doctor` finds all of them
    """
    a, b = walking.storage_of(source), walking.storage_of(target)
    if a is b:
        raise ConfigurationError("copy", _SAME)
    run = _Copy(a, b, CopyReport(dry_run), progress)
    run.everything(containers)
    if dry_run:
        return run.report
    for left in reversed(range(_ROUNDS)):
        run.report.comparison = found = Comparison()
        changed: dict[tuple[Kind, str], None] = {}
        for kind, key, difference in missing_or_different(
            a, b, containers, found, progress, run.copied
        ):
            found.count += 1
            if len(found.differences) < _NAMED:
                found.differences.append(difference)
                changed[kind, key] = None
        if found.equal or not left:
            break
        for kind, key in changed:
            run.again(kind, key)
    return run.report


class _Copy:
    def __init__(
        self, source: Storage, target: Storage, report: CopyReport, progress: Progress | None
    ) -> None:
        self.source, self.target = source, target
        self.report, self.progress = report, progress
        self.copied = Copied()
        self.new = NewSessions(source, target, report, self.copied)
        self.are_two = False  # whether source and target were found to be two stores
        self.at_once = walking.FEW  # of how many sessions the last messages are read at once

    def everything(self, containers: Sequence[str] | None) -> None:
        for kind in walking.ORDER:
            done = 0
            total = walking.total(self.source, kind, containers) if self.progress else 0
            for page in walking.pages(self.source, kind, containers):
                for _ in self.page(kind, page):
                    done += 1
                    self.tell(kind, done, total)

    def page(self, kind: Kind, page: Sequence[Stored]) -> Iterator[None]:
        """Copy one of these documents at each step."""
        there = self.target.get(kind, [document.key for document in page])
        if there and not self.are_two and not self.report.dry_run:
            self.require_two_stores(kind, there)
        if kind is SESSIONS:
            yield from self.sessions(page, there)
            return
        for document in page:
            self.document(kind, document, there.get(document.key))
            yield

    def require_two_stores(self, kind: Kind, there: Mapping[str, Stored]) -> None:
        """Refuse to copy a store into itself: what comes meanwhile would be taken for what only
        the target has, and cut off."""
        mine = self.source.get(kind, list(there))
        if any(found.revision == there[key].revision for key, found in mine.items()):
            # Each write has another revision, so this is one store, or a copy of its files.
            mark = ContainerRecord(container_id=walking.token())
            id, at = mark.container_id, mark.created_at
            try:
                self.target.create(CONTAINERS, Document(id, mark.to_json(), at, at, {}, id))
                is_same = bool(self.source.get(CONTAINERS, [id]))
            finally:
                self.target.delete(CONTAINERS, id)
            if is_same:
                raise ConfigurationError("copy", _SAME)
        self.are_two = True

    def sessions(self, page: Sequence[Stored], there: Mapping[str, Stored]) -> Iterator[None]:
        start = 0
        while some := page[start : start + self.at_once]:
            keys = [document.key for document in some]
            known = [key for key in keys if key in there]
            mine, theirs = self.source.newest(keys), self.target.newest(known) if known else {}
            new = []
            for key, document in zip(keys, some, strict=True):
                newest = mine.get(key)
                if key in there or self.report.dry_run or newest is None or not _count(newest):
                    self.session(document, there.get(key), newest, theirs.get(key))
                    yield
                else:
                    new.append((document, newest))
            yield from self.new.copy(new)
            start += len(some)
            self.at_once = walking.fitting(self.at_once, size_of(mine) + size_of(theirs))

    def tell(self, kind: Kind, done: int, total: int) -> None:
        if self.progress:
            self.progress(Step("copy", kind.name, done, total, self.report.messages))

    def again(self, kind: Kind, key: str) -> None:
        """Copy a record that differs, if the source still has it, and its whole history."""
        mine, theirs = self.source.get(kind, [key]).get(key), self.target.get(kind, [key]).get(key)
        if mine is None:
            return
        if kind is not SESSIONS:
            self.document(kind, mine, theirs)
            return
        if theirs is not None:
            with suppress(RecordConflictError, RecordNotFoundError):
                different = first_difference(self.source, self.target, key, Comparison())
                if different is not None:
                    position, _, other = different
                    self.history(mine, position - 1, longer=other is not None)
            theirs = self.target.get(kind, [key]).get(key)
        newest, copied = self.source.newest([key]), self.target.newest([key])
        self.session(mine, theirs, newest.get(key), copied.get(key))

    def document(self, kind: Kind, mine: Stored, theirs: Stored | None) -> None:
        if theirs is not None and same(mine, theirs):
            self.report.unchanged += 1
            return
        if not self.report.dry_run:
            self.target.put(kind, walking.document_of(self.source, kind, mine))
        self.report.wrote(kind.name)

    def session(
        self, mine: Stored, theirs: Stored | None, newest: Slice | None, copied: Slice | None
    ) -> None:
        # If it is cut or deleted meanwhile, the comparison at the end finds what is missing.
        with suppress(RecordConflictError, RecordNotFoundError):
            self._session(mine, theirs, newest, copied)

    def _session(
        self, mine: Stored, theirs: Stored | None, newest: Slice | None, copied: Slice | None
    ) -> None:
        if newest is None:
            return  # deleted meanwhile
        kept = self._common(mine.key, newest, copied)
        total, have = _count(newest), _count(copied)
        if self.report.dry_run:
            self.report.messages += total - kept
            self.report.rewritten += kept < have
        elif theirs is None:
            document = walking.document_of(self.source, SESSIONS, mine)
            self.target.create(SESSIONS, document)
            if total:
                self.history(mine, 0)
            elif newest.head is not None:
                self.copied.add(mine.key, newest.head.generation, document.revision, [])
        elif kept < max(total, have):
            self.history(mine, kept, longer=kept < have)
        if theirs is None:
            self.report.wrote(SESSIONS.name)
        else:
            self.document(SESSIONS, mine, theirs)

    def _common(self, log: str, newest: Slice, copied: Slice | None) -> int:
        """Return how many messages need no copying, judged by the last common position."""
        have = min(_count(copied), _count(newest))
        if not have or copied is None:
            return 0
        if _count(copied) == have:
            theirs = copied.texts
        else:
            theirs = self.target.read(log, Window(after=have - 1, first=1)).texts
        if _count(newest) == have:
            mine = newest.texts
        else:
            mine = self.source.read(log, Window(after=have - 1, first=1)).texts
        if mine and theirs and walking.raw(mine[0]) == walking.raw(theirs[0]):
            return have
        different = first_difference(self.source, self.target, log, Comparison())
        return different[0] - 1 if different else have

    def history(self, mine: Stored, kept: int, longer: bool = False) -> None:
        """Make the target's history the source's, of which it has the first `kept` messages.

        :param longer: whether the target has others after these
        """
        log, at = mine.key, mine.updated_at
        if longer:
            self.target.rewrite(log, kept, (), at, walking.token())
            self.report.rewritten += 1
        position = kept
        for texts in walking.batches(self.source, log, kept):
            entries = walking.entries_of(self.source, log, position + 1, texts)
            added = self.target.append(log, entries, at, expected=position)
            if not isinstance(added, int):
                return  # another writer changed the target; the comparison at the end tells
            position = added
            self.report.messages += len(entries)


def _count(newest: Slice | None) -> int:
    return 0 if newest is None or newest.head is None else newest.head.count
