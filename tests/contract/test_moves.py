"""Deletions of owners, while what they own moves away, is saved again, and is written to."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from agentx_persistence import Persistence, RecordNotFoundError
from tests.backends.backend import Backend
from tests.contract.records import container, image, item, message, session, texts

# The long form: AGENTX_TEST_MOVE_TRIES=500, with 100 things owned.
_TRIES = int(os.environ.get("AGENTX_TEST_MOVE_TRIES", "30"))
_IS_LONG = _TRIES > 100
_OWNED = 100 if _IS_LONG else 20
_SECONDS = float("inf") if _IS_LONG else 3.0  # for the short form, but at least some tries


class _Owner:
    """A container "C" with images, sessions of theirs, sessions of its own, and items.

    An image "x" is owned by "C", its session "sx" by both; "d" is a session of "C" only.
    """

    def __init__(self, persistence: Persistence, chance: random.Random) -> None:
        self.persistence, self.chance = persistence, chance
        self.deleting = False
        self.counts: Counter[str] = Counter()
        self.images = [f"x{number}" for number in range(_OWNED * 2 // 5)]
        self.direct = [f"d{number}" for number in range(_OWNED // 5)]
        # What must be there at the end: sessions with the messages that were acknowledged.
        self.kept_images: set[str] = set()
        self.kept_sessions: dict[str, list[str]] = {}

    def save(self) -> None:
        persistence = self.persistence
        persistence.containers.save(container("C"))
        for id in self.images:
            persistence.images.save(image(id, container_id="C", name="plan"))
            self._save_session(f"s{id}", id)
        for id in self.direct:
            self._save_session(id, "of nobody")
        persistence.items.save(item(("C", "state"), "key"))

    def _save_session(self, id: str, owner: str) -> None:
        new = session(id, image_id=owner, container_id="C")
        self.persistence.sessions.add_message(id, message("first"), create=new)

    def move(self) -> None:
        """Move everything to "D", in any order, each in one of the ways there are."""
        left = [*self.images, *self.direct]
        self.chance.shuffle(left)
        time.sleep(self.chance.random() * 0.002)
        for id in left[: self.chance.randint(1, len(left))]:
            if id in self.direct:
                self._move_session(id, "of nobody")
            elif self._moved(lambda id=id: self._move_image(id)):  # type: ignore[misc]
                self.kept_images.add(id)
                if self.chance.random() < 0.8:
                    self._move_session(f"s{id}", id)

    def _moved(self, move: Callable[[], Any]) -> bool:
        amid = self.deleting
        try:
            move()
        except RecordNotFoundError:  # it was deleted before
            self.counts["came too late"] += 1
            return False
        self.counts["moved amid the deletion"] += amid and self.deleting
        self.counts["moved"] += 1
        return True

    def _move_image(self, id: str) -> None:
        images = self.persistence.images
        if self.chance.random() < 0.5:
            images.save(image(id, container_id="D", name="moved"))
        else:
            images.update(id, {"container_id": "D", "name": "moved"})

    def _move_session(self, id: str, owner: str) -> None:
        """Move a session; then append to it."""
        sessions, way = self.persistence.sessions, self.chance.random()
        moved = session(id, image_id=owner, container_id="D")
        if way < 0.4:  # brings back what is deleted, without messages
            if not self._moved(lambda: sessions.save(moved)):
                return
            acknowledged = []
        elif way < 0.8:  # does not
            if not self._moved(lambda: sessions.update(id, {"container_id": "D"})):
                return
            acknowledged = ["first"]
        else:
            sessions.delete(id)
            self._moved(lambda: sessions.add_message(id, message("anew"), create=moved))
            acknowledged = ["anew"]
        self.kept_sessions[id] = acknowledged
        for number in range(self.chance.randrange(3)):
            sessions.add_message(id, message(f"after {number}"))
            acknowledged.append(f"after {number}")

    def delete(self) -> None:
        self.deleting = True
        try:
            self.persistence.containers.delete("C")
        finally:
            self.deleting = False

    def check(self) -> None:
        """What moved away is there; a repeated deletion leaves nothing else."""
        persistence = self.persistence
        for again in (False, True):
            if again:
                assert persistence.containers.delete("C") is False
            for id in self.kept_images:
                assert persistence.images.get(id).container_id == "D", id
            for id, acknowledged in self.kept_sessions.items():
                assert persistence.sessions.get(id).container_id == "D", id
                history = texts(persistence, id)
                assert persistence.sessions.count_messages(id) == len(history)
                assert [text for text in history if text in acknowledged] == acknowledged, id
                assert set(history) <= {"first", *acknowledged}, id
            found = {i.image_id for i in persistence.images.find_all(container_id="D")}
            assert found == self.kept_images
            assert {i.image_id for i in persistence.images.find_all(name="moved")} == found
            in_d = {s.session_id for s in persistence.sessions.find_all(container_id="D")}
            assert in_d == set(self.kept_sessions)
        everything = {s.session_id for s in persistence.sessions.find_all()}
        # A session that did not move is still of its image, and belongs to "C" as well.
        assert everything == set(self.kept_sessions)
        assert {i.image_id for i in persistence.images.find_all()} == self.kept_images
        assert not persistence.items.exists(("C", "state"), "key")
        assert not persistence.containers.exists("C")

    def clear(self) -> None:
        assert self.persistence.containers.delete("D") is False
        assert self.persistence.sessions.find_all() == self.persistence.images.find_all() == []


@pytest.mark.timeout(300 if not _IS_LONG else 0)
def test_what_moves_away_from_a_container_that_is_deleted_is_not_touched(
    backend: Backend, persistence: Persistence, report: Callable[[str], None]
) -> None:
    seed = random.getrandbits(32)
    deadline, tries = time.monotonic() + _SECONDS, 0
    counts: Counter[str] = Counter()
    while tries < _TRIES and (tries < 3 or time.monotonic() < deadline):
        owner = _Owner(persistence, random.Random(seed + tries))
        owner.save()
        _at_once(owner.delete, owner.move)
        try:
            owner.check()
        except (AssertionError, RecordNotFoundError) as error:
            raise AssertionError(f"try {tries} of seed {seed}: {error}") from error
        owner.clear()
        counts += owner.counts
        tries += 1
    report(
        f"moves, {backend.name}: {tries} deletions of a container with {_OWNED} things, "
        f"{counts['moved']:,} moves acknowledged, {counts['moved amid the deletion']:,} of them "
        f"while the deletion went on, {counts['came too late']:,} came too late, 0 lost"
    )


@pytest.mark.timeout(300 if not _IS_LONG else 0)
def test_what_moves_away_from_an_image_that_is_deleted_is_not_touched(
    persistence: Persistence,
) -> None:
    sessions, deadline = persistence.sessions, time.monotonic() + _SECONDS / 2
    seed = random.getrandbits(32)
    tries = 0
    while tries < _TRIES and (tries < 3 or time.monotonic() < deadline):
        tries += 1
        chance = random.Random(seed + tries)
        ids = [f"s{number}" for number in range(_OWNED // 2)]
        persistence.images.save(image("x"))
        for id in ids:
            sessions.add_message(id, message("first"), create=session(id, image_id="x"))
        kept: dict[str, list[str]] = {}

        def move(chance: random.Random = chance, kept: dict[str, list[str]] = kept) -> None:
            time.sleep(chance.random() * 0.002)
            for id in chance.sample(ids, len(ids)):  # noqa: B023
                try:
                    if chance.random() < 0.5:
                        sessions.update(id, {"image_id": "y"})
                        kept[id] = ["first", "second"]
                    else:
                        sessions.save(session(id, image_id="y"))
                        kept[id] = ["second"]
                except RecordNotFoundError:
                    continue
                sessions.add_message(id, message("second"))

        _at_once(lambda: persistence.images.delete("x"), move)
        for _ in range(2):
            assert {s.session_id for s in sessions.find_all(image_id="y")} == set(kept), seed
            for id, acknowledged in kept.items():
                assert texts(persistence, id)[-len(acknowledged) :] == acknowledged, (seed, id)
            persistence.images.delete("x")
        assert {s.session_id for s in sessions.find_all()} == set(kept), seed
        persistence.images.delete("y")


@pytest.mark.timeout(300 if not _IS_LONG else 0)
def test_what_is_saved_into_an_owner_that_is_deleted_stays_as_a_whole_or_goes(
    persistence: Persistence,
) -> None:
    """And what it is when it stays is what it says in each listing."""
    images, sessions = persistence.images, persistence.sessions
    deadline, tries = time.monotonic() + _SECONDS / 2, 0
    while tries < _TRIES and (tries < 3 or time.monotonic() < deadline):
        tries += 1
        persistence.containers.save(container("C"))
        for number in range(5):
            images.save(image(f"x{number}", container_id="C"))
        acknowledged: dict[str, list[str]] = {}

        def save(acknowledged: dict[str, list[str]] = acknowledged) -> None:
            for number in range(8):
                images.save(image(f"x{number}", container_id="C", name=f"new {number}"))
                id = f"s{number}"
                new = session(id, image_id=f"x{number}", container_id="C")
                sessions.add_message(id, message("1"), create=new)
                try:
                    sessions.add_message(id, message("2"))
                except RecordNotFoundError:
                    continue
                acknowledged[id] = ["1", "2"]

        _at_once(lambda: persistence.containers.delete("C"), save)
        listed = {s.session_id for s in sessions.find_all(container_id="C")}
        assert listed == {s.session_id for s in sessions.find_all()}
        for number in range(8):
            id = f"s{number}"
            assert sessions.exists(id) is (id in listed)
            if id in listed:
                assert texts(persistence, id) in (["1", "2"], ["1"])
                assert (texts(persistence, id) == ["1", "2"]) is (id in acknowledged)
            found = images.find(f"x{number}")
            assert images.find_all(name=f"new {number}") == [
                i for i in [found] if i and i.name == f"new {number}"
            ]
        persistence.containers.delete("C")
        assert images.find_all() == sessions.find_all() == []


def test_readers_beside_a_deletion_see_a_session_whole_or_not_at_all(
    persistence: Persistence,
) -> None:
    sessions = persistence.sessions
    sent = [message(str(number)) for number in range(60)]
    ids = [f"s{number}" for number in range(8)]
    for _ in range(3):
        for id in ids:
            sessions.add_messages(id, sent, create=session(id))
        ended = threading.Event()

        def read(ended: threading.Event = ended) -> None:
            while not ended.is_set():
                for id in ids:
                    try:
                        assert sessions.get_messages(id) == sent
                        assert sessions.count_messages(id) == 60
                    except RecordNotFoundError:
                        continue
                for id, summary in sessions.summaries(ids).items():
                    assert (summary.message_count, summary.last_message) == (60, sent[-1]), id

        def delete(ended: threading.Event = ended) -> None:
            try:
                persistence.containers.delete("box")
            finally:
                ended.set()

        _at_once(read, delete)
        assert sessions.find_all() == []


def _at_once(*works: Callable[[], Any]) -> None:
    """Do all of it in threads that begin together; raise what one of them raised."""
    barrier = threading.Barrier(len(works))
    errors: list[BaseException] = []

    def run(work: Callable[[], Any]) -> None:
        barrier.wait()
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
