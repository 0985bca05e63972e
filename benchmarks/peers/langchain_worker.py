from __future__ import annotations

import sys
import uuid
import warnings
from importlib.metadata import version
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its package says that it is no longer developed
    from langchain_community.chat_message_histories import (
        RedisChatMessageHistory,
        SQLChatMessageHistory,
    )
import psycopg
from langchain_core.messages import HumanMessage
from langchain_postgres import PostgresChatMessageHistory
from sqlalchemy import Engine, create_engine, event
from worker import LAST, TEXT, Call, serve

_PROMISES = "sessions are not known and messages have no unique ids: a retry appends twice"
_LOAD = "it can only read the whole history, of which the last 50 are then taken"


class Langchain:
    """Its histories are kept open, as by an application that serves them."""

    notes = {"append": _PROMISES, "load": _LOAD}  # noqa: RUF012

    def __init__(self, url: str) -> None:
        self._histories: dict[str, Any] = {}
        self._url = url

    def fill(self, session: str, size: int) -> None:
        history = self._histories[session] = self._open(session)
        if size:
            history.add_messages([HumanMessage(TEXT) for _ in range(size)])

    def append(self, session: str) -> Call:
        history, message = self._histories[session], HumanMessage(TEXT)
        return lambda: history.add_message(message)

    def load(self, session: str) -> Call:
        history = self._histories[session]
        return lambda: history.messages[-LAST:]

    def _open(self, session: str) -> Any:
        raise NotImplementedError


class Community(Langchain):
    version = version("langchain-community")
    notes = {  # noqa: RUF012
        "append": f"{_PROMISES}; in SQL there is no index by session",
        "load": f"{_LOAD}; in SQL there is no index by session, so that it reads the whole table",
    }

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._engine = None
        if not url.startswith("redis"):
            for scheme, driver in (("postgresql", "psycopg"), ("mysql", "pymysql")):
                url = url.replace(f"{scheme}:", f"{scheme}+{driver}:", 1)
            self._engine = create_engine(url)
            if url.startswith("sqlite"):
                _write_ahead(self._engine)

    def _open(self, session: str) -> Any:
        if self._engine is None:
            return RedisChatMessageHistory(session, url=self._url)
        return SQLChatMessageHistory(session, connection=self._engine)


class Postgres(Langchain):
    version = version("langchain-postgres")

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._connection = psycopg.connect(url)
        PostgresChatMessageHistory.create_tables(self._connection, "history")

    def _open(self, session: str) -> Any:
        id = str(uuid.uuid5(uuid.NAMESPACE_URL, session))  # it takes no other ids
        return PostgresChatMessageHistory("history", id, sync_connection=self._connection)


def _write_ahead(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def set_journal(connection: Any, record: object) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")


if __name__ == "__main__":
    serve({"community": Community, "postgres": Postgres}[sys.argv[1]])
