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
    "rewrite": 4,
    "rewrite conflict": 1,
    "append unexpected": 1,
    "pop": 4,
    "replace": 3,
    "fork": 2,
    "update image": 4,
    "update session": 3,
    "save item": 5,
    "update item": 3,
    "delete items": 1,
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
        if kind in ("rewrite", "rewrite conflict", "append unexpected", "pop", "replace", "fork"):
            return self._make_change(kind, self.chance.choice(sessions)) if sessions else None
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
        if kind in ("update image", "update session", "update item"):
            known = [*getattr(self.model, f"{kind.removeprefix('update ')}s")]
            return self._make_update(kind, self.chance.choice(known)) if known else None
        return self._make_save(kind) if kind.startswith("save") else None

    def _make_change(self, kind: str, id: str) -> Operation | None:
        """Return a change of the messages of a session that has some."""
        there = self.model.sessions[id]["messages"]
        ids = [m for m, _ in there]
        if kind == "pop":
            return {"do": kind, "id": id, "pops": ids[-1]}
        if kind == "append unexpected":
            unexpected = append(id, [self._message(0)])
            return {**unexpected, "expected": len(ids) + 1, "refused": "RecordConflictError"}
        if kind == "replace":
            length = self.chance.randrange(400)
            return {"do": kind, "id": id, "message": (self.chance.choice(ids[-8:]), length)}
        if kind == "fork":
            new = f"{self.writer}-s{self.chance.choice(NUMBERS)}"
            if new in self.model.sessions:
                return None
            through = {"through": self.chance.choice(ids)} if self.chance.random() < 0.5 else {}
            return {"do": kind, "id": new, "of": id, "session": self._session(), **through}
        after = self.chance.choice(ids[-6:])
        new_messages = [self._message(index) for index in range(self.chance.randrange(3))]
        if kind == "rewrite conflict":
            taken = [(after, 1)]
            return {
                **{"do": "rewrite", "id": id, "after": after},
                **{"messages": new_messages + taken, "refused": "RecordConflictError"},
            }
        return {"do": kind, "id": id, "after": after, "messages": new_messages}

    def _make_update(self, kind: str, id: str) -> Operation:
        changes: dict[str, Any] = {"note": self.number}
        if kind != "update item":
            changes["container_id"] = f"{self.writer}/box:{self.chance.choice(BOXES)}"
        if kind == "update image":
            changes["name"] = f"{self.writer} name {self.chance.randrange(5)}"
        if kind == "update session":
            changes["image_id"] = f"{self.writer}-i{self.chance.choice(NUMBERS)}"
        return {"do": kind, "id": id, "changes": changes}

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
        if kind == "save item":
            return {"do": kind, "id": f"{box}/k{number}", "note": self.number}
        return {"do": kind, "id": f"{self.writer}-s{number}", "session": self._session()}

    def _session(self) -> dict[str, Any]:
        return {
            "image_id": f"{self.writer}-i{self.chance.choice(NUMBERS)}",
            "container_id": f"{self.writer}/box:{self.chance.choice(BOXES)}",
            "created_at": self.chance.choice((1_000, 2_000, 3_000 + self.number)),
            "note": self.number,
        }

    def _message(self, index: int) -> tuple[str, int]:
        length = _LONG if self.chance.random() < 0.02 else self.chance.randrange(400)
        return new_message(self.writer, self.number, index, length)


def append(session: str, messages: list[Any]) -> Operation:
    return {"do": "append", "id": session, "messages": messages}


def new_message(writer: str, number: int, index: int, length: int) -> tuple[str, int]:
    return f"{writer}-{number}-{index}", length
