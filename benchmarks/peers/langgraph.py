from __future__ import annotations

import sqlite3
from importlib.metadata import version
from itertools import count
from typing import Any

from langchain_core.messages import HumanMessage
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.sqlite import SqliteSaver
from psycopg import connect
from psycopg.rows import dict_row

from agentx_persistence.integrations.langgraph import PersistentSaver
from benchmarks.peers.ours import LAST, PAGE, TEXT, Ours, opened, write_ahead


class Langgraph:
    def __init__(self, url: str) -> None:
        self._saver = self._open(url)
        self._threads: dict[str, tuple[Any, list[HumanMessage]]] = {}
        self._steps = count(1)

    def _open(self, url: str) -> Any:
        # As its from_conn_string does; the settings of SQLite are ours.
        if url.startswith("sqlite"):
            connection = sqlite3.connect(url.removeprefix("sqlite:///"), check_same_thread=False)
            write_ahead(connection)
            saver, package = SqliteSaver(connection), "langgraph-checkpoint-sqlite"
        else:
            options = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
            saver, package = PostgresSaver(connect(url, **options)), "langgraph-checkpoint-postgres"
        saver.setup()
        self.version = version(package)
        return saver

    def fill(self, session: str, size: int) -> None:
        config, messages = _config(session), [self.message(session) for _ in range(size)]
        self._threads[session] = self._put(config, messages) if size else config, messages

    def message(self, session: str) -> HumanMessage:
        return HumanMessage(TEXT, id=f"{session} {next(self._steps)}")

    def append(self, session: str, message: HumanMessage) -> None:
        config, messages = self._threads[session]
        messages.append(message)
        self._threads[session] = self._put(config, messages), messages

    def turn(self, session: str, message: HumanMessage) -> None:
        found = self._saver.get_tuple(_config(session))
        known = found.checkpoint["channel_values"]["messages"] if found else []
        config = found.config if found else _config(session)
        self._threads[session] = self._put(config, [*known, message]), [*known, message]

    def load(self, session: str) -> Any:
        found = self._saver.get_tuple(_config(session))
        return found.checkpoint["channel_values"]["messages"][-LAST:]

    def fill_list(self, count: int) -> None:
        for number in range(count):
            self._put(_config(f"listed {number}"), [], owner=f"owner {number // PAGE}")

    def list(self, owner: str) -> Any:
        return [*self._saver.list(None, filter={"owner": owner}, limit=PAGE)]

    def _put(self, config: Any, messages: list[HumanMessage], **metadata: str) -> Any:
        step = next(self._steps)
        checkpoint = empty_checkpoint()
        checkpoint["channel_values"] = {"messages": messages}
        checkpoint["channel_versions"] = {"messages": step}
        metadata = {"source": "loop", "step": step, **metadata}
        return self._saver.put(config, checkpoint, metadata, {"messages": step})


class Persistent(Langgraph):
    def _open(self, url: str) -> Any:
        return PersistentSaver(opened(url))


def _config(session: str) -> Any:
    return {"configurable": {"thread_id": session, "checkpoint_ns": ""}}


PAIRS = {
    "langgraph": (Ours, Langgraph),
    "PersistentSaver beside langgraph's": (Persistent, Langgraph),
}
