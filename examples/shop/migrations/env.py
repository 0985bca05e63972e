"""The shop's history. What concerns agentx_persistence is one argument: `include_name`."""

from __future__ import annotations

import os

from alembic import context
from shop.models import Base
from sqlalchemy import create_engine, pool

from agentx_persistence.sql import leave_tables_alone

url = context.config.get_main_option("sqlalchemy.url") or os.environ["SHOP_URL"]
with create_engine(url, poolclass=pool.NullPool).connect() as connection:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        include_name=leave_tables_alone,
        render_as_batch=True,
    )
    with context.begin_transaction():
        context.run_migrations()
