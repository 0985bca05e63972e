"""`doctor`, `prune`, `upgrade` and `check`."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

from agentx_persistence import SessionRecord, create_persistence

Run = Callable[..., Any]


def _change(url: str, statement: str) -> None:
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection, connection:
        connection.execute(statement)


def test_doctor_finds_no_damage_in_a_sound_store(run: Run, store: str) -> None:
    ended = run("doctor", store)
    assert ended.status == 0
    assert "0 damages" in ended.out
    assert all(finding["severity"] == "note" for finding in run("doctor", store, "--json").json)


def test_doctor_names_a_damaged_message_and_says_what_to_do(run: Run, store: str) -> None:
    _change(store, "UPDATE agentx_messages SET body = '{' WHERE position = 2")
    ended = run("doctor", store)
    assert ended.status == 1
    assert "damage: message 2 of session 'talk' cannot be read" in ended.out
    assert "restore it from a backup" in ended.out


def test_doctor_finds_tables_that_were_changed(run: Run, store: str) -> None:
    _change(store, "ALTER TABLE agentx_sessions ADD COLUMN mine TEXT")
    ended = run("doctor", store)
    assert ended.status == 1
    assert "the tables are not as this version made them" in ended.out
    assert "mine" in ended.out


def test_prune_tells_first_and_then_deletes(run: Run, store: str) -> None:
    with create_persistence(store) as persistence:
        persistence.sessions.save(SessionRecord(session_id="old", created_at=1, updated_at=1))
    dry = run("prune", store, "--inactive", "90d", "--dry-run")
    assert "1 sessions would be deleted" in dry.out
    assert "old" in dry.out
    assert run("prune", store, "--inactive", "90d", "--json").json["sessionId"] == "old"
    assert "0 sessions deleted" in run("prune", store, "--inactive", "90d").out
    with create_persistence(store) as persistence:
        assert [s.session_id for s in persistence.sessions.find_all()] == ["talk"]


def test_prune_refuses_a_time_that_it_does_not_know(run: Run, store: str) -> None:
    refused = run("prune", store, "--inactive", "soon")
    assert refused.status == 2
    assert "90d" in refused.err


def test_check_and_upgrade_of_a_store_without_tables(run: Run) -> None:
    for command in ("check", "upgrade"):
        ended = run(command, "memory:")
        assert ended.status == 0
        assert "no schema" in ended.out
