"""Importing the stores of @agentxjs/persistence, in all six of its layouts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from pydantic_core import from_json

from agentx_persistence.errors import InvalidRecordError
from agentx_persistence.persistence import Persistence
from agentx_persistence.records import (
    ContainerRecord,
    ImageRecord,
    ItemRecord,
    Message,
    Record,
    SessionRecord,
    parse_message,
)
from agentx_persistence.repositories._entries import entry_of
from agentx_persistence.storage import CONTAINERS, IMAGES, ITEMS, SESSIONS, Entry, Kind, Stored
from agentx_persistence.transfer import _foreign_sources as sources
from agentx_persistence.transfer._writing import Writer
from agentx_persistence.transfer.reports import ImportReport, Progress, Step

_KINDS: tuple[tuple[str, Kind, type[Record]], ...] = (
    ("containers:", CONTAINERS, ContainerRecord),
    ("images:", IMAGES, ImageRecord),
    ("sessions:", SESSIONS, SessionRecord),
)
_ITEMS = (("prototypes", "prototypeId"), ("llm-providers", "id"))


def import_ancestor(
    source: str,
    persistence: Persistence,
    *,
    keys: bool = False,
    progress: Progress | None = None,
) -> ImportReport:
    """Read a store of the TypeScript package into this one; a second time writes nothing.

    `source` is the folder of its file store, the path of its SQLite file, or the URL of its Redis,
    MongoDB, MySQL or PostgreSQL; or a file of lines ``{"key": …, "value": …}``. Prototypes and
    providers become items, in the namespaces ``(container, "prototypes")`` and ``(container,
    "llm-providers")``. Records are found by what they say; index entries are only read to count
    those that are stale. Messages of a session that was never saved get a session, which the report
    names.

    :param keys: whether the API keys of providers are copied
    """
    run = _Import(persistence, keys, progress)
    with sources.key_values(source) as read:
        for prefix, kind, record in _KINDS:
            for key, text in read(prefix):
                run.record(kind, record, prefix + key, text)
        for name, id_field in _ITEMS:
            for key, text in read(f"{name}:"):
                run.item(name, id_field, key, text)
        for key, text in read("messages:"):
            run.messages(key, text)
        run.stale(key for key, _ in read("idx:images:container:"))
    return run.end()


class _Import:
    def __init__(self, persistence: Persistence, keys: bool, progress: Progress | None) -> None:
        self.writer = Writer(persistence)
        self.report = self.writer.report
        self.keys, self.progress = keys, progress
        self.done = Counter[Kind]()
        self.containers: dict[str, str] = {}  # of each image
        self.images: dict[str, str] = {}  # of each session that an image names
        self.sessions: dict[str, Stored] = {}
        self.withheld = 0

    def record(self, kind: Kind, record_type: type[Record], key: str, text: str) -> None:
        try:
            record: Any = record_type.model_validate_json(text)
            stored = _stored(record, getattr(record, kind.key))
        except InvalidRecordError as error:
            self.report.skipped.append(f"{key}: {error}")
            return
        if isinstance(record, ImageRecord):
            self.containers[record.image_id] = record.container_id
            self.images[record.session_id] = record.image_id
        if isinstance(record, SessionRecord):
            self.sessions[record.session_id] = stored
        self.writer.record(kind, stored)
        self.tell(kind)

    def item(self, name: str, id_field: str, key: str, text: str) -> None:
        try:
            values = from_json(text)
            if not self.keys and values.pop("apiKey", None) is not None:
                self.withheld += 1
            item = ItemRecord(
                namespace=(values.get("containerId", "default"), name),
                key=values[id_field],
                value=values,
                created_at=values["createdAt"],
                updated_at=values["updatedAt"],
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self.report.skipped.append(f"{name}:{key}: {type(error).__name__}: {error}")
            return
        items = self.writer.persistence.items
        self.writer.record(ITEMS, _stored(item, items._key(item)))
        self.tell(ITEMS)

    def messages(self, session_id: str, text: str) -> None:
        entries = list(self._entries(session_id, text))
        if not entries:
            return
        try:
            session = self.sessions.get(session_id) or self._orphan(session_id, entries)
        except InvalidRecordError as error:  # such as for an id that no session can have
            self.report.skipped.append(f"messages:{session_id}: {error}")
            return
        for start in range(0, len(entries), 500):
            self.writer.messages(session, entries[start : start + 500])
        self.tell()

    def _entries(self, session_id: str, text: str) -> Iterator[Entry]:
        try:
            values = from_json(text)
            given = values if isinstance(values, list) else [None]
        except ValueError:
            given = [None]
        ids = set()
        for position, value in enumerate(given, 1):
            try:
                message: Message = parse_message(value)
                entry = entry_of(message)
            except InvalidRecordError as error:
                self.report.skipped.append(f"messages:{session_id}, message {position}: {error}")
                continue
            if entry.id in ids:
                reason = f"an earlier message has the same id {entry.id!r}"
                self.report.skipped.append(f"messages:{session_id}, message {position}: {reason}")
                continue
            ids.add(entry.id)
            yield entry

    def _orphan(self, session_id: str, entries: list[Entry]) -> Stored:
        """Make the session of messages whose own was never saved, or is gone."""
        times = [entry.timestamp for entry in entries]
        image = self.images.get(session_id, session_id)
        record = SessionRecord(
            session_id=session_id,
            image_id=image,
            container_id=self.containers.get(image, "default"),
            created_at=times[0],
            updated_at=times[-1],
            metadata={"importedWithoutSession": True},
        )
        self.report.notes.append(
            f"session {session_id!r} had messages but no record; one was made for it"
        )
        stored = _stored(record, session_id)
        self.writer.record(SESSIONS, stored)
        self.done[SESSIONS] += 1
        return stored

    def stale(self, keys: Iterator[str]) -> None:
        """Say how many index entries name an image that is gone or elsewhere."""
        stale = 0
        for key in keys:
            container, _, image = key.rpartition(":")
            stale += self.containers.get(image) != container
        if stale:
            self.report.notes.append(
                f"{stale} index entries were stale; the owners are those that the records name"
            )

    def tell(self, kind: Kind | None = None) -> None:
        """:param kind: that of a record; ``None`` for messages"""
        if kind is not None:
            self.done[kind] += 1
        if self.progress:
            kind = kind or SESSIONS
            self.progress(Step("import", kind.name, self.done[kind], 0, self.report.messages))

    def end(self) -> ImportReport:
        if self.withheld:
            self.report.notes.append(
                f"the API keys of {self.withheld} providers were not copied; ask for them with"
                " keys=True, or --keys"
            )
        return self.report


def _stored(record: Any, key: str) -> Stored:
    return Stored(key, record.to_json(), record.updated_at, "")
