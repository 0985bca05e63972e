"""A connection that is lent, and the errors of one that is gone."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, PoolProxiedConnection

Pooled = Connection | PoolProxiedConnection


class LostConnectionError(Exception):
    """The connection is gone. The driver's error is the cause."""


class NoConnectionError(LostConnectionError):
    """There was none to begin with."""


class Lease:
    """A connection that is checked out of the pool."""

    __slots__ = ("__weakref__", "connection", "generation", "info", "pooled", "since")

    connection: Any  # the driver's own
    pooled: Pooled
    info: dict[Any, Any]  # SQLAlchemy keeps it as long as the connection
    generation: object
    since: float  # when it was used for the first time
