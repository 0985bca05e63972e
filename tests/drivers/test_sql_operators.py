"""What docs/schema.md promises to those who operate the database."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentx_persistence import ConfigurationError, SchemaError, create_persistence
from agentx_persistence.__main__ import main
from agentx_persistence._sql import schema
from tests.backends.backend import DATABASE_SERVER, Backend
from tests.contract import test_model
from tests.contract.records import message, saved_session, texts
from tests.servers.postgresql import PostgresqlServer

DATABASE = "agentx_operated"
_ROOT = Path(__file__).parents[2]


def _grants(server: Any, role: str) -> list[str]:
    """Return the statements of the page, for the test's database."""
    kind = "postgresql" if isinstance(server, PostgresqlServer) else "mysql"
    page = (_ROOT / "docs" / "schema.md").read_text("utf-8")
    found = re.search(rf"<!-- grants: {kind} {role} -->\n```sql\n(.*?)```", page, re.DOTALL)
    assert found
    text = re.sub(r"\bshop\b", DATABASE, found[1])
    return [statement for statement in text.split(";\n") if statement.strip()]


@pytest.fixture
def server(backend: Backend, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The server with an empty database, and two roles that may do nothing."""
    server = request.getfixturevalue(f"{backend.name}_server")
    server.recreate(DATABASE)
    roles = ("migrator", "application")
    if isinstance(server, PostgresqlServer):
        server.execute(f"REVOKE ALL ON DATABASE {DATABASE} FROM PUBLIC")
        server.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC", database=DATABASE)
        create, remove = "CREATE ROLE {} LOGIN PASSWORD '{}'", "DROP ROLE {}"
    else:
        create, remove = "CREATE USER {} IDENTIFIED BY '{}'", "DROP USER {}"
    for role in roles:
        server.execute(create.format(role, role))
    yield server
    server.check_for_leaks(DATABASE)
    server.execute(f"DROP DATABASE {DATABASE}")
    for role in roles:
        server.execute(remove.format(role))


def _driver(server: Any, role: str, **options: Any) -> Any:
    return server.driver(DATABASE, user=role, password=role, **options)


@pytest.mark.needs(DATABASE_SERVER)
def test_the_grants_of_the_page_are_all_that_the_roles_need(
    server: Any, backend: Backend, report: Callable[[str], None]
) -> None:
    with pytest.raises(ConfigurationError):
        create_persistence(_driver(server, "migrator", migrate=True))
    for statement in _grants(server, "migrator"):
        server.execute(statement, database=DATABASE)
    url = server.url.set(database=DATABASE, username="migrator", password="migrator")
    assert main(["upgrade", url.render_as_string(hide_password=False)]) == 0
    create_persistence(_driver(server, "migrator", migrate=True)).close()
    with pytest.raises(ConfigurationError):
        create_persistence(_driver(server, "application"))
    for statement in _grants(server, "application"):
        server.execute(statement, database=DATABASE)
    options = {**server.options(DATABASE), "user": "application", "password": "application"}
    limited = Backend(backend.name, backend.module, options=options)
    test_model.test_random_operations_do_what_a_plain_model_does_and_readers_see_nothing_wrong(
        limited, report
    )
    with create_persistence(_driver(server, "application")) as persistence:
        saved_session(persistence)
        persistence.containers.delete("default")
    with pytest.raises(Exception, match=r"(?i)denied|permission|must be owner"):
        schema.upgrade(schema.migrating_engine(_downgraded(server, url)))


def _downgraded(server: Any, url: Any) -> Any:
    server.execute(f"DELETE FROM {schema.VERSION_TABLE}", database=DATABASE)  # noqa: S608
    server.execute("DROP TABLE agentx_items", database=DATABASE)
    return schema.parse_url(url.set(username="application", password="application"))


@pytest.mark.needs(DATABASE_SERVER)
def test_the_type_of_a_column_changes_under_open_connections(server: Any) -> None:
    kind = "postgresql" if isinstance(server, PostgresqlServer) else "mysql"
    change = {
        "postgresql": "ALTER TABLE agentx_{} ALTER COLUMN {} TYPE {}",
        "mysql": "ALTER TABLE agentx_{} MODIFY COLUMN {} {}",
    }[kind]
    driver = server.driver(DATABASE, migrate=True, pool_size=2)
    with create_persistence(driver) as persistence:
        saved_session(persistence)
        for number in range(10):  # on PostgreSQL, the statements are prepared now
            persistence.sessions.add_message("session", message(str(number)))
            assert len(texts(persistence)) == number + 1
        for table, column, type in (
            ("messages", "position", "BIGINT"),
            ("messages", "size", "BIGINT"),
            ("sessions", "message_count", "BIGINT"),
        ):
            server.execute(change.format(table, column, type), database=DATABASE)
            persistence.sessions.add_message("session", message(column))
            assert texts(persistence)[-1] == column
        assert persistence.sessions.count_messages("session") == 13


def test_appends_change_no_index_of_the_sessions_on_postgresql(
    postgresql_server: PostgresqlServer, postgresql_backend: Backend
) -> None:
    """PostgreSQL calls them HOT updates: the new version of the row is on the same page."""
    question = (
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'agentx_sessions'"
    )
    database = postgresql_backend.options["database"]
    ((before, hot_before),) = postgresql_server.execute(question, database=database)
    with postgresql_backend.open() as persistence:
        for name in range(20):
            saved_session(persistence, f"s{name}")
        for number in range(30):
            for name in range(20):
                persistence.sessions.add_message(f"s{name}", message(str(number)))
    postgresql_server.check_for_leaks(database)  # a server process counts when it ends, at last
    ((after, hot_after),) = postgresql_server.execute(question, database=database)
    assert after - before >= 600
    options = "SELECT reloptions FROM pg_class WHERE relname = 'agentx_sessions'"
    assert postgresql_server.execute(options, database=database) == [(["fillfactor=70"],)]
    assert (hot_after - hot_before) / (after - before) > 0.85


def test_a_table_that_is_missing_under_the_current_revision_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path / 'agentx.db'}"
    create_persistence(url).close()
    engine = schema.migrating_engine(schema.parse_url(url))
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE agentx_items")
    with pytest.raises(SchemaError, match=r"no table agentx_items; .*DELETE FROM"):
        schema.revision(engine)
    for command in ("check", "upgrade"):
        assert main([command, url]) == 2
    assert "no table agentx_items" in capsys.readouterr().err
    with engine.begin() as connection:
        connection.exec_driver_sql(f"DELETE FROM {schema.VERSION_TABLE}")  # noqa: S608
    assert main(["upgrade", url]) == 0
    with create_persistence(url) as persistence:
        assert persistence.items.find_all(namespace=("a",)) == []


def test_the_diagram_of_the_page_is_that_of_the_tables() -> None:
    script = _ROOT / "scripts" / "schema_diagram.py"
    subprocess.run([sys.executable, script, "--check"], check=True)
