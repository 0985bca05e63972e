"""`doctor`, `prune`, `upgrade` and `check`."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from agentx_persistence import SessionRecord, create_persistence
from tests.backends.urls import url_of

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


@pytest.mark.parametrize("name", ["mysql", "mariadb", "postgresql"])
def test_doctor_finds_no_damage_on_a_server(
    run: Run, request: pytest.FixtureRequest, name: str
) -> None:
    url, _ = url_of(request.getfixturevalue(f"{name}_backend"), name)
    assert run("check", url).status == 0
    found = run("doctor", url, "--json")
    assert found.status == 0, found.out
    assert {finding["severity"] for finding in found.json} <= {"note"}


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("DELETE FROM agentx_sessions", "4 messages have no session"),
        ("UPDATE agentx_sessions SET revision = ''", "1 sessions are half deleted"),
        ("UPDATE agentx_images SET revision = ''", "1 images are half deleted"),
    ],
)
def test_doctor_names_what_nobody_can_read(run: Run, store: str, statement: str, said: str) -> None:
    _change(store, statement)
    assert f"note: {said}" in run("doctor", store).out


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
