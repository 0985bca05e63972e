"""Owners are deleted, and the deletion killed, while others move away what they own.

What a mover is told has moved is written down, and must be there at the end, with all messages.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from agentx_persistence import (
    BackendError,
    ContainerRecord,
    ImageRecord,
    ItemRecord,
    Persistence,
    RecordNotFoundError,
    SessionRecord,
    UserMessage,
)
from tests.drivers.killing import exit_status, in_child
from tests.faults.checker import Verdict
from tests.faults.recorder import lines

_MOVERS = 2
_PATIENCE = 150.0


class Moves:
    """One round: a container is filled, emptied by movers, and deleted at the same time."""

    def __init__(
        self, persistence: Persistence, folder: Path, number: int, owned: int, chance: random.Random
    ) -> None:
        self._persistence, self._chance = persistence, chance
        self._box, self._away = f"moves {number}", f"moves {number} away"
        self._images = [f"moves {number} i{n}" for n in range(owned * 2 // 5)]
        self._direct = [f"moves {number} s{n}" for n in range(owned // 5)]
        self._journals = [folder / f"moves{number}-{mover}" for mover in range(_MOVERS)]

    def run(self, verdict: Verdict, kills: float) -> None:
        """:param kills: how probable it is that the deletion is killed"""
        self._fill()
        movers = [
            in_child(partial(self._move, mover, self._chance.getrandbits(32)))
            for mover in range(_MOVERS)
        ]
        deleter = in_child(self._delete)
        if self._chance.random() < kills:
            time.sleep(self._chance.uniform(0, 0.05))
            os.kill(deleter, signal.SIGKILL)
        verdict.counts["owners deleted"] += 1
        for process in movers:
            if exit_status(process):
                verdict.fault("wrong", f"{self._box}: a mover failed")
        status = exit_status(deleter)
        verdict.counts["deletions killed"] += status == -signal.SIGKILL
        if status not in (0, -signal.SIGKILL):
            verdict.fault("wrong", f"{self._box}: its deletion failed")
        self._check(verdict)
        self._delete()
        self._check(verdict)
        self._check_nothing_else(verdict)
        images, sessions = self._acknowledged()
        verdict.counts["moves"] += len(images) + len(sessions)
        self._persistence.containers.delete(self._away)

    def _fill(self) -> None:
        persistence, box = self._persistence, self._box
        persistence.containers.save(ContainerRecord(container_id=box, config={"note": 0}))
        for id in self._images:
            persistence.images.save(ImageRecord(image_id=id, container_id=box, name="moves"))
        for id, owner in [
            *((f"{i} s", i) for i in self._images),
            *((i, "no") for i in self._direct),
        ]:
            new = SessionRecord(session_id=id, image_id=owner, container_id=box, note=0)
            persistence.sessions.add_messages(id, _messages(id, "first"), create=new)
        persistence.items.save(ItemRecord(namespace=(box, "state"), key="k", value=1))

    def _delete(self) -> None:
        _again(lambda: self._persistence.containers.delete(self._box))

    def _move(self, mover: int, seed: int) -> None:
        chance = random.Random(seed)
        mine = [*self._images, *self._direct][mover::_MOVERS]
        chance.shuffle(mine)
        with self._journals[mover].open("w", buffering=1) as journal:
            for id in mine:
                if id in self._direct:
                    self._move_session(chance, journal, id, "no")
                elif self._image_moved(chance, id):
                    print(json.dumps({"image": id}), file=journal)
                    self._move_session(chance, journal, f"{id} s", id)

    def _image_moved(self, chance: random.Random, id: str) -> bool:
        images = self._persistence.images
        if chance.random() < 0.5:
            record = ImageRecord(image_id=id, container_id=self._away, name="moves")
            _again(lambda: images.save(record))
            return True
        return _found(lambda: images.update(id, {"container_id": self._away}))

    def _move_session(self, chance: random.Random, journal: Any, id: str, owner: str) -> None:
        sessions = self._persistence.sessions
        moved = SessionRecord(session_id=id, image_id=owner, container_id=self._away, note=1)
        kept = []
        if chance.random() < 0.5:
            _again(lambda: sessions.save(moved))
        elif _found(lambda: sessions.update(id, {"container_id": self._away, "note": 1})):
            kept = [message.id for message in _messages(id, "first")]
        else:
            return
        print(json.dumps({"session": id, "messages": kept}), file=journal)
        for number in range(chance.randrange(3)):
            messages = _messages(id, f"then {number}")
            _again(lambda messages=messages: sessions.add_messages(id, messages))
            added = [message.id for message in messages]
            print(json.dumps({"session": id, "messages": added}), file=journal)

    def _acknowledged(self) -> tuple[set[str], dict[str, list[str]]]:
        images: set[str] = set()
        sessions: dict[str, list[str]] = {}
        for journal in self._journals:
            for line in lines(journal):
                if "image" in line:
                    images.add(line["image"])
                else:
                    sessions.setdefault(line["session"], []).extend(line["messages"])
        return images, sessions

    def _check(self, verdict: Verdict) -> None:
        images, sessions = self._acknowledged()
        for id in images:
            image = self._persistence.images.find(id)
            if image is None or image.container_id != self._away:
                verdict.fault("lost", f"image {id}, moved away from {self._box}, is {image}")
        for id, messages in sessions.items():
            session = self._persistence.sessions.find(id)
            if session is None or session.container_id != self._away:
                verdict.fault("lost", f"session {id}, moved away from {self._box}, is {session}")
                continue
            there = [message.id for message in self._persistence.sessions.get_messages(id)]
            for message, times in Counter(there).items():
                if times > 1:
                    verdict.fault("doubled", f"{message} in {id}")
            missing = [message for message in messages if message not in there]
            if missing:
                verdict.fault("lost", f"{missing} in {id}, moved away from {self._box}")
            elif [message for message in there if message in messages] != messages:
                verdict.fault("reordered", f"{id}: {there}, not {messages}")

    def _check_nothing_else(self, verdict: Verdict) -> None:
        images, sessions = self._acknowledged()
        p = self._persistence
        for what, found, expected in (
            ("images", {i.image_id for i in p.images.find_all(name="moves")}, images),
            (
                "images in it",
                {i.image_id for i in p.images.find_all(container_id=self._away)},
                images,
            ),
            (
                "sessions in it",
                {s.session_id for s in p.sessions.find_all(container_id=self._away)},
                set(sessions),
            ),
            ("images left", {i.image_id for i in p.images.find_all(container_id=self._box)}, set()),
            (
                "sessions left",
                {s.session_id for s in p.sessions.find_all(container_id=self._box)},
                set(),
            ),
            ("items left", {i.key for i in p.items.find_all(namespace_prefix=(self._box,))}, set()),
        ):
            if found != expected:
                verdict.fault("index", f"{self._away}, {what}: {sorted(found ^ expected)}")
        for id in [*(f"{i} s" for i in self._images), *self._direct]:
            if id not in sessions and p.sessions.exists(id):
                verdict.fault("traces", f"session {id} of {self._box}, which was deleted")


def _messages(session: str, text: str) -> list[UserMessage]:
    return [UserMessage(id=f"{session} {text} {n}", content=text, timestamp=1) for n in range(2)]


def _again(call: Callable[[], object]) -> None:
    """Make a call that can be repeated until it succeeds."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            call()
            return
        except BackendError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _found(call: Callable[[], object]) -> bool:
    """Tell whether what the call changes was still there."""
    try:
        _again(call)
    except RecordNotFoundError:
        return False
    return True
