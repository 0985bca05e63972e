from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from agentx_persistence import ConfigurationError, SchemaError, create_persistence
from agentx_persistence.__main__ import main
from agentx_persistence._sql import schema
from agentx_persistence.sqlite import sqlite_driver
from tests.contract.records import container, message, saved_session, texts
from tests.processes import prepared

_CHECKOUT = Path(__file__).parents[2]


def _alembic(url: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    given = ["-x", f"url={url}"] if url else []
    return subprocess.run(
        [sys.executable, "-m", "alembic", *given, *arguments],
        cwd=_CHECKOUT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def _set_revision(path: Path, revision: str, oldest: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            f"UPDATE {schema.VERSION_TABLE} SET version_num = ?, oldest = ?",  # noqa: S608
            (revision, oldest),
        )


def test_the_list_of_revisions_is_that_of_the_migrations() -> None:
    from alembic.script import ScriptDirectory

    script = ScriptDirectory(str(schema.migrations()))
    assert [revision.revision for revision in script.walk_revisions()][::-1] == list(
        schema.REVISIONS
    )


def test_alembic_upgrades_checks_and_downgrades(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'agentx.db'}"
    for command in (["upgrade", "head"], ["check"], ["downgrade", "base"], ["upgrade", "head"]):
        ended = _alembic(url, *command)
        assert ended.returncode == 0, ended.stderr
    with create_persistence(sqlite_driver(tmp_path / "agentx.db", migrate=False)) as persistence:
        assert persistence.containers.find_all() == []


def test_alembic_prints_the_sql_without_a_database() -> None:
    ended = _alembic("sqlite:///nowhere/at/all.db", "upgrade", "head", "--sql")
    assert ended.returncode == 0, ended.stderr
    for table in ("containers", "images", "sessions", "messages", "items"):
        assert f"CREATE TABLE IF NOT EXISTS agentx_{table}" in ended.stdout


def test_the_url_comes_from_x_then_the_environment(tmp_path: Path) -> None:
    first, second = tmp_path / "first.db", tmp_path / "second.db"
    variable = {"AGENTX_PERSISTENCE_URL": f"sqlite:///{second}"}
    assert _alembic(f"sqlite:///{first}", "upgrade", "head", **variable).returncode == 0
    assert (first.exists(), second.exists()) == (True, False)
    assert _alembic("", "upgrade", "head", **variable).returncode == 0
    assert second.exists()


def test_without_these_the_url_is_that_of_alembic_ini(tmp_path: Path) -> None:
    (tmp_path / "alembic.ini").write_text(
        (_CHECKOUT / "alembic.ini")
        .read_text()
        .replace("%(here)s", str(_CHECKOUT))
        .replace("sqlite:///agentx.db", f"sqlite:///{tmp_path / 'third.db'}")
    )
    ended = _alembic("", "-c", str(tmp_path / "alembic.ini"), "upgrade", "head")
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "third.db").exists()


def test_a_new_file_is_made_with_its_folder_and_upgraded(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "agentx.db"
    with create_persistence(sqlite_driver(path)) as persistence:
        persistence.containers.save(container())
    assert path.exists()


def test_without_migrate_the_error_names_the_command(tmp_path: Path) -> None:
    path = tmp_path / "agentx.db"
    with pytest.raises(SchemaError) as raised:
        create_persistence(sqlite_driver(path, migrate=False))
    assert f"python -m agentx_persistence upgrade 'sqlite:///{path}'" in str(raised.value)
    with pytest.raises(SchemaError, match="agentx_persistence upgrade"):
        create_persistence(sqlite_driver(":memory:", migrate=False))


def test_a_file_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "agentx.db"
    with create_persistence(sqlite_driver(path)) as persistence:
        persistence.containers.save(container())
    _set_revision(path, "9999", "9998")
    with pytest.raises(SchemaError, match="newer"):
        create_persistence(sqlite_driver(path))
    assert main(["check", f"sqlite:///{path}"]) == 1
    assert main(["upgrade", f"sqlite:///{path}"]) == 1
    _set_revision(path, schema.HEAD, schema.HEAD)
    with create_persistence(sqlite_driver(path)) as persistence:
        assert persistence.containers.exists("box")


def test_a_migration_that_only_adds_something_does_not_stop_workers_of_this_version(
    tmp_path: Path,
) -> None:
    path = tmp_path / "agentx.db"
    with create_persistence(sqlite_driver(path)) as before:
        saved_session(before)
        with closing(sqlite3.connect(path)) as connection, connection:
            for kind in ("containers", "images", "sessions", "messages", "items"):
                connection.execute(f"ALTER TABLE agentx_{kind} ADD COLUMN more TEXT")
            connection.execute("UPDATE agentx_sessions SET more = 'kept'")
        _set_revision(path, "agentx_9999", schema.HEAD)
        before.sessions.add_message("session", message("a"))
        with create_persistence(sqlite_driver(path)) as restarted:
            restarted.sessions.add_message("session", message("b"))
            restarted.sessions.save(restarted.sessions.get("session"))
            assert texts(restarted) == ["a", "b"]
    assert main(["check", f"sqlite:///{path}"]) == 0
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT more FROM agentx_sessions").fetchall() == [("kept",)]
        found = connection.execute(f"SELECT version_num FROM {schema.VERSION_TABLE}").fetchall()  # noqa: S608
        assert found == [("agentx_9999",)]


def test_a_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "agentx.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA encoding = 'UTF-16'")
        connection.execute("CREATE TABLE users (id TEXT)")
    with pytest.raises(ConfigurationError, match="UTF-16le; give a file in UTF-8"):
        create_persistence(sqlite_driver(path))


def test_foreign_keys_that_the_application_enforces_do_not_matter(tmp_path: Path) -> None:
    """As with the listener on all engines that SQLAlchemy's documentation shows."""
    code = (
        "import sys\n"
        "from sqlalchemy import Engine, event\n"
        "@event.listens_for(Engine, 'connect')\n"
        "def enforce(connection, record):\n"
        "    connection.execute('PRAGMA foreign_keys=ON').close()\n"
        "from agentx_persistence._sql import schema\n"
        "engine = schema.migrating_engine(schema.parse_url(sys.argv[1]))\n"
        "with engine.connect() as connection:\n"
        "    assert connection.exec_driver_sql('PRAGMA foreign_keys').scalar() == 0\n"
        "from agentx_persistence.__main__ import main\n"
        "sys.exit(main(['upgrade', sys.argv[1]]))\n"
    )
    address = f"sqlite:///{tmp_path / 'agentx.db'}"
    subprocess.run([sys.executable, "-c", code, address], check=True)


def test_the_command_line_upgrades_and_checks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "agentx.db"
    url = f"sqlite:///{path}"
    assert main(["check", url]) == 1
    assert not path.exists()
    assert "upgrade" in capsys.readouterr().out
    assert main(["upgrade", url]) == 0
    assert main(["check", url]) == 0
    assert "current" in capsys.readouterr().out
    monkeypatch.setenv("AGENTX_PERSISTENCE_URL", url)
    assert main(["check"]) == 0
    assert main(["check", f"sqlite:///{tmp_path}"]) == 2
    assert "error" in capsys.readouterr().err


def _open_new_file(path: Path) -> int:
    with create_persistence(sqlite_driver(path)) as persistence:
        saved_session(persistence)
        return persistence.sessions.add_message("session", message())


def test_eight_processes_open_a_new_file_at_the_same_moment(tmp_path: Path) -> None:
    with prepared().Pool(8) as pool:
        for attempt in range(3):
            path = tmp_path / f"{attempt}.db"
            assert sorted(pool.map(_open_new_file, [path] * 8, chunksize=1)) == list(range(1, 9))
