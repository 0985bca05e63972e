"""Looking for damage, and for what may surprise. No record and no message is changed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any, Literal, NamedTuple

from agentx_persistence.errors import (
    BackendUnavailableError,
    CorruptRecordError,
    PersistenceError,
)
from agentx_persistence.persistence import Persistence
from agentx_persistence.storage import (
    CONTAINERS,
    IMAGES,
    ITEMS,
    SESSIONS,
    Document,
    Kind,
    Query,
    Storage,
    Stored,
)
from agentx_persistence.storage.kinds import SEPARATOR
from agentx_persistence.transfer import _walking as walking
from agentx_persistence.transfer._histories import History
from agentx_persistence.transfer._listed import Listed, Values
from agentx_persistence.transfer.reports import Progress, Step, counted

# The pauses, in seconds, before looking again for what may have been under way.
_PAUSES = (0.05, 0.2)
_RESTORE = "restore it from a backup, or write it anew; it is never skipped or repaired silently"
_SAVE = "save the record again, which writes its index entries anew"
_REST = "delete it again, if its deletion was interrupted; or restore it from a backup"


class Finding(NamedTuple):
    """Something that `examine` found. `where` says where it lies, `advice` what to do.

    "damage" is what cannot be read, or is not found as it should be; a "note" is no damage.
    """

    severity: Literal["damage", "note"]
    what: str
    where: str
    advice: str


def examine(persistence: Persistence, *, progress: Progress | None = None) -> Iterator[Finding]:
    """Read everything; yield what is wrong with it.

    * records and messages that cannot be read, with the place where they lie
    * ids that are not those under which a record is stored; message ids that occur twice
    * histories whose number of messages is not the stored one
    * messages that are not found by their ids
    * records that a listing of their container, image, name or namespace does not show, or shows
      too often, or in another order
    * as notes: sessions and images whose container or image has no record; index entries and
      messages of records that are not there

    No record and no message is changed, though a listing may correct index entries, as any listing
    does. Everything is read, and the store is searched for what no listing shows: on Redis by all
    the keys of the server, one to three times for each kind of record. What others change meanwhile
    is looked at again before it is called damage. The keys of one kind of records are held in
    memory.
    """
    yield from _Examination(persistence, progress).findings()


class _Examination:
    def __init__(self, persistence: Persistence, progress: Progress | None) -> None:
        self.storage: Storage = walking.storage_of(persistence)
        self.repositories: dict[Kind, Any] = {
            CONTAINERS: persistence.containers,
            IMAGES: persistence.images,
            SESSIONS: persistence.sessions,
            ITEMS: persistence.items,
        }
        self.progress = progress
        # How many records each index should show, by its fields and values.
        self.indexed: dict[Kind, Counter[Values]] = {}
        # For the kind that is being read: its listings, the keys that were met, those of records
        # that exist but were not met, what was reported as unreadable, and the key and time of the
        # last record.
        self.listed: Listed
        self.met: set[str] = set()
        self.missed: list[str] = []
        self.unreadable: set[str] = set()
        self.last: tuple[str, int] | None = None
        self.messages = 0

    def findings(self) -> Iterator[Finding]:
        for kind in walking.ORDER:
            self.indexed[kind] = Counter()
            self.listed = Listed(self.storage, kind, partial(self._readable, kind))
            self.met, self.missed, self.unreadable, self.last = set(), [], set(), None
            done, total = 0, walking.total(self.storage, kind, None) if self.progress else 0
            try:
                for page in walking.pages(self.storage, kind, None):
                    for document in page:
                        yield from self._document(kind, document)
                    done += len(page)
                    if self.progress:
                        self.progress(Step("examine", kind.name, done, total, self.messages))
            except CorruptRecordError as error:
                yield Finding("damage", f"the {kind.name} cannot be listed", str(error), _RESTORE)
            yield from self._traces(kind)
            yield from self._indexes(kind)
        yield from self._owners()

    def _document(self, kind: Kind, document: Stored) -> Iterator[Finding]:
        self.met.add(document.key)
        yield from self._record(kind, document)
        if kind is SESSIONS:
            history = History(self.storage, document.key)
            for what, where in history.damages():
                yield Finding("damage", what, where, _RESTORE)
            if history.is_restless:
                what = f"{self._named(kind, document.key)} was changed each time it was read"
                where = self.storage.where(kind, document.key)
                advice = "examine the store again when fewer processes write to it"
                yield Finding("note", what, where, advice)
            self.messages += history.messages

    def _traces(self, kind: Kind) -> Iterator[Finding]:
        """Look for what the listing of all records has not shown."""
        try:
            found = dict.fromkeys(self._remains(kind))
            missed, self.missed = self.missed, []
            for key in missed:
                document = self.listed.get(key)
                if document is None:
                    continue  # deleted meanwhile
                self.last = None
                yield from self._document(kind, document)
                if self.listed.is_lost(key):
                    what = f"the listing of all {kind.name} does not show {self._named(kind, key)}"
                    yield Finding("damage", what, self.storage.where(kind, key), _SAVE)
            for pause in _PAUSES if found else ():
                time.sleep(pause)  # what others are writing or deleting is not met again
                again = set(self._remains(kind))
                found = {finding: None for finding in found if finding in again}
            self.unreadable |= {each.where for each in found if each.severity == "damage"}
            yield from found
        except BackendUnavailableError:
            raise
        except PersistenceError as error:
            what = f"the store could not be searched for {kind.name} that no listing shows"
            advice = "give the user of the store the missing rights, and examine the store again"
            yield Finding("note", what, str(error), advice)

    def _remains(self, kind: Kind) -> Iterator[Finding]:
        """Yield stale index entries, and what is stored of damaged or absent records. Add to
        `missed` the keys of records that exist but were not met."""
        looked, unreadable = set[str](), {*self.unreadable}
        for trace in self.storage.traces(kind):
            if trace.key is None:
                if trace.where not in unreadable:
                    what = f"one of the {kind.name} cannot be read"
                    yield Finding("damage", what, trace.where, _RESTORE)
                continue
            name = self._named(kind, trace.key)
            if trace.stale:
                what = f"an index entry of {name} is stale"
                yield Finding("note", what, trace.where, _SAVE)
            if trace.key in self.met or trace.key in looked:
                continue
            looked.add(trace.key)
            try:
                found = self.storage.get(kind, [trace.key])
            except BackendUnavailableError:
                raise
            except PersistenceError as error:
                where = error.where if isinstance(error, CorruptRecordError) else str(error)
                unreadable.add(where)
                yield Finding("damage", f"{name} cannot be read", where, _RESTORE)
                continue
            if found:
                self.missed.append(trace.key)
            else:
                what = f"{name} does not exist, but some of its data is stored"
                yield Finding("note", what, trace.where, _REST)

    def _unreadable(self, what: str, where: str) -> Finding:
        self.unreadable.add(where)
        return Finding("damage", what, where, _RESTORE)

    def _written(self, kind: Kind, document: Stored) -> Document:
        """Return what a write of the record that was read would store."""
        repository = self.repositories[kind]
        (record,) = repository._load([document])
        written: Document = repository._document(record)
        return written

    def _readable(self, kind: Kind, document: Stored) -> Document | None:
        try:
            return self._written(kind, document)
        except PersistenceError:
            return None  # reported already

    def _record(self, kind: Kind, document: Stored) -> Iterator[Finding]:
        where = self.storage.where(kind, document.key)
        name = self._named(kind, document.key)
        try:
            written = self._written(kind, document)
        except PersistenceError as error:
            what = f"{name} cannot be read"
            yield self._unreadable(what, where)
            if not isinstance(error, CorruptRecordError):
                yield Finding("damage", str(error), where, _RESTORE)
            return
        if written.key != document.key:
            what = f"{name} says that its id is {written.key!r}"
            yield Finding("damage", what, where, _RESTORE)
        if kind is not ITEMS:
            now = document.key, written.created_at
            if self.last is not None and self.last[1] > now[1]:
                # One of the two is in the wrong place.
                for key in filter(self.listed.is_lost, (self.last[0], document.key)):
                    what = f"the listing of {kind.name} by time shows {self._named(kind, key)}"
                    where = self.storage.where(kind, key)
                    yield Finding("damage", f"{what} in the wrong place", where, _SAVE)
            self.last = now
        for fields in kind.indexes:
            if all(field in written.fields for field in fields):
                self.indexed[kind][tuple((f, written.fields[f]) for f in fields)] += 1

    def _indexes(self, kind: Kind) -> Iterator[Finding]:
        doubtful: dict[tuple[Values, Any], tuple[int, int]] = {}
        for values, expected in self.indexed[kind].items():
            orders: list[Any] = ["newest"]
            if tuple(field for field, _ in values) in kind.active:
                orders.append("active")
            for order in orders:
                try:
                    found = self.storage.count(kind, Query(dict(values), order))
                except CorruptRecordError:
                    continue  # reported already
                # Records that cannot be read may be listed, too.
                if not expected <= found <= expected + len(self.unreadable):
                    doubtful[values, order] = found, expected
        for values, order in self.listed.wrong(doubtful, self.met):
            found, expected = doubtful[values, order]
            shown = " and ".join(f"{f} {self._shown(kind, value)!r}" for f, value in values)
            what = f"the listing of {kind.name}{' with ' * bool(shown)}{shown}"
            what += f" shows {found} records, not {expected}"
            yield Finding("damage", what, f"order {order!r}", _SAVE)

    @staticmethod
    def _named(kind: Kind, key: str) -> str:
        return f"the {kind.noun} {walking.name(kind, key)!r}"

    @staticmethod
    def _shown(kind: Kind, value: str) -> str:
        return "/".join(value.split(SEPARATOR)).rstrip("/") if kind is ITEMS else value

    def _owners(self) -> Iterator[Finding]:
        """Name the owners that have no record. Owners need not exist, but mostly do."""
        for kind, field, owner in (
            (IMAGES, "container_id", CONTAINERS),
            (SESSIONS, "container_id", CONTAINERS),
            (SESSIONS, "image_id", IMAGES),
        ):
            owners = {
                values[0][1]: n
                for values, n in self.indexed[kind].items()
                if [name for name, _ in values] == [field]
            }
            ids = list(owners)
            absent: list[str] = []
            for start in range(0, len(ids), 100):
                some = ids[start : start + 100]
                found = self.storage.get(owner, some)
                absent += [id for id in some if id not in found]
            if absent:
                count = sum(owners[id] for id in absent)
                owned, named = counted(count, kind.name), counted(len(absent), owner.name)
                what = f"no record exists for {named} of {owned}"
                where = f"the first {owner.noun} is {absent[0]!r}"
                advice = f"save these records if you list {owner.name}; nothing else needs them"
                yield Finding("note", what, where, advice)
