"""The files of the filesystem backend."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

from tests.backends.backend import Backend
from tests.faults.raw import Raw

_FIELDS = {
    "containers": (),
    "images": ("container_id", "name"),
    "sessions": ("container_id", "image_id"),
    "items": ("namespace",),
}


def read(backend: Backend) -> Raw:
    base, raw = Path(backend.arguments[0]), Raw()
    expected: set[tuple[Any, ...]] = set()
    for kind in _FIELDS:
        for path in sorted((base / kind).glob("*/*")):
            if path.suffix == ".json":
                expected.add(_read_record(raw, kind, path))
            elif path.suffix != ".jsonl" or kind != "sessions":
                raw.repairable.append(f"left: {path}")
            elif not path.with_suffix(".json").exists():
                raw.repairable.append(f"a log without its session: {path}")
    with closing(sqlite3.connect(base / "index.sqlite3")) as index:
        rows = [row for kind in _FIELDS for row in _rows(index, kind)]
    # Those of a record that a killed process was saving; reading passes over what is wrong.
    unsure = {row[:2] for row in rows if not row[-1]}
    found = {row[:-1] for row in rows if row[:2] not in unsure}
    raw.repairable += [f"a record is not settled in the index: {row}" for row in unsure]
    raw.problems += [f"index entry without its record: {entry}" for entry in found - expected]
    raw.problems += [
        f"record without its index entry: {entry}"
        for entry in expected - found
        if entry[:2] not in unsure
    ]
    known = {*_FIELDS, "locks", "index.stamp"}
    raw.problems += [
        f"in the store: {path.name}"
        for path in base.iterdir()
        if path.name not in known and not path.name.startswith("index.sqlite3")
    ]
    return raw


def _rows(index: sqlite3.Connection, kind: str) -> list[tuple[Any, ...]]:
    columns = ", ".join(("key", "time", "active", *_FIELDS[kind]))
    return [(kind, *row) for row in index.execute(f"SELECT {columns}, sure FROM {kind}")]  # noqa: S608


def _read_record(raw: Raw, kind: str, path: Path) -> tuple[Any, ...]:
    stored = json.loads(path.read_bytes())
    key = stored["key"]
    if path.parent.name + path.stem != sha256(f"{kind}\0{key}".encode()).hexdigest()[:40]:
        raw.problems.append(f"{path} has the record {key}")
    raw.ids.setdefault(kind, set()).add(key)
    changed_at = 0
    if kind == "sessions":
        changed_at = stored["updated_at"]
        count, generation, at = _read_log(raw, key, path.with_suffix(".jsonl"))
        if [generation, count] != stored["log"]:
            changed_at = max(changed_at, at)
    fields = (stored["fields"].get(name) for name in _FIELDS[kind])
    return (kind, key, -stored["created_at"], -(changed_at // 1000), *fields)


def _read_log(raw: Raw, session: str, path: Path) -> tuple[int, str, int]:
    """Return the number of entries, the generation and the last time."""
    header, *lines, rest = path.read_bytes().split(b"\n")
    state = json.loads(header)
    generation, at = state["generation"], state["at"]
    if state["session"] != session:
        raw.problems.append(f"{path} is of the session {state['session']}")
    entries: list[str | None] = []
    call: list[dict[str, Any]] = []
    for line in lines:
        entry = json.loads(line) if line.strip() else {"left": 0, "blank": True}
        call.append(entry)
        if entry["left"]:
            continue
        for each in call:
            if "keep" in each:
                del entries[each["keep"] :]
                generation = each["generation"]
            elif "blank" in each:
                entries.append(None)
            else:
                if each["message"]["id"] != each["id"]:
                    raw.problems.append(f"session {session}: {each['id']} has another id")
                entries[each["position"] - 1 : each["position"]] = [each["id"]]
            at = each.get("at", at)
        call.clear()
    if call or rest:
        raw.repairable.append(f"session {session}: an interrupted call at the end")
    if None in entries:
        raw.problems.append(f"session {session}: messages are gone")
    raw.messages[session] = [(at, str(id)) for at, id in enumerate(entries, 1)]
    return len(entries), generation, at
