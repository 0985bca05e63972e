"""What in the settings of a server can lose acknowledged data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


class DataLossWarning(UserWarning):
    """The server is set up in a way that loses what it acknowledged."""


def dangers(server: Any) -> Iterator[str]:
    """Yield a sentence for each, from what this client of redis-py tells of its server."""
    policy = server.info("memory").get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        yield f"maxmemory-policy is {policy}, not noeviction: data may be evicted"
    appends = server.info("persistence").get("aof_enabled", 1)
    if not appends and not any(server.config_get("save").values()):
        yield "neither appendonly nor save is on: a restart loses all data"
