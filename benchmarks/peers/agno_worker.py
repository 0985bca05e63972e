from __future__ import annotations

import time
from importlib.metadata import version
from itertools import count
from typing import Any

from agno.db.base import SessionType
from agno.db.mysql import MySQLDb
from agno.db.postgres import PostgresDb
from agno.db.redis import RedisDb
from agno.db.sqlite import SqliteDb
from agno.db.utils import build_single_run_row
from agno.models.message import Message
from agno.run.agent import RunOutput
from agno.run.base import RunStatus
from agno.session.agent import AgentSession
from worker import LAST, PAGE, TEXT, Call, serve


class Agno:
    version = version("agno")
    notes = {  # noqa: RUF012
        "append": (
            "upsert_run alone, with one message in the run; its caller gives the position; a"
            " different run under a used id silently replaces the old one; Redis accepts an unknown"
            " session"
        ),
        "turn": (
            "what Agent.run does: get_session, which reads the whole history, upsert_session and"
            " upsert_run, each by itself; ours reads the last 50 and appends"
        ),
        "load": "get_session(runs_limit=50), of one message each; Redis reads the whole history",
        "list": "get_sessions; on MariaDB and Redis with their runs, of which there are none; Redis"
        " reads every session of the store",
    }

    def __init__(self, url: str) -> None:
        scheme, rest = url.split(":", 1)
        self._db: Any = {
            "sqlite": lambda: SqliteDb(db_url=url),
            "postgresql": lambda: PostgresDb(db_url=f"postgresql+psycopg:{rest}"),
            "mysql": lambda: MySQLDb(db_url=f"mysql+pymysql:{rest}"),
            "redis": lambda: RedisDb(db_url=url),
        }[scheme]()
        self._in_sql = scheme != "redis"
        self._without_runs = {"include_runs": False} if scheme in ("sqlite", "postgresql") else {}
        self._ids, self._sizes = count(), dict[str, int]()

    def fill(self, session: str, size: int) -> None:
        self._db.upsert_session(_session(session, "user"))
        runs = [self._run(session) for _ in range(size)]
        if self._in_sql and runs:
            # One by one through its interface takes minutes.
            rows = [
                build_single_run_row(run, session, "user", index) for index, run in enumerate(runs)
            ]
            table = self._db._get_table("runs", create_table_if_not_found=True)
            with self._db.Session() as unit, unit.begin():
                unit.execute(table.insert(), rows)
        else:
            for index, run in enumerate(runs):
                self._db.upsert_run(run, session, user_id="user", run_index=index)
        self._sizes[session] = size

    def append(self, session: str) -> Call:
        run, index = self._run(session), self._next(session)
        return lambda: self._db.upsert_run(run, session, user_id="user", run_index=index)

    def turn(self, session: str) -> Call:
        run, index = self._run(session), self._next(session)

        def call() -> None:
            found = self._db.get_session(session, SessionType.AGENT, user_id="user")
            found.upsert_run(run)
            self._db.upsert_session(found)
            self._db.upsert_run(run, session, user_id="user", run_index=index)

        return call

    def load(self, session: str) -> Call:
        get = self._db.get_session
        return lambda: get(session, SessionType.AGENT, runs_limit=LAST).runs

    def fill_list(self, count: int) -> None:
        for start in range(0, count, PAGE):
            numbers = range(start, min(start + PAGE, count))
            owner = f"owner {start // PAGE}"
            self._db.upsert_sessions([_session(f"listed {number}", owner) for number in numbers])

    def list(self, owner: str) -> Call:
        return lambda: self._db.get_sessions(
            SessionType.AGENT,
            user_id=owner,
            limit=PAGE,
            sort_by="created_at",
            sort_order="desc",
            **self._without_runs,
        )

    def _next(self, session: str) -> int:
        self._sizes[session] += 1
        return self._sizes[session] - 1

    def _run(self, session: str) -> RunOutput:
        return RunOutput(
            run_id=f"run {next(self._ids)}",
            agent_id="agent",
            session_id=session,
            user_id="user",
            messages=[Message(role="user", content=TEXT)],
            status=RunStatus.completed,
        )


def _session(session: str, owner: str) -> AgentSession:
    return AgentSession(
        session_id=session,
        agent_id="agent",
        user_id=owner,
        agent_data={"agent_id": "agent", "name": "name"},
        session_data={"session_state": {}},
        created_at=int(time.time()),
    )


if __name__ == "__main__":
    serve(Agno)
