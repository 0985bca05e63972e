"""The schema: checking its revision, and upgrading it with Alembic's migrations.

Alembic's `context` and `op` are global to the process: two threads that migrate would use each
other's connection, and an Alembic run of the application would lose its own. So each run here has a
migration context of its own, and a migration gets its operations as an argument.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    Connection,
    Dialect,
    Engine,
    MetaData,
    event,
    exc,
    inspect,
    pool,
    text,
)
from sqlalchemy import create_engine as create_sqlalchemy_engine
from sqlalchemy.schema import CreateSchema

from agentx_persistence._sql import hosts
from agentx_persistence._sql.engine import Database
from agentx_persistence._sql.sqlite_library import begin_immediately, sqlite_module
from agentx_persistence._sql.tables import METADATA
from agentx_persistence.errors import BackendUnavailableError, ConfigurationError, SchemaError
from agentx_persistence.storage._retrying import Retries

# All migrations, oldest first. The list is here as well so that an application whose schema is
# current never imports Alembic, which takes longer than the rest of opening a database.
REVISIONS = ("agentx_0001",)
HEAD = REVISIONS[-1]

# Alembic's default name is left to the application's own migrations in the same database.
# Besides `version_num`, the table has a column `oldest`: the oldest revision whose code can use the
# schema as it is now.
VERSION_TABLE = "agentx_alembic_version"

# Any number that no other application is likely to lock.
_LOCK = 4_017_322_951

# MySQL's codes for a table, column, key or row that exists already, and for a table that is being
# changed. They occur if a process migrates at the same moment through another node of a Galera
# cluster, where `_lock` has no effect.
_OVERTAKEN = {1050, 1060, 1061, 1062, 1684}
# How many seconds a migration waits for those of other processes, and for its next attempt.
_SECONDS, _PAUSE = 60.0, 0.05


def current(database: Database) -> str | None:
    """Return the revision of the schema, or ``None`` if there is none. Costs one query.

    For a newer revision that this version of the package can use, return `HEAD`.
    """
    try:
        rows = database.fetch(_question(database.dialect, database.flavour.schema))
    except SchemaError:
        return None
    return _revision(rows)


def revision(engine: Engine, schema: str | None = None) -> str | None:
    """Return the same as `current`, for an engine that nothing else uses.

    :raises SchemaError: if a table is missing though the revision says that it is there
    :raises ConfigurationError: if the place of a SQLite file cannot be looked at
    """
    path = engine.url.database
    if engine.dialect.name == "sqlite" and path and not _exists(path):
        return None  # connecting would create the file
    with engine.connect() as connection:
        there = set(inspect(connection).get_table_names(schema=schema))
        if VERSION_TABLE not in there:
            return None
        question = _question(engine.dialect, schema)
        found = _revision(connection.exec_driver_sql(question).fetchall())
    if found == HEAD and (missing := METADATA.tables.keys() - there):
        raise SchemaError(
            f"the schema has revision {found!r}, but no table {min(missing)}",
            f"restore the table; or, to create it empty, run: DELETE FROM {VERSION_TABLE}, and then"  # noqa: S608
            " upgrade",
        )
    return found


def _exists(path: str) -> bool:
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise ConfigurationError("sqlite", f"{path}: {error.strerror}") from error
    return True


def _question(dialect: Dialect, schema: str | None) -> str:
    table = VERSION_TABLE
    if schema is not None:
        table = f"{dialect.identifier_preparer.quote(schema)}.{table}"
    # All columns, not by name: on MySQL, a migration that is under way may not yet have added the
    # second column.
    return f"SELECT * FROM {table}"  # noqa: S608


def _revision(rows: Sequence[Sequence[Any]]) -> str | None:
    if not rows:
        return None
    found, *oldest = map(str, rows[0])
    # A migration that only adds something must not stop workers that still run this version.
    return HEAD if found not in REVISIONS and oldest[:1] and oldest[0] in REVISIONS else found


def problem(revision: str | None, url: URL) -> SchemaError | None:
    """Return what is wrong with a schema of this revision, if anything."""
    if revision == HEAD:
        return None
    if revision is not None and revision not in REVISIONS:
        return SchemaError(
            f"the schema has revision {revision!r}, which is newer than this version's {HEAD!r}",
            "run: pip install --upgrade agentx-persistence",
        )
    found = "the tables are missing" if revision is None else f"the schema has {revision!r}"
    shown, left_out = _without_secrets(url)
    return SchemaError(
        f"{found}, this version needs revision {HEAD!r}",
        f"run: python -m agentx_persistence upgrade '{shown}'{left_out}",
    )


def _without_secrets(url: URL) -> tuple[str, str]:
    """Return the URL as it can be shown, and what the user has to put into it."""
    if url.host and url.host.startswith("/"):  # a socket's folder has its place in the query
        port = {"port": str(url.port)} if url.port else {}
        url = URL.create(
            url.drivername,
            url.username,
            url.password,
            database=url.database,
            query={**url.query, "host": url.host, **port},
        )
    # SQLAlchemy hides the password before the host, but not those in the query (password,
    # sslpassword, …).
    secret = [name for name in url.query if "pass" in name]
    asked = [f"{name} added to the URL" for name in secret]
    if url.password:
        asked.insert(0, "the password in place of ***")
    shown = url.difference_update_query(secret).render_as_string(hide_password=True)
    return shown, f", with {' and '.join(asked)}" if asked else ""


def migrations() -> Path:
    """Return the folder of the migrations: inside the wheel, or at the top of a checkout."""
    packaged = Path(__file__).parent / "migrations"
    return packaged if packaged.exists() else Path(__file__).parents[2] / "migrations"


def parse_url(url: str | URL, backend: str = "postgresql") -> URL:
    """Return the URL. If it names no client library, add the one that this package installs.

    :param backend: as in `hosts.parse`, which also raises the errors
    """
    parsed = hosts.parse(url, backend)
    drivers = {
        "mysql": "mysql+pymysql",
        "mariadb": "mysql+pymysql",
        "postgres": "postgresql+psycopg",
        "postgresql": "postgresql+psycopg",
    }
    return parsed.set(drivername=drivers.get(parsed.drivername, parsed.drivername))


def split_schema(url: URL) -> tuple[URL, str | None]:
    """Return the URL without ``schema=…``, which client libraries do not know, and the schema."""
    schema = url.query.get("schema") if url.get_backend_name() == "postgresql" else None
    if not isinstance(schema, str):
        return url, None
    return url.difference_update_query(["schema"]), schema


def migrating_engine(url: URL, **options: Any) -> Engine:
    """Return an engine to migrate with, which keeps no connections."""
    if url.get_backend_name() != "sqlite":
        with hosts.checked_options(url.get_backend_name().replace("mariadb", "mysql")):
            engine = create_sqlalchemy_engine(url, poolclass=pool.NullPool, **options)
            hosts.prepare_connecting(engine)
        return engine
    options.setdefault("connect_args", {"timeout": 60})
    options.setdefault("module", sqlite_module())
    engine = create_sqlalchemy_engine(url, poolclass=pool.NullPool, **options)
    begin_immediately(engine)

    @event.listens_for(engine, "connect")
    def _ignore_foreign_keys(connection: Any, record: object) -> None:
        # SQLite's tables are migrated by copying, and with foreign keys enforced, as a listener of
        # the application may have it, the removal of the old table would delete what refers to it
        # (https://alembic.sqlalchemy.org/en/latest/batch.html).
        connection.execute("PRAGMA foreign_keys = OFF").close()

    return engine


def upgrade(engine: Engine, schema: str | None = None, seconds: float = _SECONDS) -> None:
    """Run all missing migrations. Many threads and processes may call this at once.

    :param seconds: how long to wait for other processes that migrate
    :raises BackendUnavailableError: if that was not enough
    """
    deadline, retries = time.monotonic() + seconds, None
    while True:
        try:
            with engine.connect() as connection:
                left = deadline - time.monotonic()
                migrate(connection, schema, lambda bound: _upgrade(bound, schema), left)
            return
        except exc.DBAPIError as error:
            if error.orig is None or not _OVERTAKEN.intersection(error.orig.args):
                raise
            retries = retries or Retries(engine.dialect.name, deadline)
            if not retries.pause(error.orig):
                raise


def _upgrade(connection: Connection, schema: str | None) -> None:
    from alembic.operations import Operations
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    script = ScriptDirectory(str(migrations()))
    steps = {"fn": lambda found, _: script._upgrade_revs("head", found)}
    context = MigrationContext.configure(connection, opts={**options(schema), **steps})
    context.run_migrations(op=Operations(context))


def migrate(
    connection: Connection,
    schema: str | None,
    run: Callable[[Connection], None],
    seconds: float = _SECONDS,
) -> None:
    """Call `run`, which migrates on this connection, while no other process migrates."""
    # One transaction around everything, so that the revision is read under the lock, and a database
    # with transactional DDL takes all migrations or none.
    with connection.begin():
        _lock(connection, seconds)
        if schema is not None and not inspect(connection).has_schema(schema):
            connection.execute(CreateSchema(schema, if_not_exists=True))
        run(connection)


def _lock(connection: Connection, seconds: float) -> None:
    """Let only one process migrate at a time, until the end of the transaction or connection.

    :raises BackendUnavailableError: if another process holds the lock for longer than `seconds`
    """
    if connection.dialect.name == "postgresql":
        # The transaction holds the lock. A lock of the session would outlive this connection if a
        # pooler keeps the session open.
        ask = text(f"SELECT pg_try_advisory_xact_lock({_LOCK})")
    elif connection.dialect.name in {"mysql", "mariadb"}:
        # MySQL ends the transaction at each DDL statement, so the session holds the lock. The
        # connection is detached from the pool, so that it is closed at the end, which releases the
        # lock in any case.
        connection.detach()
        ask = text(f"SELECT GET_LOCK('agentx_{_LOCK}', 0)")
    else:
        return  # SQLite's transaction has the file's lock
    deadline = time.monotonic() + seconds
    # A statement that waits for the lock would look like a server that does not answer.
    while not connection.scalar(ask):
        if time.monotonic() > deadline:
            raise BackendUnavailableError(
                connection.dialect.name,
                f"another process has been migrating for {seconds:.1f} s; try again later",
            )
        time.sleep(_PAUSE)


def options(schema: str | None) -> dict[str, Any]:
    """Return the options of a migration context."""

    def is_ours(found: str | None, kind: str, parents: Mapping[str, str | None]) -> bool:
        """Leave the tables of the application alone."""
        if kind == "schema":
            return found == schema
        return kind != "table" or found in METADATA.tables

    return {
        "target_metadata": _metadata(schema),
        "version_table": VERSION_TABLE,
        "version_table_schema": schema,
        "include_schemas": schema is not None,
        "include_name": is_ours,
        "render_as_batch": True,  # SQLite's ALTER TABLE supports very few changes
        "compare_type": True,
        "compare_server_default": True,
    }


def _metadata(schema: str | None) -> MetaData:
    """Return the metadata with all tables in this schema."""
    if schema is None:
        return METADATA
    placed = MetaData(naming_convention=METADATA.naming_convention)
    for table in METADATA.tables.values():
        table.to_metadata(placed, schema=schema)
    return placed
