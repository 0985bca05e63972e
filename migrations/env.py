"""What Alembic runs. The URL: ``-x url=…``, else AGENTX_PERSISTENCE_URL, else alembic.ini.

On PostgreSQL the tables are in the schema of ``-x schema=…``, or of ``?schema=…`` in the URL.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from alembic import context
from sqlalchemy import URL, Connection, MetaData
from sqlalchemy.schema import CreateSchema

from agentx_persistence._sql import schema
from agentx_persistence._sql.tables import METADATA


def _place() -> tuple[URL, str | None]:
    """Return the URL and the schema."""
    url, schema_in_url = schema.split_schema(_url())
    return url, context.get_x_argument(as_dictionary=True).get("schema", schema_in_url)


def _url() -> URL:
    url = (
        context.get_x_argument(as_dictionary=True).get("url")
        or os.environ.get("AGENTX_PERSISTENCE_URL")
        or context.config.get_main_option("sqlalchemy.url")
    )
    if not url:
        raise SystemExit("no URL: give -x url=…, AGENTX_PERSISTENCE_URL or alembic.ini")
    return schema.parse_url(url)


def _metadata(name: str | None) -> MetaData:
    """Return the tables as they are in this schema."""
    if name is None:
        return METADATA
    placed = MetaData(naming_convention=METADATA.naming_convention)
    for table in METADATA.tables.values():
        table.to_metadata(placed, schema=name)
    return placed


def _options(name: str | None) -> dict[str, Any]:
    """Return what Alembic is told of this schema."""

    def is_ours(found: str | None, kind: str, parents: Mapping[str, str | None]) -> bool:
        """Leave the tables of the application alone."""
        if kind == "schema":
            return found == name
        return kind != "table" or found in METADATA.tables

    return {
        "target_metadata": _metadata(name),
        "version_table": schema.VERSION_TABLE,
        "version_table_schema": name,
        "include_schemas": name is not None,
        "include_name": is_ours,
    }


def _migrate(connection: Connection, name: str | None) -> None:
    if name is not None:
        connection = connection.execution_options(schema_translate_map={None: name})
    # One transaction around everything: where the database can, the migrations happen together or
    # not at all, and the revision is read under the lock.
    with connection.begin():
        schema.lock(connection)
        if name is not None:
            connection.execute(CreateSchema(name, if_not_exists=True))
        context.configure(
            connection=connection,
            **_options(name),
            render_as_batch=True,  # SQLite's ALTER TABLE can do next to nothing
            compare_type=True,
            compare_server_default=True,
        )
        context.run_migrations()


if context.is_offline_mode():
    context.configure(
        url=_place()[0],
        **_options(_place()[1]),
        literal_binds=True,
        dialect_opts={"paramstyle": "named"},
    )
    with context.begin_transaction():
        context.run_migrations()
elif (given := context.config.attributes.get("connection")) is not None:
    _migrate(given, context.config.attributes.get("schema"))
else:
    address, wanted = _place()
    with schema.migrating_engine(address).connect() as own:
        _migrate(own, wanted)
