from __future__ import annotations

import time
from importlib.metadata import version
from typing import Any
from uuid import uuid4

from agno.db.base import SessionType
from agno.db.mysql import MySQLDb
from agno.db.postgres import PostgresDb
from agno.db.redis import RedisDb
from agno.db.sqlite import SqliteDb
from agno.models.message import Message
from agno.run.agent import RunOutput
from agno.run.base import RunStatus
from agno.session.agent import AgentSession

from benchmarks.peers.ours import LAST, PAGE, TEXT, Ours, with_driver

_CLASSES = {"sqlite": SqliteDb, "postgresql": PostgresDb, "mysql": MySQLDb, "redis": RedisDb}
_DATA = {"agent_data": {"agent_id": "agent", "name": "name"}, "session_data": {"session_state": {}}}


class Agno:
    version = version("agno")

    def __init__(self, url: str) -> None:
        scheme = url.partition(":")[0]
        self._db = _CLASSES[scheme](db_url=with_driver(url, postgresql="psycopg", mysql="pymysql"))
        # The others cannot leave the runs out, of which there are none.
        self._listing = {"include_runs": False} if scheme in ("sqlite", "postgresql") else {}
        self._sizes: dict[str, int] = {}

    def fill(self, session: str, size: int) -> None:
        self._db.upsert_session(_session(session, "user"))
        self._sizes[session] = 0
        for _ in range(size):
            self.append(session, self.message(session))

    def message(self, session: str) -> RunOutput:
        return RunOutput(
            run_id=str(uuid4()),
            agent_id="agent",
            session_id=session,
            user_id="user",
            messages=[Message(role="user", content=TEXT)],
            status=RunStatus.completed,
        )

    def append(self, session: str, run: RunOutput) -> None:
        self._db.upsert_run(run, session, user_id="user", run_index=self._sizes[session])
        self._sizes[session] += 1

    def turn(self, session: str, run: RunOutput) -> None:
        found = self._db.get_session(session, SessionType.AGENT, user_id="user")
        found.upsert_run(run)
        self._db.upsert_session(found)
        self.append(session, run)

    def load(self, session: str) -> Any:
        return self._db.get_session(session, SessionType.AGENT, runs_limit=LAST).runs

    def fill_list(self, count: int) -> None:
        for start in range(0, count, PAGE):
            numbers, owner = range(start, start + PAGE), f"owner {start // PAGE}"
            self._db.upsert_sessions([_session(f"listed {number}", owner) for number in numbers])

    def list(self, owner: str) -> Any:
        newest = {"sort_by": "created_at", "sort_order": "desc", "limit": PAGE, **self._listing}
        return self._db.get_sessions(SessionType.AGENT, user_id=owner, **newest)


def _session(session: str, owner: str) -> AgentSession:
    return AgentSession(session, "agent", user_id=owner, created_at=int(time.time()), **_DATA)


PAIRS = {"agno": (Ours, Agno)}
