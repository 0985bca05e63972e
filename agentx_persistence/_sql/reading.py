"""Reading logs: each answer is one statement, so that all of it is of one moment."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Select,
    and_,
    bindparam,
    func,
    literal_column,
    null,
    or_,
    select,
    union_all,
)

from agentx_persistence._sql import tables
from agentx_persistence._sql.documents import DELETED
from agentx_persistence._sql.engine import Database
from agentx_persistence._sql.statements import chunks, named, numbered
from agentx_persistence.errors import CorruptRecordError, RecordNotFoundError
from agentx_persistence.storage import Found, Head, Slice, Text, Window

_sessions, _messages = tables.sessions.c, tables.messages.c


class _Shape(NamedTuple):
    """What decides on the statement of a window."""

    after: type | None
    before: type | None
    newest_first: bool
    limited: bool
    sized: bool
    headed: bool


class Reading:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._text = database.flavour.body(tables.messages.c.body)

    def read(self, log: str, window: Window) -> Slice:
        newest_first = window.last is not None
        limit = window.last if newest_first else window.first
        after, before = window.after, window.before
        shape = _Shape(
            None if after is None else type(after),
            None if before is None else type(before),
            newest_first,
            limit is not None,
            window.size is not None,
            window.headed,
        )
        statement = self._database.statement(("read", *shape), lambda: self._read(shape))
        values = {"session": log, "after": after, "before": before, "limit": limit}
        if window.size is not None:
            values["size"] = window.size
        rows = self._database.fetch(statement.sql, statement.bind(values))
        if window.headed:
            return self._headed(log, window, rows)
        if not rows:
            self._require(log, window)
        texts = [row[0] for row in rows]
        if newest_first:
            texts.reverse()
        return Slice(texts, None, None)

    def _headed(self, log: str, window: Window, rows: Sequence[Sequence[Any]]) -> Slice:
        head = None
        entries = []
        for row in rows:
            position, text, generation = row
            if text is None:
                head = Head(position, generation)
            else:
                entries.append(row)
        if head is None or not entries:
            self._require(log, window)
        if head is None:  # created since
            raise RecordNotFoundError("session", log)
        entries.sort(key=lambda row: row[0])
        start = entries[0][0] if entries else 1
        for expected, (position, *_) in enumerate(entries, start):
            if position != expected:
                raise CorruptRecordError("message", "unknown", self.where(log, expected))
        return Slice([text for _, text, _ in entries], start, head)

    def _require(self, log: str, window: Window) -> None:
        """Tell an empty answer from a question about something that does not exist."""
        ids = [bound for bound in (window.after, window.before) if isinstance(bound, str)]
        there = self.lookup(log, ids).there
        for id in ids:
            if id not in there:
                raise RecordNotFoundError("message", id)

    def lookup(self, log: str, ids: Sequence[str]) -> Found:
        head, there = None, {}
        for chunk in chunks(ids) if ids else [[]]:
            statement = self._database.statement(
                ("lookup", len(chunk)), partial(self._lookup, len(chunk))
            )
            values = {"session": log, **numbered("id", chunk)}
            for position, text, name in self._database.fetch(statement.sql, statement.bind(values)):
                if text is None:
                    head = Head(position, name)
                else:
                    there[name] = (position, text)
        if head is None:
            raise RecordNotFoundError("session", log)
        return Found(head, there)

    def head(self, log: str) -> Head:
        statement = self._database.statement(
            "head",
            lambda: select(_sessions.message_count, _sessions.generation).where(*_visible()),
        )
        rows = self._database.fetch(statement.sql, statement.bind({"session": log}))
        if not rows:
            raise RecordNotFoundError("session", log)
        return Head(*rows[0])

    def newest(self, logs: Sequence[str]) -> dict[str, Slice]:
        found: dict[str, Slice] = {}
        for chunk in chunks(logs):
            statement = self._database.statement(
                ("newest", len(chunk)), partial(self._newest, len(chunk))
            )
            values = numbered("log", chunk)
            for log, count, generation, text in self._database.fetch(
                statement.sql, statement.bind(values)
            ):
                if count and text is None:
                    raise CorruptRecordError("message", "unknown", self.where(log, count))
                texts: list[Text] = [] if text is None else [text]
                found[log] = Slice(texts, count, Head(count, generation))
        return found

    def where(self, log: str, position: int) -> str:
        place = self._database.flavour.place
        return f"{place}, table agentx_messages, session_id = {log!r}, position = {position}"

    def _newest(self, size: int) -> Select[Any]:
        last = and_(
            _messages.session_id == _sessions.session_id,
            _messages.position == _sessions.message_count,
        )
        return (
            select(_sessions.session_id, _sessions.message_count, _sessions.generation, self._text)
            .select_from(tables.sessions.outerjoin(tables.messages, last))
            .where(_sessions.session_id.in_(named("log", size)), _sessions.revision != DELETED)
        )

    def _lookup(self, size: int) -> Any:
        if not size:
            return _head()
        return union_all(
            _head(),
            select(_messages.position, self._text, _messages.message_id).where(
                _messages.session_id == bindparam("session"),
                _messages.message_id.in_(named("id", size)),
                _messages.position <= _count(),
            ),
        )

    def _read(self, shape: _Shape) -> Any:
        columns = [_messages.position, self._text.label("body")] if shape.headed else [self._text]
        window = self._window(shape, select(*columns))
        if shape.sized:
            window = window.where(self._within_size(shape))
        window = _ordered(shape, window)
        if not shape.headed:
            return window
        entries = window.subquery()
        return union_all(_head(), select(entries.c.position, entries.c.body, null()))

    def _window(self, shape: _Shape, columns: Select[Any]) -> Select[Any]:
        window = columns.where(
            _messages.session_id == bindparam("session"), _messages.position <= _count()
        )
        if shape.after:
            window = window.where(_messages.position > _place("after", shape.after))
        if shape.before:
            window = window.where(_messages.position < _place("before", shape.before))
        return window

    def _within_size(self, shape: _Shape) -> ColumnElement[bool]:
        """Return the condition for the entries that fit: found by their sizes, without texts."""
        position = _messages.position
        order = position.desc() if shape.newest_first else position
        total = func.sum(self._database.flavour.size(tables.messages.c.body)).over(order_by=order)
        number = func.row_number().over(order_by=order)
        sizes = _ordered(
            shape,
            self._window(shape, select(position, total.label("total"), number.label("number"))),
        ).subquery()
        furthest = func.min if shape.newest_first else func.max
        last = (
            select(furthest(sizes.c.position))
            .where(or_(sizes.c.total <= bindparam("size"), sizes.c.number == literal_column("1")))
            .scalar_subquery()
        )
        return position >= last if shape.newest_first else position <= last


def _ordered(shape: _Shape, window: Select[Any]) -> Select[Any]:
    position = _messages.position
    window = window.order_by(position.desc() if shape.newest_first else position)
    return window.limit(bindparam("limit")) if shape.limited else window


def _visible() -> list[ColumnElement[bool]]:
    return [_sessions.session_id == bindparam("session"), _sessions.revision != DELETED]


def _head() -> Select[Any]:
    """Return the row that tells the head: it has no text."""
    return select(_sessions.message_count, null().label("body"), _sessions.generation).where(
        *_visible()
    )


def _count() -> ColumnElement[int]:
    return select(_sessions.message_count).where(*_visible()).scalar_subquery()


def _place(parameter: str, kind: type) -> ColumnElement[int]:
    if kind is int:
        return bindparam(parameter)
    row = tables.messages.alias()
    return (
        select(row.c.position)
        .where(
            row.c.session_id == bindparam("session"),
            row.c.message_id == bindparam(parameter),
            row.c.position <= _count(),
        )
        .scalar_subquery()
    )
