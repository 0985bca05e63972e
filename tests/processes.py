"""New processes that have imported what they need, and so start in milliseconds."""

from __future__ import annotations

import multiprocessing
from multiprocessing.context import ForkServerContext

# What tests import in other processes. The module of a storage imports the client library.
_MODULES = (
    *("pytest", "alembic.command", "psycopg", "pymysql"),
    *("sqlalchemy.dialects.mysql", "sqlalchemy.dialects.postgresql", "sqlalchemy.dialects.sqlite"),
    *(f"agentx_persistence.{name}" for name in ("mysql", "postgresql", "sqlite", "_sql.storage")),
    *(f"agentx_persistence.{name}" for name in ("redis", "_redis.storage")),
    *(f"agentx_persistence.{name}" for name in ("mongodb", "_mongodb.storage")),
    *(f"agentx_persistence.{name}" for name in ("fs", "_fs.storage")),
)


def prepared(*modules: str) -> ForkServerContext:
    """Return the context of new processes. They have imported the modules, and share nothing else.

    One server forks them. It imports only the modules of the first call.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*_MODULES, *modules])
    return context
