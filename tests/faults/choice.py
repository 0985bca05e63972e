"""What a writer does next: chosen by chance among what makes sense, as far as it knows."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.faults.model import Model, Operation

# Of its own, a writer has so many containers, and images and sessions.
BOXES, NUMBERS = range(2), range(4)
# How often each operation is chosen.
WEIGHTS = {
    "append shared": 30,
    "append batch shared": 8,
    "append": 16,
    "append batch": 8,
    "append again": 4,
    "append conflict": 2,
    "append nowhere": 1,
    "save image": 12,
    "save container": 3,
    "metadata": 4,
    "save session": 5,
    "truncate": 4,
    "clear": 1,
    "delete sessions": 2,
    "delete images": 2,
    "delete containers": 1,
}
_LONG = 40_000


@dataclass(frozen=True)
class Choice:
    """:param in_shared: what the writer has appended to the sessions that all append to"""

    writer: str
    number: int
    chance: random.Random
    model: Model
    shared: tuple[str, ...]
    in_shared: list[tuple[str, list[Any], list[int]]]

    def operation(self, weights: Mapping[str, int]) -> Operation:
        kinds, chances = zip(*weights.items(), strict=True)
        while True:
            chosen = self._make(self.chance.choices(kinds, chances)[0])
            if chosen:
                return {"n": self.number, **chosen}

    def _make(self, kind: str) -> Operation | None:
        sessions = [s for s, found in self.model.sessions.items() if found["messages"]]
        if kind.endswith("shared"):
            count = 3 if "batch" in kind else 1
            return append(self.chance.choice(self.shared), [self._message(i) for i in range(count)])
        if kind in ("append", "append batch") and self.model.sessions:
            count = 3 if "batch" in kind else 1
            id = self.chance.choice([*self.model.sessions])
            return append(id, [self._message(i) for i in range(count)])
        if kind == "append nowhere":
            id = f"{self.writer} nowhere"
            again = append(id, [self._message(0)])
            return {**again, "refused": "RecordNotFoundError"}
        if kind == "append again" and self.in_shared:
            id, messages, _ = self.chance.choice(self.in_shared[-50:])
            return {**append(id, messages), "again": True}
        if kind == "append conflict" and self.in_shared:
            id, messages, _ = self.chance.choice(self.in_shared[-50:])
            other = [(m, length + 1) for m, length in messages]
            return {**append(id, other), "refused": "RecordConflictError"}
        if kind in ("truncate", "clear") and sessions:
            id = self.chance.choice(sessions)
            # Mostly little is cut off, so that histories grow.
            ids = [m for m, _ in self.model.sessions[id]["messages"]][-8:]
            after = {"after": self.chance.choice(ids)} if kind == "truncate" else {}
            return {"do": kind, "id": id, **after}
        if kind == "metadata" and self.model.images:
            changes = {f"key {self.chance.randrange(3)}": self.number}
            return {"do": kind, "id": self.chance.choice([*self.model.images]), "changes": changes}
        if kind.startswith("delete"):
            known = [*getattr(self.model, kind.removeprefix("delete "))]
            return {"do": kind, "id": self.chance.choice(known)} if known else None
        return self._make_save(kind) if kind.startswith("save") else None

    def _make_save(self, kind: str) -> Operation:
        box = f"{self.writer}/box:{self.chance.choice(BOXES)}"
        number = self.chance.choice(NUMBERS)
        created_at = self.chance.choice((1_000, 2_000, 3_000 + self.number))
        if kind == "save container":
            return {"do": kind, "id": box, "note": self.number}
        if kind == "save image":
            name = f"{self.writer} name {self.chance.randrange(5)}"
            image = {"container_id": box, "session_id": f"{self.writer}-s{number}", "name": name}
            image |= {"created_at": created_at, "note": self.number}
            return {"do": kind, "id": f"{self.writer}-i{number}", "image": image}
        session = {"image_id": f"{self.writer}-i{number}", "container_id": box}
        session |= {"created_at": created_at, "note": self.number}
        return {"do": kind, "id": f"{self.writer}-s{number}", "session": session}

    def _message(self, index: int) -> tuple[str, int]:
        length = _LONG if self.chance.random() < 0.02 else self.chance.randrange(400)
        return new_message(self.writer, self.number, index, length)


def append(session: str, messages: list[Any]) -> Operation:
    return {"do": "append", "id": session, "messages": messages}


def new_message(writer: str, number: int, index: int, length: int) -> tuple[str, int]:
    return f"{writer}-{number}-{index}", length
