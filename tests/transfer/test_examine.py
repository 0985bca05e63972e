"""`examine` finds each damage, and nothing on a sound store."""

from __future__ import annotations

import importlib
import re
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from agentx_persistence import Persistence
from agentx_persistence.transfer import Finding, examine, prune
from tests.backends.backend import RAW, Backend
from tests.contract.records import container, image, item, message, session
from tests.transfer.given import fill


def _damages(persistence: Persistence) -> list[Finding]:
    return [finding for finding in examine(persistence) if finding.severity == "damage"]


def test_a_sound_store_has_no_damage(persistence: Persistence) -> None:
    fill(persistence, 5)
    assert _damages(persistence) == []


def _sound(persistence: Persistence) -> None:
    persistence.containers.save(container())
    persistence.images.save(image())
    persistence.sessions.save(session())
    sent = [message(str(n), id=f"m{n}") for n in range(5)]
    persistence.sessions.add_messages("session", sent)


def test_a_store_with_all_owners_has_no_note(persistence: Persistence) -> None:
    _sound(persistence)
    persistence.items.save(item())
    assert list(examine(persistence)) == []


def test_owners_without_a_record_are_a_note(persistence: Persistence) -> None:
    persistence.sessions.save(session())
    notes = list(examine(persistence))
    assert {note.severity for note in notes} == {"note"}
    assert {note.what for note in notes} == {
        "no record exists for 1 container of 1 session",
        "no record exists for 1 image of 1 session",
    }


@pytest.mark.needs(RAW)
def test_each_damaged_record_is_found_with_its_place(backend: Backend) -> None:
    module: Any = importlib.import_module(f"tests.backends.{backend.name}")
    with backend.open() as persistence:
        _sound(persistence)
        places = [
            ("containers", "box", None),
            ("images", "image", None),
            ("sessions", "session", 2),
            ("sessions", "session", 4),
        ]
        for kind, id, position in places:
            assert module.corrupt(backend, persistence, kind, id, position, b'{"broken": 1')
    with backend.open() as persistence:
        found = _damages(persistence)
        said = "\n".join(finding.what for finding in found)
        assert "'box' cannot be read" in said
        assert "'image' cannot be read" in said
        assert "message 2 of session 'session' cannot be read" in said
        assert "message 4 of session 'session' cannot be read" in said
        assert all(finding.where and finding.advice for finding in found)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            "UPDATE agentx_sessions SET container_id = 'other'",
            "the listing of sessions with container_id 'box' shows 0 records, not 1",
        ),
        (
            "DELETE FROM agentx_messages WHERE position = 5",
            "session 'session' says that it has 5 messages, but has 4",
        ),
        (
            "UPDATE agentx_messages SET body = replace(body, '\"m2\"', '\"m1\"')",
            "message 3 of session 'session' has the id 'm1', which an earlier message has",
        ),
        (
            "UPDATE agentx_containers SET body = replace(body, '\"box\"', '\"bin\"')",
            "the container 'box' says that its id is 'bin'",
        ),
    ],
)
def test_what_contradicts_itself_is_found(sqlite_backend: Backend, change: str, said: str) -> None:
    with sqlite_backend.open() as persistence:
        _sound(persistence)
    with closing(sqlite3.connect(sqlite_backend.arguments[0])) as connection, connection:
        assert connection.execute(change).rowcount
    with sqlite_backend.open() as persistence:
        assert re.search(said, "\n".join(finding.what for finding in _damages(persistence)))


def test_prune_deletes_what_is_inactive(persistence: Persistence) -> None:
    for n in range(4):
        persistence.sessions.save(session(f"s{n}", created_at=1, updated_at=n))
    persistence.sessions.add_message("s0", message())
    dry = [s.session_id for s in prune(persistence, before=2, dry_run=True)]
    assert dry == ["s1"]
    assert persistence.sessions.count() == 4
    assert [s.session_id for s in prune(persistence, before=3, containers=["box"])] == ["s2", "s1"]
    assert {s.session_id for s in persistence.sessions.find_all()} == {"s0", "s3"}
