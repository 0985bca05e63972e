from __future__ import annotations

import uuid
from importlib.metadata import version
from typing import Any

from langchain_community import chat_message_histories as histories
from langchain_core.messages import HumanMessage
from langchain_postgres import PostgresChatMessageHistory
from psycopg import connect
from sqlalchemy import create_engine, event

from benchmarks.peers.ours import LAST, TEXT, Ours, with_driver, write_ahead


class Community:
    version = version("langchain-community")

    def __init__(self, url: str) -> None:
        self._histories: dict[str, Any] = {}  # kept open, as by an application that serves them
        self._url, self._engine = url, None
        if not url.startswith("redis"):
            self._engine = create_engine(with_driver(url, postgresql="psycopg", mysql="pymysql"))
        if url.startswith("sqlite"):
            event.listen(self._engine, "connect", write_ahead)

    def fill(self, session: str, size: int) -> None:
        history = self._histories[session] = self._open(session)
        if size:
            history.add_messages([self.message(session) for _ in range(size)])

    def message(self, session: str) -> HumanMessage:
        return HumanMessage(TEXT)

    def append(self, session: str, message: HumanMessage) -> None:
        self._histories[session].add_message(message)

    def load(self, session: str) -> Any:
        return self._histories[session].messages[-LAST:]

    def _open(self, session: str) -> Any:
        if self._engine is None:
            return histories.RedisChatMessageHistory(session, url=self._url)
        return histories.SQLChatMessageHistory(session, connection=self._engine)


class Postgres(Community):
    version = version("langchain-postgres")

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._connection = connect(url)
        PostgresChatMessageHistory.create_tables(self._connection, "history")

    def _open(self, session: str) -> Any:
        id = str(uuid.uuid5(uuid.NAMESPACE_URL, session))  # it takes no other ids
        return PostgresChatMessageHistory("history", id, sync_connection=self._connection)


PAIRS = {"langchain-community": (Ours, Community), "langchain-postgres": (Ours, Postgres)}
