"""Record files: their paths, their content, and the rows they get in the index."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from typing import Any, NamedTuple

from pydantic_core import from_json, to_json

from agentx_persistence._fs import files
from agentx_persistence.errors import CorruptRecordError
from agentx_persistence.storage import KINDS, SESSIONS, Document, Kind

FIELDS = {kind: sorted({name for names in kind.indexes for name in names}) for kind in KINDS}
# A row of the index: a document's key, its time of creation and the second of its last change (both
# negated), and the values of its `FIELDS`.
Row = tuple[Any, ...]


class Record(NamedTuple):
    """The content of a record file: JSON on two lines. The second line is the text, unchanged.

    `log` has the generation and the number of entries that a session's log had when the record was
    saved. If those of the log differ, its `at` says when the session last changed.
    """

    key: str
    created_at: int
    updated_at: int
    fields: Mapping[str, str]
    revision: str
    log: tuple[str, int]
    text: bytes

    def row(self, kind: Kind, changed_at: int) -> Row:
        active = -(changed_at // 1000) if kind.active else 0
        return self.key, -self.created_at, active, *map(self.fields.get, FIELDS[kind])


@lru_cache(maxsize=4096)
def file_name(kind: Kind, key: str) -> str:
    """Return a file name that no other key has, whatever characters the key has."""
    return sha256(f"{kind}\0{key}".encode()).hexdigest()[:40]


def record_of(document: Document, log: tuple[str, int]) -> Record:
    key, text, created_at, updated_at, fields, revision = document
    return Record(key, created_at, updated_at, dict(fields), revision, log, text.encode())


def format_record(record: Record) -> bytes:
    head = record._asdict()
    text = head.pop("text")
    return b'%b,\n"record":%b}\n' % (to_json(head)[:-1], text)


def parse_record(data: bytes) -> Record | None:
    """Return the record, or ``None`` if the file is damaged. A damaged text is not noticed."""
    head, _, rest = data.partition(b',\n"record":')
    try:
        values = from_json(head + b"}")
        generation, count = values["log"]
        record = Record(**(values | {"log": (generation, count)}), text=rest[:-2])
    except (ValueError, TypeError, KeyError):
        return None
    types = [*map(type, record[:6]), type(generation), type(count)]
    return record if types == [str, int, int, dict, str, tuple, str, int] else None


class Records:
    """The record files of a store."""

    def __init__(self, base: str) -> None:
        self._base = base

    def path(self, kind: Kind, key: str, form: str = "json") -> str:
        name = file_name(kind, key)
        return f"{self._base}/{kind}/{name[:2]}/{name[2:]}.{form}"

    def exists(self, kind: Kind, key: str) -> bool:
        return os.path.exists(self.path(kind, key))

    def read(self, kind: Kind, key: str) -> Record | None:
        """Return the record, or ``None`` if there is none.

        :raises CorruptRecordError: if it is damaged
        """
        path = self.path(kind, key)
        try:
            with open(path, "rb", buffering=0) as file:
                record = parse_record(file.readall())
        except FileNotFoundError:
            os.stat(f"{self._base}/{kind}")  # raises if the store is gone
            return None
        if record is None or record.key != key:
            raise CorruptRecordError(kind.noun, key, path)
        return record

    def remove_rest(self, kind: Kind, key: str) -> None:
        """Remove the other files of a record whose own file was removed or never finished."""
        for form in ("json", "jsonl") if kind is SESSIONS else ("json",):
            path = self.path(kind, key, form)
            for rest in (f"{path}.draft", f"{path}.hidden" if form == "json" else path):
                files.remove(rest)

    def folders(self, kind: Kind) -> list[str]:
        """Return the folders that hold the files of this kind."""
        top = f"{self._base}/{kind}"
        paths = [f"{top}/{name}" for name in sorted(os.listdir(top))]
        return [path for path in paths if os.path.isdir(path)]
