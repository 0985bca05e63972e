"""Looking for damage, and for what may surprise: nothing is changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from agentx_persistence.errors import CorruptRecordError, PersistenceError, RecordNotFoundError
from agentx_persistence.persistence import Persistence
from agentx_persistence.records import MESSAGES
from agentx_persistence.storage import (
    CONTAINERS,
    IMAGES,
    ITEMS,
    SESSIONS,
    Kind,
    Query,
    Storage,
    Stored,
)
from agentx_persistence.transfer import _walking as walking
from agentx_persistence.transfer.reports import Progress, Step

_RESTORE = "restore it from a backup, or write it anew; it is never skipped or repaired silently"
_SAVE = "save the record again, which writes its index entries anew"


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
    * records that a listing of their container, image, name or namespace does not show, or shows
      too often
    * as notes: sessions and images whose container or image has no record

    Everything is read once, and nothing is written. What changes meanwhile can be reported wrongly.
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
        # How many records each index should show, by its field and value.
        self.indexed: dict[Kind, Counter[tuple[str, str]]] = {}
        self.messages = 0

    def findings(self) -> Iterator[Finding]:
        for kind in walking.ORDER:
            self.indexed[kind] = Counter()
            done, total = 0, walking.total(self.storage, kind, None) if self.progress else 0
            try:
                for page in walking.pages(self.storage, kind, None):
                    for document in page:
                        yield from self._record(kind, document)
                        if kind is SESSIONS:
                            yield from self._history(document.key)
                    done += len(page)
                    if self.progress:
                        self.progress(Step("examine", kind.name, done, total, self.messages))
            except CorruptRecordError as error:
                yield Finding("damage", f"the {kind.name} cannot be listed", str(error), _RESTORE)
            yield from self._indexes(kind)
        yield from self._owners()

    def _record(self, kind: Kind, document: Stored) -> Iterator[Finding]:
        repository = self.repositories[kind]
        where = self.storage.where(kind, document.key)
        name = walking.name(kind, document.key)
        try:
            (record,) = repository._load([document])
            written = repository._document(record)
        except PersistenceError as error:
            what = f"the {kind.noun} {name!r} cannot be read"
            yield Finding("damage", what, where, _RESTORE)
            if not isinstance(error, CorruptRecordError):
                yield Finding("damage", str(error), where, _RESTORE)
            return
        if written.key != document.key:
            what = f"the {kind.noun} {name!r} says that its id is {written.key!r}"
            yield Finding("damage", what, where, _RESTORE)
        for (field,) in (index for index in kind.indexes if len(index) == 1):
            if field in written.fields:
                self.indexed[kind][field, written.fields[field]] += 1

    def _history(self, log: str) -> Iterator[Finding]:
        ids: set[str] = set()
        position = 0
        try:
            count = self.storage.head(log).count
            for texts in walking.batches(self.storage, log, 0, count):
                for text in texts:
                    position += 1
                    where = self.storage.where(SESSIONS, log, position)
                    place = f"message {position} of session {log!r}"
                    try:
                        (message,) = MESSAGES.validate_json(b"[%s]" % walking.raw(text))
                        message.to_json()
                    except (ValueError, PersistenceError):
                        yield Finding("damage", f"{place} cannot be read", where, _RESTORE)
                        continue
                    if message.id in ids:
                        what = f"{place} has the id {message.id!r}, which an earlier one has"
                        yield Finding("damage", what, where, _RESTORE)
                    ids.add(message.id)
            self.messages += position
            if position < count:
                what = f"session {log!r} says that it has {count} messages, but has {position}"
                yield Finding("damage", what, self.storage.where(SESSIONS, log), _RESTORE)
        except RecordNotFoundError:
            return  # deleted meanwhile
        except PersistenceError as error:
            what = f"the history of session {log!r} cannot be read after message {position}"
            yield Finding("damage", what, str(error), _RESTORE)

    def _indexes(self, kind: Kind) -> Iterator[Finding]:
        for (field, value), expected in self.indexed[kind].items():
            orders: list[Any] = ["newest"]
            if (field,) in kind.active:
                orders.append("active")
            for order in orders:
                found = self.storage.count(kind, Query({field: value}, order))
                if found == expected:
                    continue
                shown = "/".join(value.split("\x1f")).rstrip("/") if kind is ITEMS else value
                what = (
                    f"the listing of {kind.name} with {field} {shown!r} shows {found} of {expected}"
                )
                yield Finding("damage", what, f"order {order!r}", _SAVE)

    def _owners(self) -> Iterator[Finding]:
        """Name the owners that have no record. Owners need not exist, but mostly do."""
        for kind, field, owner in (
            (IMAGES, "container_id", CONTAINERS),
            (SESSIONS, "container_id", CONTAINERS),
            (SESSIONS, "image_id", IMAGES),
        ):
            owners = {value: n for (name, value), n in self.indexed[kind].items() if name == field}
            ids = list(owners)
            absent: list[str] = []
            for start in range(0, len(ids), 100):
                some = ids[start : start + 100]
                found = self.storage.get(owner, some)
                absent += [id for id in some if id not in found]
            if absent:
                count = sum(owners[id] for id in absent)
                what = f"{count} {kind.name} belong to {len(absent)} {owner.name} without a record"
                where = f"the first one is {absent[0]!r}"
                advice = f"save the {owner.name}, if you list them; nothing else needs it"
                yield Finding("note", what, where, advice)
