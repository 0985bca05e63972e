"""LangGraph: `PersistentSaver` keeps its checkpoints, `PersistentStore` its long-term memory."""

from __future__ import annotations

from agentx_persistence.errors import MissingDependencyError

try:
    from agentx_persistence.integrations.langgraph.saver import PersistentSaver
    from agentx_persistence.integrations.langgraph.store import PersistentStore
except ModuleNotFoundError as error:
    raise MissingDependencyError("langgraph", "langgraph") from error

__all__ = ["PersistentSaver", "PersistentStore"]
