"""The files of the filesystem backend."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from agentx_persistence._fs.files import file_name
from tests.backends.backend import Backend
from tests.faults.raw import Raw

_MESSAGES = ".messages.jsonl"


def read(backend: Backend) -> Raw:
    base, raw = Path(backend.arguments[0]), Raw()
    expected: set[tuple[Any, ...]] = set()
    for kind in raw.ids:
        for path in sorted((base / kind).rglob("*.json")):
            expected |= _read_document(raw, kind, path)
    logs = list((base / "sessions").rglob(f"*{_MESSAGES}"))
    for path in logs:
        _read_log(raw, path)
    found: set[tuple[Any, ...]] = set()
    for root in (base / "index").glob("*/*.json"):
        found |= set(_leaves(raw, root, root, None))
    raw.problems += [f"index entry without its record: {entry}" for entry in found - expected]
    raw.problems += [f"record without its index entry: {entry}" for entry in expected - found]
    for folder in ("deleted", "drafts"):
        raw.problems += [f"left in {folder}: {path.name}" for path in (base / folder).iterdir()]
    known = {"containers", "images", "sessions", "index", "deleted", "drafts", "locks"}
    raw.problems += [f"in the store: {p.name}" for p in base.iterdir() if p.name not in known]
    return raw


def _read_document(raw: Raw, kind: str, path: Path) -> set[tuple[Any, ...]]:
    stored = json.loads(path.read_bytes())
    id = stored["id"]
    name = file_name(kind, id)
    if path.parent.name + path.stem != name:
        raw.problems.append(f"{path} has the record {id}")
    raw.ids[kind].add(id)
    if kind == "sessions" and not path.with_name(f"{path.stem}{_MESSAGES}").exists():
        raw.problems.append(f"session {id} has no log")
    subjects = [(kind, None, None), *((kind, *index) for index in stored["indexes"].items())]
    return {(*subject, -stored["created_at"], id) for subject in subjects}


def _read_log(raw: Raw, path: Path) -> None:
    lines = path.read_bytes().split(b"\n")
    session = json.loads(lines[0])["session"]
    if not path.with_name(path.name.replace(_MESSAGES, ".json")).exists():
        raw.problems.append(f"a log of the session {session}, which is not there")
    whole: list[tuple[int, str]] = []
    pending: list[tuple[int, str]] = []
    for line in lines[1:-1]:
        try:
            entry = json.loads(line)
        except ValueError:
            raw.problems.append(f"session {session}: a line that is no JSON")
            continue
        pending.append((entry["position"], entry["id"]))
        if entry["message"]["id"] != entry["id"]:
            raw.problems.append(f"session {session}: the message {entry['id']} has another id")
        if entry["left"] == 0:
            whole += pending
            pending = []
    raw.messages[session] = whole
    if pending or lines[-1]:
        raw.problems.append(f"session {session}: a torn append at the end")


def _leaves(raw: Raw, root: Path, path: Path, until: Any) -> list[tuple[Any, ...]]:
    node = json.loads(path.read_bytes())
    if root == path and root.parent.name + root.stem != file_name(*node["index"]):
        raw.problems.append(f"{root} is of the index {node['index']}")
    if not node["children"]:
        places = [tuple(place) for place in node["places"]]
        if not places:
            raw.problems.append(f"{path} is empty")
        return [(*node["index"], *place) for place in places if until is None or place < until]
    found: list[tuple[Any, ...]] = []
    for number, name in enumerate(node["children"]):
        behind = [tuple(place) for place in node["places"][number + 1 : number + 2]]
        ends = [*behind, *([until] if until else [])]
        child = root.with_suffix("") / f"{name}.json"
        found += _leaves(raw, root, child, min(ends, default=None))
    return found
