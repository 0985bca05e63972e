"""What Alembic runs. The URL: ``-x url=…``, else AGENTX_PERSISTENCE_URL, else alembic.ini.

On PostgreSQL the tables are in the schema of ``-x schema=…``, or of ``?schema=…`` in the URL.
"""

from __future__ import annotations

import os
from functools import partial

from alembic import context
from alembic.operations import Operations
from sqlalchemy import URL, Connection
from sqlalchemy.schema import CreateSchema

from agentx_persistence._sql import schema


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


def _run() -> None:
    context.run_migrations(op=Operations(context.get_context()))


def _migrate(name: str | None, connection: Connection) -> None:
    context.configure(connection=connection, **schema.options(name))
    _run()


address, wanted = _place()
if context.is_offline_mode():
    context.configure(
        url=address,
        **schema.options(wanted),
        literal_binds=True,
        dialect_opts={"paramstyle": "named"},
    )
    with context.begin_transaction():
        if wanted is not None:
            context.execute(CreateSchema(wanted, if_not_exists=True))
        _run()
else:
    with schema.migrating_engine(address).connect() as own:
        schema.migrate(own, wanted, partial(_migrate, wanted))
