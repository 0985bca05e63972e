"""Pruning beside those who use the conversations."""

from __future__ import annotations

import random
from threading import Barrier
from typing import Any

import pytest

from agentx_persistence import Persistence, RecordNotFoundError, SessionRecord
from agentx_persistence.transfer import prune
from tests.contract.records import message, session, texts
from tests.port.test_concurrency import at_once

# After the last change of the sessions that are to be deleted, and before everything else.
_BEFORE = 1_000_000


def _fill(persistence: Persistence, number: int) -> list[str]:
    """Save old sessions with a message each; return their ids in the order of their creation."""
    ids = [f"session {n:03}" for n in range(number)]
    for at, id in enumerate(ids, 1):
        persistence.sessions.add_message(id, message("first"), create=session(id, created_at=at))
        persistence.sessions.save(session(id, created_at=at, updated_at=at))
    return ids


@pytest.mark.parametrize("moment", ["find", "delete"])
def test_a_session_that_gets_a_message_right_before_its_deletion_stays(
    persistence: Persistence, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    _fill(persistence, 3)
    of_class: Any = persistence.sessions if moment == "find" else persistence.sessions._storage
    original = getattr(of_class, moment)

    def used(*arguments: Any, **options: Any) -> Any:
        found = original(*arguments) if moment == "find" else None
        if "session 001" in arguments:
            persistence.sessions.add_message("session 001", message("late"))
        return found if moment == "find" else original(*arguments, **options)

    monkeypatch.setattr(of_class, moment, used)
    deleted = [found.session_id for found in prune(persistence, before=_BEFORE)]
    assert deleted == ["session 000", "session 002"]
    assert texts(persistence, "session 001") == ["first", "late"]
    assert [left.session_id for left in persistence.sessions.find_all()] == ["session 001"]


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_session_that_has_left_the_containers_meanwhile_stays(
    persistence: Persistence, dry_run: bool
) -> None:
    _fill(persistence, 3)
    found = []
    for old in prune(persistence, before=_BEFORE, containers=["box"], dry_run=dry_run):
        found.append(old.session_id)
        moved = session("session 001", container_id="kept", created_at=2, updated_at=2)
        persistence.sessions.save(moved)
    assert found == ["session 000", "session 002"]
    assert texts(persistence, "session 001") == ["first"]


def test_what_is_added_while_sessions_are_pruned_is_either_kept_or_refused(
    persistence: Persistence,
) -> None:
    for attempt in range(3):
        ids = _fill(persistence, 40)
        barrier, chance = Barrier(3), random.Random(attempt)

        def write(
            own: str,
            ids: list[str] = ids,
            barrier: Barrier = barrier,
            chance: random.Random = chance,
        ) -> set[str]:
            """Add a message to each of the sessions, about in the order in which they are pruned;
            return the sessions that have taken it."""
            taken = set()
            order = sorted(ids, key=lambda id: int(id[-3:]) + chance.random() * 6)
            barrier.wait()
            for id in order:
                try:
                    persistence.sessions.add_message(id, message(own))
                except RecordNotFoundError:
                    continue
                taken.add(id)
            return taken

        def clear(barrier: Barrier = barrier) -> list[SessionRecord]:
            barrier.wait()
            return list(prune(persistence, before=_BEFORE))

        one, other, gone = at_once(lambda: write("one"), lambda: write("other"), clear)
        deleted = {found.session_id for found in gone}
        left = {found.session_id for found in persistence.sessions.find_all()}
        assert left == one | other
        assert deleted == {*ids} - left
        for id in left:
            expected = [
                "first",
                *(own for own, its in (("one", one), ("other", other)) if id in its),
            ]
            assert sorted(texts(persistence, id)) == sorted(expected)
        for id in deleted:
            assert not persistence.sessions.exists(id)
        for id in left:
            persistence.sessions.delete(id)
