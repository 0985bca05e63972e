"""Reading logs. Each result comes from one statement, and so shows the log at one moment."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import count as count_from
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Select,
    and_,
    bindparam,
    case,
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
from agentx_persistence._sql.statements import chunks, named, new, numbered
from agentx_persistence.errors import CorruptRecordError, RecordNotFoundError
from agentx_persistence.storage import Found, Head, Slice, Text, Window

_sessions, _messages = tables.sessions.c, tables.messages.c


class _Shape(NamedTuple):
    """The parts of a window that determine its SQL; the other parts are bound as values."""

    after: type | None
    before: type | None
    newest_first: bool
    limited: bool
    sized: bool
    headed: bool
    small: bool = False  # read NULL instead of texts of more than `most` bytes


# A position, and the conditions for the row that it comes from.
_Bound = tuple[ColumnElement[int], Sequence[ColumnElement[bool]]]


class Reading:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._text = database.flavour.body(tables.messages.c.body)

    def read(self, log: str, window: Window) -> Slice:
        newest_first = window.last is not None
        limit = window.last if newest_first else window.first
        after, before, size = window.after, window.before, window.size
        shape = _Shape(
            None if after is None else type(after),
            None if before is None else type(before),
            newest_first,
            limit is not None,
            size is not None,
            window.headed,
        )
        values = {"session": log, "after": after, "before": before, "limit": limit, "size": size}
        if size is not None and limit:
            values["most"] = size // limit
            rows = self._fetch(shape._replace(sized=False, small=True), values)
            if any(row[-1] is None for row in rows):
                rows = self._fetch(shape, values)
        else:
            rows = self._fetch(shape, values)
        if window.headed:
            return self._headed(log, window, rows)
        if not rows:
            self.head(log)  # raises if there is no such session
            self._require_bounds(log, window)
        texts = [row[0] for row in rows]
        if newest_first:
            texts.reverse()
        return Slice(texts, None, None)

    def _fetch(self, shape: _Shape, values: dict[str, Any]) -> Sequence[Sequence[Any]]:
        statement = self._database.statement(("read", *shape), lambda: self._read(shape))
        return self._database.fetch(statement.sql, statement.bind(values))

    def _headed(self, log: str, window: Window, found: Sequence[Sequence[Any]]) -> Slice:
        # MySQL does not keep the order inside a part of a UNION.
        rows = sorted(found, key=itemgetter(0))
        if not rows or rows[0][0] > 0:
            raise RecordNotFoundError("session", log)
        count, generation = rows.pop(0)
        if not rows:
            self._require_bounds(log, window)
            return Slice((), 1, Head(-count, generation))
        self.require_whole(log, rows, rows[0][0], rows[-1][0])
        return Slice([row[1] for row in rows], rows[0][0], Head(-count, generation))

    def require_whole(self, log: str, rows: Sequence[Sequence[Any]], first: int, last: int) -> None:
        """Raise if these rows, in order, have not all positions from `first` to `last`."""
        if len(rows) != last - first + 1:
            positions = {row[0] for row in rows}
            missing = next(p for p in count_from(first) if p not in positions)
            raise CorruptRecordError("message", "unknown", self.where(log, missing))

    def _require_bounds(self, log: str, window: Window) -> None:
        """Raise if the window, which is empty, is bounded by an entry that does not exist."""
        ids = [bound for bound in (window.after, window.before) if isinstance(bound, str)]
        there = self.lookup(log, ids).there if ids else {}
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
                if name is None:
                    head = Head(-position, text)
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
                texts: tuple[Text, ...] = () if text is None else (text,)
                found[log] = new(Slice, (texts, count, new(Head, (count, generation))))
        return found

    def where(self, log: str, position: int) -> str:
        place = self._database.flavour.place
        return f"{place}, table agentx_messages, session_id = {log!r}, position = {position}"

    def _newest(self, size: int) -> Select[Any]:
        # In order, because PostgreSQL, while it has no statistics of a table, otherwise reads the
        # messages of the session in the index of their ids.
        count, position = _sessions.message_count, _messages.position
        last = (
            select(self._text)
            .where(_messages.session_id == _sessions.session_id, position.between(count, count))
            .order_by(position)
            .limit(literal_column("1"))
            .scalar_subquery()
        )
        return select(
            _sessions.session_id, _sessions.message_count, _sessions.generation, last
        ).where(_sessions.session_id.in_(named("log", size)), _sessions.revision != DELETED)

    def _lookup(self, size: int) -> Any:
        head = _head().add_columns(null().label("message_id"))
        if not size:
            return head
        return union_all(
            head,
            select(_messages.position, self._text, _messages.message_id).where(
                _messages.session_id == bindparam("session"),
                _messages.message_id.in_(named("id", size)),
                _messages.position <= _count(),
            ),
        )

    def _read(self, shape: _Shape) -> Any:
        if shape.small and self._database.flavour.reads_whole_rows:
            window = self._small(shape)
        else:
            text = self._text
            if shape.small:
                text = case((_messages.size <= bindparam("most"), text))
            window = self._window(shape, _columns(shape, _messages.position, text))
            if shape.sized:
                window = window.where(self._within_size(shape))
            window = _ordered(shape, window)
        if not shape.headed:
            return window
        entries = window.subquery()
        return union_all(_head(), select(entries.c.position, entries.c.body))

    def _small(self, shape: _Shape) -> Select[Any]:
        """Return the window, with NULL instead of large texts, which are not read."""
        window = _ordered(shape, self._window(shape, select(_messages.position, _messages.size)))
        places = window.subquery()
        position = places.c.position
        is_small = and_(
            _messages.session_id == bindparam("session"),
            _messages.position == position,
            places.c.size <= bindparam("most"),
        )
        return (
            _columns(shape, position, self._text)
            .select_from(places.outerjoin(tables.messages, is_small))
            .order_by(position.desc() if shape.newest_first else position)
        )

    def _window(self, shape: _Shape, columns: Select[Any]) -> Select[Any]:
        given = [("after", shape.after), ("before", shape.before)]
        if self._database.flavour.finds_bounds_by_join:
            bounds = {name: _joined_place(name, kind) for name, kind in given if kind}
            window = columns.where(*_visible(), _messages.position <= _sessions.message_count)
        else:
            bounds = {name: (_place(name, kind), ()) for name, kind in given if kind}
            window = columns.where(_messages.position <= _count())
        window = window.where(_messages.session_id == bindparam("session"))
        for name, (place, conditions) in bounds.items():
            position = _messages.position
            is_inside = position > place if name == "after" else position < place
            window = window.where(is_inside, *conditions)
        return self._database.flavour.from_index(window, tables.messages, "PRIMARY")

    def _within_size(self, shape: _Shape) -> ColumnElement[bool]:
        """Return the condition for the entries whose texts fit into the size together; the first
        entry is always included."""
        # In a subquery, because window functions are computed before LIMIT is applied.
        rows = _ordered(shape, self._window(shape, select(_messages.position, _messages.size)))
        sizes = rows.subquery()
        order = sizes.c.position.desc() if shape.newest_first else sizes.c.position
        total = func.sum(sizes.c.size).over(order_by=order).label("total")
        number = func.row_number().over(order_by=order).label("number")
        totals = select(sizes.c.position, total, number).subquery()
        furthest = func.min if shape.newest_first else func.max
        fits = or_(totals.c.total <= bindparam("size"), totals.c.number == literal_column("1"))
        last = select(furthest(totals.c.position)).where(fits).scalar_subquery()
        position = _messages.position
        return position >= last if shape.newest_first else position <= last


def _columns(shape: _Shape, position: ColumnElement[Any], text: ColumnElement[Any]) -> Select[Any]:
    body = text.label("body")
    return select(position, body) if shape.headed else select(body)


def _ordered(shape: _Shape, window: Select[Any]) -> Select[Any]:
    position = _messages.position
    window = window.order_by(position.desc() if shape.newest_first else position)
    return window.limit(bindparam("limit")) if shape.limited else window


def _visible() -> list[ColumnElement[bool]]:
    return [_sessions.session_id == bindparam("session"), _sessions.revision != DELETED]


def _head() -> Select[Any]:
    """Return the row of the head. Its count is negated, as entries have positions above 0."""
    count = (-_sessions.message_count).label("position")
    return select(count, _sessions.generation.label("body")).where(*_visible())


def _count() -> ColumnElement[int]:
    return select(_sessions.message_count).where(*_visible()).scalar_subquery()


def _place(parameter: str, kind: type) -> ColumnElement[int]:
    if kind is int:
        return bindparam(parameter)
    place, conditions = _found(parameter, _count())
    return select(place).where(*conditions).scalar_subquery()


def _joined_place(parameter: str, kind: type) -> _Bound:
    """Return the place as a column of one more row of the join, and the conditions for it."""
    if kind is int:
        return bindparam(parameter), ()
    return _found(parameter, _sessions.message_count)


def _found(parameter: str, count: ColumnElement[int]) -> _Bound:
    row = tables.messages.alias(parameter).c
    conditions = (
        row.session_id == bindparam("session"),
        row.message_id == bindparam(parameter),
        row.position <= count,
    )
    return row.position, conditions
