"""The storage over a `Database`."""

from __future__ import annotations

from agentx_persistence._sql.appending import Appending
from agentx_persistence._sql.engine import Database
from agentx_persistence._sql.repositories import SqlContainerRepository, SqlImageRepository
from agentx_persistence._sql.sessions import SqlSessionRepository
from agentx_persistence.persistence import Storage


class SqlStorage(Storage):
    def __init__(self, database: Database, appending: Appending) -> None:
        self._database = database
        self.containers = SqlContainerRepository(database)
        self.images = SqlImageRepository(database)
        self.sessions = SqlSessionRepository(database, appending)

    def ping(self) -> None:
        self._database.fetch("SELECT 1")

    def close(self) -> None:
        self._database.close()
