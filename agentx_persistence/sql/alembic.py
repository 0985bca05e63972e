"""What an application's own Alembic needs to know of this package's tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentx_persistence._sql.schema import VERSION_TABLE
from agentx_persistence._sql.tables import METADATA


def leave_tables_alone(
    name: str | None, kind: str, parents: Mapping[Any, str | None] | None = None
) -> bool:
    """Tell Alembic to compare only tables that are not this package's: its ``include_name``."""
    return kind != "table" or (name != VERSION_TABLE and name not in METADATA.tables)
