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
                if kind == "sessions":
                    heads[row["_id"]] = row
        for row in database["messages"].find().sort([("session_id", 1), ("position", 1)]):
            session, position = row["session_id"], row["position"]
            head = heads.get(session)
            if head is None or row["log"] != head["log"] or position > head["count"]:
                raw.problems.append(f"session {session}: a stray message at {position}")
                continue
            raw.messages.setdefault(session, []).append((int(position), row["message_id"]))
    raw.counts = {session: head["count"] for session, head in heads.items()}
    return raw
