"""Importing the histories of other frameworks, each message kept whole.

A message becomes an `OtherMessage` whose subtype is the name of the framework, and which has the
framework's own JSON in one field. Its id is made of the row's, so that a second import writes
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, NamedTuple

from pydantic_core import from_json

from agentx_persistence.errors import ConfigurationError, InvalidRecordError
from agentx_persistence.persistence import Persistence
from agentx_persistence.records import SessionRecord, now
from agentx_persistence.records.messages import OtherMessage
from agentx_persistence.repositories._entries import entry_of
from agentx_persistence.storage import Entry, Stored
from agentx_persistence.transfer import _foreign_sources as sources
from agentx_persistence.transfer._writing import Writer
from agentx_persistence.transfer.ancestor import import_ancestor
from agentx_persistence.transfer.reports import ImportReport, Progress, Step

_BATCH = 500


class _Framework(NamedTuple):
    """Where a framework keeps messages. `role` gives the role of a message's JSON; `time` is the
    column with the time of a message, if there is one."""

    table: str
    message: str
    field: str
    role: Callable[[dict[str, Any]], str]
    time: str | None = None


def openai_role(item: Mapping[str, Any]) -> str:
    """Return the role of an item of the Agents SDK; those without one are a tool's results or the
    model's output."""
    kind = str(item.get("type", ""))
    return str(item.get("role") or ("tool" if kind.endswith("_output") else "assistant"))


def _langchain_role(message: dict[str, Any]) -> str:
    kind = str(message.get("type", "other"))
    return {"human": "user", "ai": "assistant", "AIMessageChunk": "assistant"}.get(kind, kind)


_FRAMEWORKS = {
    "openai-agents": _Framework(
        "agent_messages", "message_data", "item", openai_role, "created_at"
    ),
    "langchain": _Framework("message_store", "message", "message", _langchain_role),
}


def import_foreign(
    kind: str,
    source: str,
    persistence: Persistence,
    *,
    keys: bool = False,
    progress: Progress | None = None,
) -> ImportReport:
    """Read the store of another program into this one; a second time writes nothing.

    :param kind: "agentx", see `import_ancestor`; "openai-agents", for the sessions that its
        ``SQLiteSession`` and ``SQLAlchemySession`` write; "langchain", for the message histories
        of its ``SQLChatMessageHistory``
    :param source: the path of a SQLite file, or the URL of a database
    :param keys: see `import_ancestor`
    :raises ConfigurationError: if the source cannot be read, or is not of this kind
    """
    if kind == "agentx":
        return import_ancestor(source, persistence, keys=keys, progress=progress)
    framework = _FRAMEWORKS.get(kind)
    if framework is None:
        known = ", ".join(["agentx", *_FRAMEWORKS])
        raise ConfigurationError("import", f"{kind!r} is unknown; known are {known}")
    writer = Writer(persistence)
    with sources.rows(source) as select:
        if framework.table not in select.tables:
            reason = f"there is no table {framework.table}, which {kind} writes"
            raise ConfigurationError("import", reason)
        for session_id in _session_ids(select, framework):
            _import_session(kind, framework, select, session_id, writer)
            if progress:
                sessions = writer.report.records.get("sessions", 0)
                progress(Step("import", "sessions", sessions, 0, writer.report.messages))
    return writer.report


def _session_ids(select: sources.Rows, framework: _Framework) -> list[str]:
    ordered = select(framework.table, order="session_id", columns=["session_id"])
    return [session_id for session_id, _ in groupby(row["session_id"] for row in ordered)]


def _import_session(
    kind: str, framework: _Framework, select: sources.Rows, session_id: str, writer: Writer
) -> None:
    session: Stored | None = None
    batch: list[Entry] = []
    for row in select(framework.table, order="id", equal=("session_id", session_id)):
        try:
            values = from_json(row[framework.message])
            at = _millis(row.get(framework.time or ""))
            message = OtherMessage(
                id=f"{kind}_{row['id']}",
                role=framework.role(values),
                subtype=kind,
                timestamp=at,
                **{framework.field: values},
            )
            entry = entry_of(message)
            if session is None:
                begun = at or now()
                record = SessionRecord(
                    session_id=session_id, image_id=kind, created_at=begun, updated_at=begun
                )
                session = Stored(session_id, record.to_json(), begun, "")
                writer.report.unchanged += not writer.session(session)
        except (ValueError, TypeError, AttributeError, InvalidRecordError) as error:
            reason = f"session {session_id!r}, row {row['id']}: {error}"
            writer.report.skipped.append(reason)
            continue
        session = session._replace(updated_at=max(at, session.updated_at))
        batch.append(entry)
        if len(batch) == _BATCH:
            writer.messages(session, batch)
            batch = []
    if session is not None:
        writer.messages(session, batch)


def _millis(time: object) -> int:
    """Return the time of a row, in UTC as these frameworks write it; 0 if it is unknown."""
    if isinstance(time, str):
        try:
            time = datetime.fromisoformat(time)
        except ValueError:
            return 0
    if not isinstance(time, datetime):
        return 0
    return int(time.replace(tzinfo=time.tzinfo or UTC).timestamp() * 1000)
