"""The SQL of windows of logs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
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
from agentx_persistence._sql.flavour import Flavour
from agentx_persistence._sql.statements import unsearched

_sessions, _messages = tables.sessions.c, tables.messages.c
_LIMIT = bindparam("limit", type_=BigInteger)
# A position, and the conditions for the row that it comes from.
_Bound = tuple[ColumnElement[int], Sequence[ColumnElement[bool]]]


class Shape(NamedTuple):
    """The parts of a window that determine its SQL; the other parts are bound as values."""

    after: type | None
    before: type | None
    newest_first: bool
    limited: bool
    sized: bool
    headed: bool
    small: bool = False  # read NULL instead of texts of more than `most` bytes


class Windows:
    def __init__(self, flavour: Flavour) -> None:
        self._flavour = flavour
        self._text = flavour.body(tables.messages.c.body)

    def build(self, shape: Shape) -> Any:
        """Return the query of a window: texts, after the head and with positions if so wanted.

        The row of the head then also has the positions of the entries that the window names.
        """
        if self._flavour.reads_whole_rows and (shape.small or shape.sized):
            window = self._by_places(shape)
        else:
            window = self._by_rows(shape)
        if not shape.headed:
            return window
        entries = window.subquery()
        named = [name for name in ("after", "before") if getattr(shape, name) is str]
        return union_all(
            head_row().add_columns(*map(_named_place, named)),
            select(entries.c.position, entries.c.body, *(null() for _ in named)),
        )

    def _by_rows(self, shape: Shape) -> Select[Any]:
        text: ColumnElement[Any] = self._text
        if shape.small:
            text = case((_messages.size <= bindparam("most"), text))
        window = self._window(shape, _columns(shape, _messages.position, text))
        if shape.sized:
            fitting = self._fitting(shape).subquery()
            furthest = func.min if shape.newest_first else func.max
            last = select(furthest(fitting.c.position)).scalar_subquery()
            position = _messages.position
            window = window.where(position >= last if shape.newest_first else position <= last)
        return _ordered(shape, window)

    def _by_places(self, shape: Shape) -> Select[Any]:
        """Find the places first, so that no texts are read but those that are wanted."""
        if shape.sized:
            places = self._fitting(shape).subquery()
            wanted = places.c.position
        else:
            sizes = self._sizes(shape).subquery()
            # Without a position no row is looked up. With a condition for the size MySQL would look
            # it up first, with its text.
            wanted = case((sizes.c.size <= bindparam("most"), sizes.c.position)).label("wanted")
            places = select(sizes.c.position, wanted).subquery()
            wanted = places.c.wanted
        row = and_(_messages.session_id == bindparam("session"), _messages.position == wanted)
        position = places.c.position
        return (
            _columns(shape, position, self._text)
            .select_from(places.outerjoin(tables.messages, row))
            .order_by(position.desc() if shape.newest_first else position)
        )

    def _fitting(self, shape: Shape) -> Select[Any]:
        """Return the query of the positions whose texts fit into the size together; the first one
        is always included."""
        # This is a subquery, because window functions are computed before LIMIT is applied.
        sizes = self._sizes(shape).subquery()
        order = sizes.c.position.desc() if shape.newest_first else sizes.c.position
        total = func.sum(sizes.c.size).over(order_by=order).label("total")
        number = func.row_number().over(order_by=order).label("number")
        totals = select(sizes.c.position, total, number).subquery()
        fits = or_(totals.c.total <= bindparam("size"), totals.c.number == literal_column("1"))
        return select(totals.c.position).where(fits)

    def _sizes(self, shape: Shape) -> Select[Any]:
        return _ordered(shape, self._window(shape, select(_messages.position, _messages.size)))

    def _window(self, shape: Shape, columns: Select[Any]) -> Select[Any]:
        given = [("after", shape.after), ("before", shape.before)]
        bounds: dict[str, _Bound]
        if self._flavour.finds_bounds_by_join:
            count: ColumnElement[int] = _sessions.message_count
            bounds = {name: _joined_place(name, kind) for name, kind in given if kind}
            window = columns.where(*visible())
        else:
            count = entry_count()
            bounds = {name: (_place(name, kind), ()) for name, kind in given if kind}
            window = columns
        window = window.where(_messages.session_id == bindparam("session"))
        for _, conditions in bounds.values():
            window = window.where(*conditions)
        places = {name: place for name, (place, _) in bounds.items()}
        if "after" in places:
            window = window.where(_messages.position > places["after"])
        before = places.get("before")
        window = window.where(*ends_before(self._flavour, _messages.position, count, before))
        if shape.limited:
            window = window.where(self._reaches(shape, count, places))
        return self._flavour.from_index(window, tables.messages, "PRIMARY")

    def _reaches(
        self, shape: Shape, count: ColumnElement[int], places: dict[str, ColumnElement[int]]
    ) -> ColumnElement[bool]:
        """Return the condition for the positions that the limit can reach, as there are no gaps.

        Without it, PostgreSQL may read and sort a whole session for some of its messages, if it
        estimates that sessions are short.
        """
        position = _messages.position
        if shape.newest_first:
            end = count + literal_column("1")
            if "before" in places:
                before = places["before"]
                if self._flavour.takes_one_bound:
                    end = self._flavour.earlier(end, before)
                else:
                    end = case((before < end, before), else_=end)
            return position >= end - _LIMIT
        start = places.get("after", literal_column("0"))
        return position <= start + _LIMIT


def ends_before(
    flavour: Flavour,
    position: ColumnElement[int],
    count: ColumnElement[int],
    before: ColumnElement[int] | None,
) -> list[ColumnElement[bool]]:
    """Return the conditions for positions up to the count that are also below `before`, if given.

    If `before` is NULL, no position meets them.
    """
    if before is None:
        return [position <= count]
    if flavour.takes_one_bound:
        return [position < flavour.earlier(count + literal_column("1"), before)]
    return [position <= count, position < before]


def _columns(shape: Shape, position: ColumnElement[Any], text: ColumnElement[Any]) -> Select[Any]:
    body = text.label("body")
    return select(position, body) if shape.headed else select(body)


def _ordered(shape: Shape, window: Select[Any]) -> Select[Any]:
    position = _messages.position
    window = window.order_by(position.desc() if shape.newest_first else position)
    return window.limit(_LIMIT) if shape.limited else window


def visible() -> list[ColumnElement[bool]]:
    return [_sessions.session_id == bindparam("session"), _sessions.revision != DELETED]


def head_row() -> Select[Any]:
    """Return the row of the head. Its count is negated, as entries have positions above 0."""
    count = (-_sessions.message_count).label("position")
    return select(count, _sessions.generation.label("body")).where(*visible())


def entry_count() -> ColumnElement[int]:
    return select(_sessions.message_count).where(*visible()).scalar_subquery()


def _place(parameter: str, kind: type) -> ColumnElement[int]:
    if kind is int:
        return bindparam(parameter)
    place, conditions = found_place(parameter, entry_count())
    return select(place).where(*conditions).scalar_subquery()


def _named_place(parameter: str) -> ColumnElement[int]:
    """Return the place as a column of the row of the head."""
    place, conditions = found_place(parameter, _sessions.message_count)
    found = select(place).where(*conditions).correlate(tables.sessions)
    return found.scalar_subquery().label(parameter)


def _joined_place(parameter: str, kind: type) -> _Bound:
    """Return the place as a column of one more row of the join, and the conditions for it."""
    if kind is int:
        return bindparam(parameter), ()
    return found_place(parameter, _sessions.message_count)


def found_place(parameter: str, count: ColumnElement[int]) -> _Bound:
    """Return the position of the entry whose id is this parameter, and the conditions for it."""
    row = tables.messages.alias(parameter).c
    conditions = (
        row.session_id == bindparam("session"),
        row.message_id == bindparam(parameter),
        unsearched(row.position) <= count,
    )
    return row.position, conditions
