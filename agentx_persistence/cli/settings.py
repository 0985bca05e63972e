"""What `doctor` reports about the schema, the settings and the place of a store."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentx_persistence.cli.places import path_of
from agentx_persistence.errors import BackendUnavailableError
from agentx_persistence.transfer import Finding

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

# The settings that decide whether a crash of the machine loses acknowledged data: how to ask for
# each, and what it should be.
_DURABLE = {
    "postgresql": {
        "fsync": ("SHOW fsync", "on"),
        "full_page_writes": ("SHOW full_page_writes", "on"),
        "synchronous_commit": ("SHOW synchronous_commit", "on"),
    },
    "mysql": {
        "innodb_flush_log_at_trx_commit": ("SELECT @@innodb_flush_log_at_trx_commit", "1"),
        "innodb_doublewrite": ("SELECT @@innodb_doublewrite", "1"),
    },
}
# How mountinfo writes blanks and the like in paths.
_OCTAL = re.compile(r"\\([0-7]{3})")
# "3" of MariaDB flushes the log at each commit, as "1" does.
_SAFE = {"remote_apply", "remote_write", "local", "3", "ON", "DETECT_AND_RECOVER"}
# Filesystems that keep nothing on a disk.
_IN_MEMORY = {"tmpfs", "ramfs"}


def _kind_of_filesystem(path: Path) -> str:
    """Return the kind of filesystem that a path lies on, as Linux names it; "" elsewhere.

    See https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html
    """
    try:
        lines = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return ""
    kinds = dict[str, str]()
    for line in lines:
        mount, _, source = line.partition(" - ")
        point = _OCTAL.sub(lambda code: chr(int(code[1], 8)), mount.split(" ")[4])
        kinds[point] = source.partition(" ")[0]
    return next((kinds[str(p)] for p in (path, *path.parents) if str(p) in kinds), "")


def _is_ours(name: str | None, kind: str, parents: object) -> bool:
    return kind != "table" or str(name).startswith("agentx_")


_COMPARED = {
    "version_table": "agentx_alembic_version",
    "include_name": _is_ours,
    "compare_type": True,
    "compare_server_default": True,
}


def _damage_of_file(connection: Connection) -> str:
    """Return what SQLite finds wrong with its own file; "" if nothing is."""
    from sqlalchemy.exc import DatabaseError, OperationalError

    try:
        said = str(connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar())
    except OperationalError:
        raise  # such as for a lock
    except DatabaseError as error:
        said = str(error.orig)
    return "" if said == "ok" else said


def findings(url: str) -> Iterator[Finding]:
    """Yield what is wrong with the place of a store, or with an SQL database."""
    path = path_of(url)
    if path and (kind := _kind_of_filesystem(Path(path).resolve())) in _IN_MEMORY:
        what = f"{path} lies in memory ({kind}): a restart of the machine loses everything"
        yield Finding("note", what, "the place of the store", "move it to a disk")
    if not url.lower().startswith(("sqlite", "postgres", "mysql", "mariadb")):
        return
    from sqlalchemy import NullPool, create_engine
    from sqlalchemy.exc import DBAPIError

    from agentx_persistence._sql import schema
    from agentx_persistence._sql.sqlite_library import sqlite_module

    address, name = schema.split_schema(schema.parse_url(url))
    if address.get_backend_name() == "sqlite" and address.database in (None, "", ":memory:"):
        return
    if address.get_backend_name() == "sqlite":
        # Unlike `migrating_engine`, this engine takes no lock to read.
        engine = create_engine(address, poolclass=NullPool, module=sqlite_module())
    else:
        engine = schema.migrating_engine(address)
    if name is not None:
        _look_into(engine, name)
    family = address.get_backend_name().replace("mariadb", "mysql")
    try:
        yield from _of_database(engine, family, path)
    except DBAPIError as error:
        raise BackendUnavailableError(family, str(error.orig)) from error


def _look_into(engine: Engine, schema: str) -> None:
    """Make this schema of PostgreSQL the default one of the engine's connections."""
    from sqlalchemy import event

    # Before SQLAlchemy asks a connection for its default schema:
    # https://docs.sqlalchemy.org/en/21/dialects/postgresql.html#setting-alternate-search-paths-on-connect
    @event.listens_for(engine, "connect", insert=True)
    def _set_search_path(connection: Any, record: object) -> None:
        path = '"' + schema.replace('"', '""') + '"'
        connection.execute("SELECT set_config('search_path', %s, false)", (path,))
        connection.commit()


def _of_database(engine: Engine, family: str, path: str) -> Iterator[Finding]:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext
    from sqlalchemy import text

    from agentx_persistence._sql.tables import METADATA

    with engine.connect() as connection:
        if family == "sqlite" and (damage := _damage_of_file(connection)):
            what = f"the database file is damaged: {damage}"
            advice = "restore it from a backup; if only indexes are damaged, run REINDEX"
            yield Finding("damage", what, path, advice)
            return
        context = MigrationContext.configure(connection, opts=_COMPARED)
        for difference in compare_metadata(context, METADATA):
            advice = "undo this change; a migration to a newer version could fail because of it"
            what = "the tables differ from those that this version makes"
            yield Finding("damage", what, repr(difference), advice)
        for setting, (question, safe) in _DURABLE.get(family, {}).items():
            found = str(connection.scalar(text(question)))
            if found != safe and found not in _SAFE:
                what = (
                    f"{setting} is {found}: a crash of the machine can lose what was acknowledged"
                )
                yield Finding("note", what, "the server's settings", f"set it to {safe}")
