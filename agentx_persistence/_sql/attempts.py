"""A writing statement that may be repeated, and whether an earlier attempt took effect."""

from __future__ import annotations

from typing import Any

from agentx_persistence._sql.connections import Connections
from agentx_persistence._sql.engine import Database
from agentx_persistence._sql.statements import Statement
from agentx_persistence.errors import BackendUnavailableError


class Attempts:
    """A writing statement, and the `number` of its attempts that may have taken effect."""

    def __init__(self, database: Database, statement: Statement, values: dict[str, Any]) -> None:
        self._database = database
        self._statement = (statement.sql, statement.bind(values))
        self.number = 0

    def run(self) -> int:
        self.number = 0
        return self._database.attempt(self._once, self._was_undone)

    def _once(self, connections: Connections) -> int:
        self.number += 1
        return connections.execute(*self._statement)

    def _was_undone(self) -> None:
        self.number = 0

    def require_first(self, what: str) -> None:
        """Raise if an attempt whose answer was lost may have made the change already."""
        if self.number > 1:
            raise answer_lost(self._database.flavour.backend, what)


def answer_lost(backend: str, what: str) -> BackendUnavailableError:
    """Return the error for a change that may or may not have been made."""
    reason = (
        f"the answer to a change of {what} was lost, and others have changed it since; read it to"
        " see whether this call was applied"
    )
    return BackendUnavailableError(backend, reason)
