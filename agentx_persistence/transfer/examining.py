"""Looking for damage, and for what may surprise: nothing is changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
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
    Kind,
    Query,
    Storage,
    Stored,
    Trace,
)
from agentx_persistence.storage.kinds import SEPARATOR
from agentx_persistence.transfer import _walking as walking
from agentx_persistence.transfer._histories import History
from agentx_persistence.transfer.reports import Progress, Step, counted

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
    * histories that have not the number of messages that they say
    * messages that are not found by their ids
    * records that a listing of their container, image, name or namespace does not show, or shows
      too often, or in another order
    * as notes: sessions and images whose container or image has no record; index entries and
      messages of records that are not there

    No record and no message is changed, though a listing may correct index entries, as any listing
    does. Everything is read, and the store is searched for what no listing shows: on Redis by all
    the keys of the server, once for each kind of record. What changes meanwhile can be reported
    wrongly. The keys of one kind of records are held in memory.
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
        self.indexed: dict[Kind, Counter[tuple[tuple[str, str], ...]]] = {}
        # Of the kind that is being read: the keys that were met, what was reported as unreadable,
        # and the time of the last record.
        self.met: set[str] = set()
        self.unreadable: set[str] = set()
        self.last: int | None = None
        self.messages = 0

    def findings(self) -> Iterator[Finding]:
        for kind in walking.ORDER:
            self.indexed[kind] = Counter()
            self.met, self.unreadable, self.last = set(), set(), None
            done, total = 0, walking.total(self.storage, kind, None) if self.progress else 0
            is_listed = True
            try:
                for page in walking.pages(self.storage, kind, None):
                    for document in page:
                        yield from self._document(kind, document)
                    done += len(page)
                    if self.progress:
                        self.progress(Step("examine", kind.name, done, total, self.messages))
            except CorruptRecordError as error:
                is_listed = False
                yield Finding("damage", f"the {kind.name} cannot be listed", str(error), _RESTORE)
            yield from self._traces(kind, is_listed)
            yield from self._indexes(kind)
        yield from self._owners()

    def _document(self, kind: Kind, document: Stored) -> Iterator[Finding]:
        self.met.add(document.key)
        yield from self._record(kind, document)
        if kind is SESSIONS:
            history = History(self.storage, document.key)
            for what, where in history.damages():
                yield Finding("damage", what, where, _RESTORE)
            self.messages += history.messages

    def _traces(self, kind: Kind, is_listed: bool) -> Iterator[Finding]:
        """Look for what the listing of all records has not shown.

        :param is_listed: whether it could be read to its end
        """
        try:
            for trace in self.storage.traces(kind):
                if trace.key is None:
                    if trace.where not in self.unreadable:
                        what = f"one of the {kind.name} cannot be read"
                        yield self._unreadable(what, trace.where)
                    continue
                if trace.key not in self.met:
                    yield from self._trace(kind, trace.key, trace, is_listed)
                if trace.stale:
                    what = f"a stale index entry of {self._named(kind, trace.key)}"
                    yield Finding("note", what, trace.where, _SAVE)
        except BackendUnavailableError:
            raise
        except PersistenceError as error:
            what = f"nothing was found out about {kind.name} that no listing shows"
            yield Finding("note", what, str(error), "look again with more rights")

    def _trace(self, kind: Kind, key: str, trace: Trace, is_listed: bool) -> Iterator[Finding]:
        self.met.add(key)
        name = self._named(kind, key)
        try:
            found = self.storage.get(kind, [key])
        except CorruptRecordError as error:
            yield self._unreadable(f"{name} cannot be read", error.where)
            return
        if not found:
            what = f"something is stored of {name}, which is not there"
            yield Finding("note", what, trace.where, _REST)
            return
        self.last = None
        yield from self._document(kind, found[key])
        if is_listed or not self._is_listed(kind, key):
            what = f"the listing of all {kind.name} does not show {name}"
            yield Finding("damage", what, self.storage.where(kind, key), _SAVE)

    def _is_listed(self, kind: Kind, key: str) -> bool:
        """Look for the record that was read last where its time, or its key, should be listed."""
        if kind is ITEMS:
            query = Query(order="key", prefix=key)
        elif self.last is None:
            return True  # it cannot be read, which is reported already
        else:
            query = Query(since=self.last, until=self.last + 1)
        try:
            return any(found.key == key for found in self.storage.find(kind, query).documents)
        except CorruptRecordError:
            return True  # another one of that time is damaged

    def _unreadable(self, what: str, where: str) -> Finding:
        self.unreadable.add(where)
        return Finding("damage", what, where, _RESTORE)

    def _record(self, kind: Kind, document: Stored) -> Iterator[Finding]:
        repository = self.repositories[kind]
        where = self.storage.where(kind, document.key)
        name = self._named(kind, document.key)
        try:
            (record,) = repository._load([document])
            written = repository._document(record)
        except PersistenceError as error:
            what = f"{name} cannot be read"
            yield self._unreadable(what, where)
            if not isinstance(error, CorruptRecordError):
                yield Finding("damage", str(error), where, _RESTORE)
            return
        if written.key != document.key:
            what = f"{name} says that its id is {written.key!r}"
            yield Finding("damage", what, where, _RESTORE)
        if kind is not ITEMS and self.last is not None and record.created_at < self.last:
            what = f"the listing of {kind.name} by time shows {name} in the wrong place"
            yield Finding("damage", what, where, _SAVE)
        self.last = record.created_at
        for fields in kind.indexes:
            if all(field in written.fields for field in fields):
                self.indexed[kind][tuple((f, written.fields[f]) for f in fields)] += 1

    def _indexes(self, kind: Kind) -> Iterator[Finding]:
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
                if expected <= found <= expected + len(self.unreadable):
                    continue
                shown = " and ".join(f"{f} {self._shown(kind, value)!r}" for f, value in values)
                what = f"the listing of {kind.name}{' with ' * bool(shown)}{shown}"
                what += f" shows {found} of {expected}"
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
                what = f"{owned} of {named} without a record"
                where = f"the first one is {absent[0]!r}"
                advice = f"save the {owner.name}, if you list them; nothing else needs it"
                yield Finding("note", what, where, advice)
