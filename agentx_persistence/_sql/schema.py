"""The schema: whether it is current, and Alembic to make it so."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, Connection, Engine, event, make_url, pool, text
from sqlalchemy import create_engine as create_sqlalchemy_engine

from agentx_persistence._sql.engine import Database
from agentx_persistence.errors import BackendUnavailableError, SchemaError

if TYPE_CHECKING:
    from alembic.config import Config

# All migrations, oldest first. Listed here, too, so that an application whose schema is current
# never imports Alembic, which takes longer than the rest of opening a database.
REVISIONS = ("agentx_0001",)
HEAD = REVISIONS[-1]

# Alembic's own table of an application can be in the same database.
VERSION_TABLE = "agentx_alembic_version"

# Any number that no other application is likely to lock.
_LOCK = 4_017_322_951


def current(database: Database) -> str | None:
    """Return the revision of the schema, or ``None`` if there is none. Costs one query."""

    table = VERSION_TABLE
    if database.flavour.schema is not None:
        quote = database.dialect.identifier_preparer.quote
        table = f"{quote(database.flavour.schema)}.{table}"
    try:
        rows = database.fetch(f"SELECT version_num FROM {table}")  # noqa: S608
    except SchemaError:
        return None
    return str(rows[0][0]) if rows else None


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
    return SchemaError(
        f"{found}, this version needs revision {HEAD!r}",
        f"run: python -m agentx_persistence upgrade '{_without_secrets(url)}'",
    )


def _without_secrets(url: URL) -> str:
    # SQLAlchemy hides the password before the host, not those behind it (password, sslpassword, …).
    secret = [name for name in url.query if "pass" in name]
    return url.difference_update_query(secret).render_as_string(hide_password=True)


def migrations() -> Path:
    """Return the folder of the migrations: inside the wheel, or at the top of a checkout."""
    packaged = Path(__file__).parent / "migrations"
    return packaged if packaged.exists() else Path(__file__).parents[2] / "migrations"


def parse_url(url: str | URL) -> URL:
    """Return the URL, with this package's driver where it names only the database."""
    parsed = make_url(url)
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
    """Return an engine to migrate with, which keeps no connections.

    Not the application's: SQLite's tables are migrated by copying, and with foreign keys enforced
    the removal of the old table would delete what refers to it
    (https://alembic.sqlalchemy.org/en/latest/batch.html#dealing-with-referencing-foreign-keys).
    """
    if url.get_backend_name() != "sqlite":
        engine = create_sqlalchemy_engine(url, poolclass=pool.NullPool, **options)
        encode_passwords(engine)
        return engine
    options.setdefault("connect_args", {"timeout": 60})
    engine = create_sqlalchemy_engine(url, poolclass=pool.NullPool, **options)
    begin_immediately(engine)
    return engine


def encode_passwords(engine: Engine) -> None:
    """Give PyMySQL passwords in UTF-8, as MySQL's own programs do. It would take Latin-1, and fail
    at other characters with an error that holds the password."""
    if engine.dialect.driver != "pymysql":
        return

    @event.listens_for(engine, "do_connect")
    def _encode(dialect: Any, record: Any, arguments: Any, options: dict[str, Any]) -> None:
        for name in ("password", "passwd"):
            if isinstance(password := options.get(name), str):
                options[name] = password.encode()


def begin_immediately(engine: Engine) -> None:
    """Make SQLAlchemy's transactions on SQLite real ones, which wait for the lock at their start.

    The module would begin them only before the first change, and a transaction that has read
    before it writes is refused at once (https://www.sqlite.org/lang_transaction.html).
    """

    @event.listens_for(engine, "connect")
    def _no_implicit_begin(connection: Any, record: object) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def lock(connection: Connection) -> None:
    """Let only one process migrate at a time, until the end of the transaction or connection.

    :raises BackendUnavailableError: if another process has the lock for a minute
    """
    if connection.dialect.name == "postgresql":
        # Held by the transaction: a lock of the session would be left behind in a pooler.
        connection.execute(text("SET LOCAL lock_timeout = '60s'"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    elif connection.dialect.name in {"mysql", "mariadb"}:
        # MySQL ends the transaction at each DDL statement, so that the session has to hold it; and
        # a session that does not go back to a pool lets go of it in any case.
        connection.detach()
        got = connection.scalar(text("SELECT GET_LOCK(:key, 60)"), {"key": f"agentx_{_LOCK}"})
        if got != 1:
            raise BackendUnavailableError(
                connection.dialect.name, "another process has been migrating for a minute"
            )


def revision(engine: Engine, schema: str | None = None) -> str | None:
    """Return the revision of the schema, or ``None`` if there is none, as Alembic reads it."""
    from alembic.migration import MigrationContext

    path = engine.url.database
    if engine.dialect.name == "sqlite" and path and not Path(path).exists():
        return None  # connecting would make the file
    with engine.connect() as connection:
        names = {"version_table": VERSION_TABLE, "version_table_schema": schema}
        return MigrationContext.configure(connection, opts=names).get_current_revision()


def upgrade(engine: Engine, schema: str | None = None) -> None:
    """Run all migrations that are missing. Safe when many processes do so at once."""
    from alembic import command

    config = _config()
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        config.attributes["schema"] = schema
        command.upgrade(config, "head")


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    # "%" begins an interpolation in Alembic's configuration.
    config.set_main_option("script_location", str(migrations()).replace("%", "%%"))
    return config
