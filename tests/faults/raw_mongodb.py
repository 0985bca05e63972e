"""The documents of a MongoDB database."""

from __future__ import annotations

import json
from typing import Any

from tests.backends.backend import Backend
from tests.faults.raw import Raw
from tests.servers.mongodb import MongodbServer

_FIELDS = {"container_id": "containerId", "image_id": "imageId", "name": "name"}


def read(backend: Backend) -> Raw:
    raw = Raw()
    heads: dict[str, Any] = {}
    with MongodbServer(backend.arguments[0]).connect() as client:
        database = client[backend.options["database_name"]]
        for kind in raw.ids:
            for row in database[kind].find():
                if "place" not in row:
                    raw.problems.append(f"{kind} {row['_id']}: a deletion that was not finished")
                    continue
                raw.ids[kind].add(row["_id"])
                record = json.loads(row["text"])
                differ = [f for f, said in _FIELDS.items() if f in row and row[f] != record[said]]
                if differ or row["created_at"] != record["createdAt"]:
                    raw.problems.append(f"{kind} {row['_id']}: differs from its text in {differ}")
                if "hidden" in row or row["updated_at"] // 1000 != _second(row):
                    raw.problems.append(f"{kind} {row['_id']}: is listed in a wrong place")
                if kind == "sessions":
                    heads[row["_id"]] = row
        for row in database["messages"].find().sort([("session_id", 1), ("position", 1)]):
            session = row["session_id"]
            position = _position(row, heads.get(session))
            if position is not None:
                raw.messages.setdefault(session, []).append((position, row["message_id"]))
    for messages in raw.messages.values():
        messages.sort()
    raw.counts = {session: head["count"] for session, head in heads.items()}
    return raw


def _second(row: dict[str, Any]) -> int:
    """Return the second by which a session is listed as active; of others that of their text."""
    if "active" not in row:
        return int(row["updated_at"]) // 1000
    return 2**53 - int(row["active"].partition(" ")[0])


def _position(row: dict[str, Any], head: dict[str, Any] | None) -> int | None:
    """Return the position of a message, or ``None`` if it is not in the log; see `log.py`."""
    if head is None:
        return None
    position = int(row["position"])
    pending = head.get("pending")
    if pending and row["log"] == pending["log"]:
        return int(pending["first"]) + position - 1
    if row["log"] != head["log"] or position > head["count"]:
        return None
    if pending and row["term"] < head["term"]:
        cut = position >= pending["first"] if pending["cut"] else position == pending["first"]
        return None if cut else position
    return position
