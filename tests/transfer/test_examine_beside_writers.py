"""`examine` calls nothing damaged that others only change while it reads."""

from __future__ import annotations

from typing import Any

import pytest

from agentx_persistence import BackendUnavailableError, Persistence, create_persistence
from agentx_persistence.storage import SESSIONS, Trace
from agentx_persistence.transfer import Step, examine
from tests.contract.records import container, image, item, message, session


def _sound(persistence: Persistence) -> None:
    for id in ("box", "other"):
        persistence.containers.save(container(id))
    persistence.images.save(image())
    for n in range(4):
        persistence.sessions.save(session(f"s{n}", created_at=n, updated_at=n))
        persistence.sessions.add_messages(f"s{n}", [message(f"{n}", id=f"m{m}") for m in range(4)])
        persistence.items.save(item(key=f"k{n}"))


def test_what_others_save_move_and_delete_is_no_damage(persistence: Persistence) -> None:
    def write(step: Step) -> None:
        if step.kind == "items":
            persistence.items.save(item(key="new"))
            persistence.items.delete(item().namespace, "k1")
        if step.kind == "images":
            persistence.images.save(image("new"))
        if step.kind == "sessions":
            persistence.sessions.save(session("new"))
            persistence.sessions.save(session("early", created_at=0))
            persistence.sessions.add_message("new", message())
            persistence.sessions.update("s1", {"container_id": "other"})
            persistence.sessions.delete("s2")

    _sound(persistence)
    assert list(examine(persistence, progress=write)) == []


@pytest.mark.parametrize("cuts", [1, 100])
def test_a_history_that_others_cut_is_no_damage(
    persistence: Persistence, cuts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage: Any = persistence._storage
    lookup, left = storage.lookup, [cuts]

    def cut_before(log: str, ids: Any) -> Any:
        if log == "s2" and left[0]:
            left[0] -= 1
            persistence.sessions.rewrite("s2", after=None, messages=[message(id=f"n{left[0]}")])
        return lookup(log, ids)

    _sound(persistence)
    monkeypatch.setattr(storage, "lookup", cut_before)
    found = list(examine(persistence))
    what = "the session 's2' was changed each time it was read"
    note = ("note", what, storage.where(SESSIONS, "s2"))
    assert [finding[:3] for finding in found] == ([] if cuts == 1 else [note])


@pytest.mark.parametrize("method", ["find", "count", "get", "head", "read", "lookup", "traces"])
def test_a_server_that_stops_answering_is_no_damage(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*_: object, **__: object) -> None:
        raise BackendUnavailableError("memory", "no answer")

    with create_persistence() as persistence:
        _sound(persistence)
        monkeypatch.setattr(persistence._storage, method, silent)
        if method == "get":  # is asked only for what no listing has shown
            monkeypatch.setattr(persistence._storage, "traces", lambda _: [Trace("lost", "there")])
        with pytest.raises(BackendUnavailableError):
            list(examine(persistence))
