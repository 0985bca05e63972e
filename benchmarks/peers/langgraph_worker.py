from __future__ import annotations

import sqlite3
import sys
from importlib.metadata import version
from itertools import count
from typing import Any

import psycopg
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.sqlite import SqliteSaver
from psycopg.rows import dict_row
from worker import LAST, PAGE, TEXT, Call, serve


class Langgraph:
    notes = {  # noqa: RUF012
        "append": (
            "put: writes the whole history as a new checkpoint, and keeps those before it; threads"
            " are not known; of two that append at once, one hides what the other added"
        ),
        "turn": (
            "get_tuple, which reads the whole history, and one put, of which a graph does more;"
            " ours reads the last 50 and appends"
        ),
        "load": "get_tuple, which reads the whole history, of which the last 50 are then taken",
        "list": "list with a filter on the metadata, in which an owner can be kept",
    }

    def __init__(self, url: str) -> None:
        self._saver = self._open(url)
        self._threads: dict[str, tuple[Any, list[HumanMessage]]] = {}
        self._steps = count(1)

    def _open(self, url: str) -> Any:
        saver: Any
        if url.startswith("sqlite"):
            self.version = version("langgraph-checkpoint-sqlite")
            path = url.removeprefix("sqlite:///")
            # As its from_conn_string does; its setup sets the write-ahead log.
            connection = sqlite3.connect(path, check_same_thread=False)
            connection.execute("PRAGMA synchronous = FULL")
            saver = SqliteSaver(connection)
        else:
            self.version = version("langgraph-checkpoint-postgres")
            # As its from_conn_string does.
            saver = PostgresSaver(
                psycopg.connect(url, autocommit=True, prepare_threshold=0, row_factory=dict_row)
            )
        saver.setup()
        return saver

    def fill(self, session: str, size: int) -> None:
        config = _config(session)
        messages = [HumanMessage(TEXT, id=f"{session} {number}") for number in range(size)]
        if size:
            config = self._put(config, messages)
        self._threads[session] = config, messages

    def append(self, session: str) -> Call:
        config, messages = self._threads[session]
        messages.append(HumanMessage(TEXT, id=f"{session} {len(messages)}"))

        def call() -> None:
            self._threads[session] = self._put(config, messages), messages

        return call

    def turn(self, session: str) -> Call:
        config, messages = self._threads[session]
        added = HumanMessage(TEXT, id=f"{session} {len(messages)}")

        def call() -> None:
            found = self._saver.get_tuple(_config(session))
            known = found.checkpoint["channel_values"]["messages"] if found else []
            after = self._put(found.config if found else config, [*known, added])
            self._threads[session] = after, [*known, added]

        return call

    def load(self, session: str) -> Call:
        def call() -> Any:
            found = self._saver.get_tuple(_config(session))
            return found.checkpoint["channel_values"]["messages"][-LAST:]

        return call

    def fill_list(self, count: int) -> None:
        for number in range(count):
            self._put(_config(f"listed {number}"), [], owner=f"owner {number // PAGE}")

    def list(self, owner: str) -> Call:
        return lambda: list(self._saver.list(None, filter={"owner": owner}, limit=PAGE))

    def _put(self, config: Any, messages: list[HumanMessage], **metadata: str) -> Any:
        step = next(self._steps)
        checkpoint = empty_checkpoint()
        checkpoint["channel_values"] = {"messages": messages}
        checkpoint["channel_versions"] = {"messages": step}
        metadata = {"source": "loop", "step": step, **metadata}
        return self._saver.put(config, checkpoint, metadata, {"messages": step})


class Persistent(Langgraph):
    """This package's saver, for the same framework."""

    version = version("langgraph-checkpoint")
    notes: dict[str, str] = {}  # noqa: RUF012

    def _open(self, url: str) -> Any:
        from agentx_persistence import create_persistence
        from agentx_persistence.integrations.langgraph import PersistentSaver

        migrate = {} if url.startswith("sqlite:") else {"migrate": True}
        return PersistentSaver(create_persistence(url, **migrate))


def _config(session: str) -> Any:
    return {"configurable": {"thread_id": session, "checkpoint_ns": ""}}


if __name__ == "__main__":
    serve({"own": Langgraph, "persistent": Persistent}[sys.argv[1]])
