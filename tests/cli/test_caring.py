"""`doctor`, `prune`, `upgrade` and `check`."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from agentx_persistence import SessionRecord, UserMessage, create_persistence
from tests.backends.fs import place
from tests.backends.redis import connected
from tests.backends.urls import url_of
from tests.servers.redis import RedisServer
from tests.transfer.damages import run_sql

Run = Callable[..., Any]

_REMAINS = "does not exist, but some of its data is stored"


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
    assert "the tables differ from those that this version makes" in ended.out
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
        ("DELETE FROM agentx_sessions", f"the session 'talk' {_REMAINS}"),
        ("UPDATE agentx_sessions SET revision = ''", f"the session 'talk' {_REMAINS}"),
        ("UPDATE agentx_images SET revision = ''", f"the image 'agent' {_REMAINS}"),
    ],
)
def test_doctor_names_what_nobody_can_read(run: Run, store: str, statement: str, said: str) -> None:
    _change(store, statement)
    assert f"note: {said}" in run("doctor", store).out


@pytest.mark.parametrize(
    "command", [["list"], ["show", "talk"], ["stats"], ["doctor"], ["prune", "--inactive", "1d"]]
)
def test_a_file_that_is_only_looked_at_gets_no_tables(
    run: Run, tmp_path: Path, command: list[str]
) -> None:
    file = tmp_path / "application.db"
    url = f"sqlite:///{file}"
    _change(url, "CREATE TABLE orders (id INTEGER)")
    before = file.read_bytes()
    name, *rest = command
    ended = run(name, url, *rest)
    assert ended.status != 0
    assert "upgrade" in ended.out + ended.err
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("orders",)]
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    "command",
    [["list"], ["show", "talk"], ["stats"], ["doctor"], ["prune", "--inactive", "1d"], ["check"]],
)
def test_a_folder_that_is_only_looked_at_gets_no_store(
    run: Run, tmp_path: Path, command: list[str]
) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    name, *rest = command
    ended = run(name, f"file://{folder}", *rest)
    assert ended.status != 0
    assert f"there is no store in the folder {folder}" in ended.err
    assert list(folder.iterdir()) == []


def test_a_dry_copy_into_an_empty_folder_makes_no_store(
    run: Run, store: str, tmp_path: Path
) -> None:
    folder = tmp_path / "target"
    folder.mkdir()
    assert run("copy", "--dry-run", store, f"file://{folder}").status == 0
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a filesystem in memory")
@pytest.mark.parametrize("scheme", ["file://", "sqlite:///"])
def test_doctor_notes_a_store_in_memory(run: Run, scheme: str) -> None:
    with TemporaryDirectory(dir="/dev/shm") as folder:
        url = f"{scheme}{folder}/a store"
        create_persistence(url).close()
        ended = run("doctor", url)
    assert ended.status == 0, ended
    assert f"{folder}/a store lies in memory (tmpfs)" in ended.out


@pytest.mark.parametrize("scheme", ["SQLite", "SQLITE+PYSQLITE", "sqlite+aiosqlite"])
def test_each_spelling_of_a_scheme_is_the_same_store(run: Run, store: str, scheme: str) -> None:
    spelt = store.replace("sqlite", scheme, 1)
    for command in ("list", "check", "upgrade", "doctor"):
        assert run(command, spelt) == run(command, store)
        assert run(command, spelt).status == 0


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE agentx_alembic_version SET version_num = 'later', oldest = 'later'", "is newer"),
        ("DROP TABLE agentx_items", "no such table: agentx_items"),
        ("ALTER TABLE agentx_messages DROP COLUMN size", "add_column"),
        ("ALTER TABLE agentx_images DROP COLUMN thinking", "add_column"),
        ("DROP INDEX ix_agentx_sessions_newest_session_id", "add_index"),
    ],
)
def test_doctor_finds_tables_of_another_version(
    run: Run, store: str, statement: str, said: str
) -> None:
    _change(store, statement)
    ended = run("doctor", store)
    assert ended.status == 1, ended
    assert said in ended.out


@pytest.mark.parametrize("command", ["list", "doctor", "check"])
def test_a_revision_of_unknown_origin_is_told(run: Run, store: str, command: str) -> None:
    _change(store, "UPDATE agentx_alembic_version SET version_num = 'theirs'")
    _change(store, "ALTER TABLE agentx_alembic_version DROP COLUMN oldest")
    ended = run(command, store)
    assert ended.status
    assert "the schema has revision 'theirs'" in ended.out + ended.err


@pytest.mark.parametrize("name", ["mysql", "mariadb", "postgresql"])
def test_doctor_finds_changed_tables_on_a_server(
    run: Run, request: pytest.FixtureRequest, name: str
) -> None:
    backend = request.getfixturevalue(f"{name}_backend")
    url, _ = url_of(backend, name)
    run_sql(backend, "ALTER TABLE agentx_items ADD COLUMN mine INTEGER")
    try:
        ended = run("doctor", url)
    finally:
        run_sql(backend, "ALTER TABLE agentx_items DROP COLUMN mine")
    assert ended.status == 1
    assert "'mine'" in ended.out


def _doctor_between(
    run: Run, request: pytest.FixtureRequest, name: str, before: str, after: str
) -> Any:
    """Run `doctor` on this server between two statements."""
    backend = request.getfixturevalue(f"{name}_backend")
    run_sql(backend, before)
    try:
        return run("doctor", url_of(backend, name)[0])
    finally:
        run_sql(backend, after)


@pytest.mark.parametrize(
    ("name", "before", "after", "said"),
    [
        (
            "postgresql",
            "ALTER DATABASE agentx_test SET synchronous_commit = off",
            "ALTER DATABASE agentx_test RESET synchronous_commit",
            "synchronous_commit is off",
        ),
        *(
            (
                name,
                "SET GLOBAL innodb_flush_log_at_trx_commit = 2",
                "SET GLOBAL innodb_flush_log_at_trx_commit = 1",
                "innodb_flush_log_at_trx_commit is 2",
            )
            for name in ("mysql", "mariadb")
        ),
    ],
)
def test_doctor_notes_settings_of_a_database_that_lose_data(
    run: Run, request: pytest.FixtureRequest, name: str, before: str, after: str, said: str
) -> None:
    ended = _doctor_between(run, request, name, before, after)
    assert f"note: {said}: a crash of the machine can lose" in ended.out


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        (
            "postgresql",
            "ALTER DATABASE agentx_test SET synchronous_commit = local",
            "ALTER DATABASE agentx_test RESET synchronous_commit",
        ),
        (
            "mariadb",
            "SET GLOBAL innodb_flush_log_at_trx_commit = 3",
            "SET GLOBAL innodb_flush_log_at_trx_commit = 1",
        ),
    ],
)
def test_doctor_notes_no_setting_that_flushes_at_each_commit(
    run: Run, request: pytest.FixtureRequest, name: str, before: str, after: str
) -> None:
    ended = _doctor_between(run, request, name, before, after)
    assert ended.status == 0
    assert "commit is" not in ended.out


def test_doctor_notes_settings_of_redis_that_lose_data(run: Run, redis_server: RedisServer) -> None:
    with connected(redis_server.url) as client:
        before = client.config_get("maxmemory-policy")["maxmemory-policy"]
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            ended = run("doctor", redis_server.url)
        finally:
            client.config_set("maxmemory-policy", before)
    assert ended.status == 0
    assert "maxmemory-policy is allkeys-lru" in ended.out
    assert "change the server's configuration" in ended.out


def test_prune_tells_first_and_then_deletes(run: Run, store: str) -> None:
    with create_persistence(store) as persistence:
        persistence.sessions.save(SessionRecord(session_id="old", created_at=1, updated_at=1))
    dry = run("prune", store, "--inactive", "90d", "--dry-run")
    assert "1 session would be deleted" in dry.out
    assert "old" in dry.out
    assert run("prune", store, "--inactive", "90d", "--json").json["sessionId"] == "old"
    assert "0 sessions deleted" in run("prune", store, "--inactive", "90d").out
    with create_persistence(store) as persistence:
        assert [s.session_id for s in persistence.sessions.find_all()] == ["talk"]


@pytest.mark.parametrize("time", ["soon", "9" * 5000 + "d", "-1d", "1.5d", "90d\n", "٩d", ""])
def test_prune_refuses_a_time_that_it_does_not_know(run: Run, store: str, time: str) -> None:
    refused = run("prune", store, "--inactive", time)
    assert refused.status == 2
    assert "90d" in refused.err


def test_check_and_upgrade_of_a_store_without_tables(run: Run) -> None:
    for command in ("check", "upgrade"):
        ended = run(command, "memory:")
        assert ended.status == 0
        assert "no schema" in ended.out


def _pages(path: Path) -> list[tuple[str, int]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(
            "SELECT name, rootpage FROM sqlite_master WHERE rootpage > 0"
        ).fetchall()


def test_doctor_finds_each_damaged_page_of_a_file(run: Run, store: str, tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE").fetchall()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    sound = path.read_bytes()
    for name, page in _pages(path):
        path.write_bytes(sound[: (page - 1) * size] + bytes(size) + sound[page * size :])
        ended = run("doctor", store, "--json")
        assert ended.status == 1, name
        assert "damage" in {finding["severity"] for finding in ended.json}
    path.write_bytes(sound)
    assert run("doctor", store).status == 0


@pytest.mark.parametrize("log", [False, True])
def test_doctor_names_a_file_that_cannot_be_read(run: Run, tmp_path: Path, log: bool) -> None:
    with create_persistence(f"file:{tmp_path}/store") as persistence:
        for id in ("one", "other"):
            persistence.sessions.save(SessionRecord(session_id=id))
            persistence.sessions.add_message(id, UserMessage(content="x"))
    record, _ = place(tmp_path / "store", "sessions", "one")
    file = record.with_suffix(".jsonl") if log else record
    file.unlink()
    file.mkdir()  # which raises an error as a bad sector does
    (tmp_path / "store" / "index.sqlite3").unlink()  # so that it is rebuilt without the session
    ended = run("doctor", f"file:{tmp_path}/store")
    assert ended.status == 1
    assert "damage: one of the sessions cannot be read" in ended.out
    assert str(file) in ended.out
