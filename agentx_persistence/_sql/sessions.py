"""The contract over SQLAlchemy: sessions and their messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sqlalchemy import Select, bindparam, select

from agentx_persistence import records
from agentx_persistence._sql import tables
from agentx_persistence._sql.appending import Appending
from agentx_persistence._sql.engine import Database
from agentx_persistence._sql.repositories import SqlRepository
from agentx_persistence.arguments import check_message, check_window
from agentx_persistence.errors import RecordNotFoundError
from agentx_persistence.fields import check_id, now
from agentx_persistence.loading import load, readable_id
from agentx_persistence.messages import MESSAGES, Message
from agentx_persistence.records import SessionRecord
from agentx_persistence.repositories import Page, SessionRepository

_STREAM_CHUNK = 500


class SqlSessionRepository(SqlRepository[SessionRecord], SessionRepository):
    record = SessionRecord
    table = tables.sessions
    many = records.SESSIONS

    def __init__(self, database: Database, appending: Appending) -> None:
        super().__init__(database)
        self._appending = appending
        self._text = database.flavour.body(tables.messages.c.body)

    def find_all(
        self,
        *,
        container_id: str | None = None,
        image_id: str | None = None,
        limit: int | None = None,
    ) -> list[SessionRecord]:
        return self._find_all({"container_id": container_id, "image_id": image_id}, limit)

    def find_page(
        self,
        *,
        container_id: str | None = None,
        image_id: str | None = None,
        size: int = 50,
        cursor: str | None = None,
    ) -> Page[SessionRecord]:
        return self._find_page({"container_id": container_id, "image_id": image_id}, size, cursor)

    def find_by_image(self, image_id: str) -> SessionRecord | None:
        check_id("image", image_id)
        newest = self._listed({"image_id": image_id}, 1)
        return newest[0] if newest else None

    def add_message(self, session_id: str, message: Message) -> int:
        return self.add_messages(session_id, [message])[0]

    def add_messages(self, session_id: str, messages: Sequence[Message]) -> list[int]:
        check_id("session", session_id)
        return self._appending.append(session_id, [*map(check_message, messages)], now())

    def get_messages(
        self,
        session_id: str,
        *,
        first: int | None = None,
        last: int | None = None,
        after: str | None = None,
        before: str | None = None,
    ) -> list[Message]:
        check_window(session_id, first, last, after, before)
        bounds = {"after": after, "before": before}
        given = {name: id for name, id in bounds.items() if id is not None}
        limit = first if last is None else last
        statement = self._database.statement(
            ("messages", *given, first is None, last is None),
            lambda: self._window([*given], last is not None, limit is not None),
        )
        values = {"session": session_id, "limit": limit, **given}
        rows = self._database.fetch(statement.sql, statement.bind(values))
        if not rows:
            self._require(session_id, given.values())
        bodies = [row[0] for row in rows]
        if last is not None:
            bodies.reverse()
        return self._messages(session_id, bodies)

    def iter_messages(self, session_id: str) -> Iterator[Message]:
        check_id("session", session_id)
        return self._stream(session_id, self._chunk(session_id, 0))

    def _stream(self, session_id: str, bodies: list[Any]) -> Iterator[Message]:
        position = 0
        while bodies:
            yield from self._messages(session_id, bodies)
            position += len(bodies)
            bodies = self._chunk(session_id, position)

    def _chunk(self, session_id: str, position: int) -> list[Any]:
        statement = self._database.statement(
            "chunk of messages",
            lambda: self._window([], False, True).where(
                tables.messages.c.position > bindparam("position")
            ),
        )
        values = {"session": session_id, "position": position, "limit": _STREAM_CHUNK}
        rows = self._database.fetch(statement.sql, statement.bind(values))
        if not rows:
            self._require(session_id, ())
        return [row[0] for row in rows]

    def count_messages(self, session_id: str) -> int:
        check_id("session", session_id)
        statement = self._database.statement(
            "count of messages",
            lambda: select(tables.sessions.c.message_count).where(self._key == bindparam("id")),
        )
        rows = self._database.fetch(statement.sql, statement.bind({"id": session_id}))
        if not rows:
            raise RecordNotFoundError("session", session_id)
        count: int = rows[0][0]
        return count

    def clear_messages(self, session_id: str) -> int:
        check_id("session", session_id)
        return self._truncate(session_id, None)

    def truncate_after(self, session_id: str, message_id: str) -> int:
        check_id("session", session_id)
        check_id("message", message_id)
        return self._truncate(session_id, message_id)

    def delete(self, id: str) -> bool:
        check_id("session", id)
        from agentx_persistence._sql import units

        return self._database.unit(lambda unit: units.delete_session(unit, id))

    def _truncate(self, session_id: str, message_id: str | None) -> int:
        from agentx_persistence._sql import units

        return self._database.unit(lambda unit: units.truncate(unit, session_id, message_id))

    def _select(self) -> Select[Any]:
        return super()._select().add_columns(tables.sessions.c.updated_at)

    def _load(
        self, rows: Sequence[Sequence[Any]], name: Callable[[int], str]
    ) -> list[SessionRecord]:
        return [
            # The body does not know of messages that were added since it was written.
            record if record.updated_at == at else record._updated(at)
            for record, (_, at) in zip(super()._load(rows, name), rows, strict=True)
        ]

    def _window(self, bounds: list[str], newest_first: bool, limited: bool) -> Any:
        position = tables.messages.c.position
        window = select(self._text).where(tables.messages.c.session_id == bindparam("session"))
        if "after" in bounds:
            window = window.where(position > _position("after").scalar_subquery())
        if "before" in bounds:
            window = window.where(position < _position("before").scalar_subquery())
        window = window.order_by(position.desc() if newest_first else position)
        return window.limit(bindparam("limit")) if limited else window

    def _require(self, session_id: str, message_ids: Any) -> None:
        """Tell an empty answer from a question about something that does not exist."""
        if not self.exists(session_id):
            raise RecordNotFoundError("session", session_id)
        statement = self._database.statement("position of a message", lambda: _position("message"))
        for message_id in message_ids:
            values = {"session": session_id, "message": message_id}
            if not self._database.fetch(statement.sql, statement.bind(values)):
                raise RecordNotFoundError("message", message_id)

    def _messages(self, session_id: str, bodies: list[Any]) -> list[Message]:
        def describe(index: int) -> tuple[str, str, str]:
            statement = self._database.statement(
                "broken message",
                lambda: select(tables.messages.c.message_id, tables.messages.c.position).where(
                    tables.messages.c.session_id == bindparam("session"),
                    self._text == bindparam("body"),
                ),
            )
            values = {"session": session_id, "body": bodies[index]}
            rows = self._database.fetch(statement.sql, statement.bind(values))
            id, position = rows[0] if rows else (readable_id(bodies[index], index + 1), "unknown")
            place = f"{self._database.flavour.place}, table messages"
            return "message", id, f"{place}, session_id = {session_id!r}, position = {position}"

        return load(MESSAGES, bodies, describe)


def _position(parameter: str) -> Select[int]:
    row = tables.messages.alias()
    return select(row.c.position).where(
        row.c.session_id == bindparam("session"), row.c.message_id == bindparam(parameter)
    )
