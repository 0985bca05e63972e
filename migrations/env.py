"""What Alembic runs. The URL: ``-x url=…``, else AGENTX_PERSISTENCE_URL, else alembic.ini."""

from __future__ import annotations

import os
from collections.abc import Mapping

from alembic import context
from sqlalchemy import URL, Connection

from agentx_persistence._sql import schema
from agentx_persistence._sql.tables import METADATA


def _url() -> URL:
    url = (
        context.get_x_argument(as_dictionary=True).get("url")
        or os.environ.get("AGENTX_PERSISTENCE_URL")
        or context.config.get_main_option("sqlalchemy.url")
    )
    if not url:
        raise SystemExit("no URL: give -x url=…, AGENTX_PERSISTENCE_URL or alembic.ini")
    return schema.parse_url(url)


def _is_ours(name: str | None, kind: str, parents: Mapping[str, str | None]) -> bool:
    """Leave the tables of the application alone."""
    return kind != "table" or name in METADATA.tables


def _migrate(connection: Connection) -> None:
    # One transaction around everything: where the database can, the migrations happen together or
    # not at all, and the revision is read under the lock.
    with connection.begin():
        schema.lock(connection)
        context.configure(
            connection=connection,
            target_metadata=METADATA,
            version_table=schema.VERSION_TABLE,
            include_name=_is_ours,
            render_as_batch=True,  # SQLite's ALTER TABLE can do next to nothing
            compare_type=True,
            compare_server_default=True,
        )
        context.run_migrations()


if context.is_offline_mode():
    context.configure(
        url=_url(),
        target_metadata=METADATA,
        version_table=schema.VERSION_TABLE,
        literal_binds=True,
        dialect_opts={"paramstyle": "named"},
    )
    with context.begin_transaction():
        context.run_migrations()
elif (given := context.config.attributes.get("connection")) is not None:
    _migrate(given)
else:
    with schema.migrating_engine(_url()).connect() as own:
        _migrate(own)
