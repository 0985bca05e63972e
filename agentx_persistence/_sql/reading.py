"""Reading logs. Each result shows the log at one moment, mostly that of one statement."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import count as count_from
from operator import itemgetter
from typing import Any

from sqlalchemy import (
    Select,
    bindparam,
    literal_column,
    null,
    select,
    union_all,
)
from sqlalchemy.engine.interfaces import DBAPICursor as Cursor

from agentx_persistence._sql import tables
from agentx_persistence._sql.documents import DELETED
from agentx_persistence._sql.engine import Database
from agentx_persistence._sql.rows import LogRows
from agentx_persistence._sql.statements import chunks, named, new, numbered, unsearched
from agentx_persistence._sql.windows import Shape, Windows, entry_count, head_row, visible
from agentx_persistence.errors import CorruptRecordError, RecordNotFoundError
from agentx_persistence.storage import Found, Head, Slice, Text, Window

_sessions, _messages = tables.sessions.c, tables.messages.c
# How often a lookup in several statements begins anew after a cut, before it locks the session.
_TRIES = 3


class Reading:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._rows = LogRows(database)
        self._text = database.flavour.body(tables.messages.c.body)
        self._windows = Windows(database.flavour)

    def read(self, log: str, window: Window) -> Slice:
        newest_first = window.last is not None
        limit = window.last if newest_first else window.first
        after, before, size = window.after, window.before, window.size
        shape = Shape(
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
            body = 1 if window.headed else 0
            if any(row[body] is None for row in rows):
                rows = self._fetch(shape, values)
        else:
            rows = self._fetch(shape, values)
        if window.headed:
            return self._headed(log, window, rows)
        if not rows:
            # Only a statement that reads the head as well shows why nothing came.
            return self.read(log, window._replace(headed=True))
        texts = [row[0] for row in rows]
        if newest_first:
            texts.reverse()
        return Slice(texts, None, None)

    def _fetch(self, shape: Shape, values: dict[str, Any]) -> Sequence[Sequence[Any]]:
        statement = self._database.statement(("read", *shape), lambda: self._windows.build(shape))
        return self._database.fetch(statement.sql, statement.bind(values))

    def _headed(self, log: str, window: Window, found: Sequence[Sequence[Any]]) -> Slice:
        # MySQL does not keep the order inside a part of a UNION.
        rows = sorted(found, key=itemgetter(0))
        if not rows or rows[0][0] > 0:
            raise RecordNotFoundError("session", log)
        count, generation, *places = rows.pop(0)
        head = Head(-count, generation)
        expected = expected_places(window, head.count, places)
        if not expected:
            return Slice((), expected.start, head)
        first, last = expected[0], expected[-1]
        if not rows:
            nearest = last if window.last is not None else first
            if self._skips(log, window, nearest):
                raise CorruptRecordError("message", f"#{nearest}", self.where(log, nearest))
            return Slice((), first, head)
        if window.size is not None:
            # The size may have excluded those at the other end.
            first, last = (rows[0][0], last) if window.last is not None else (first, rows[-1][0])
        self.require_whole(log, rows, first, last)
        return Slice([row[1] for row in rows], first, head)

    def _skips(self, log: str, window: Window, nearest: int) -> bool:
        """Return whether the reader would not notice that the row at `nearest` is missing.

        A reader that goes forward through a whole history notices by the count that it ends too
        early. So `transfer.examine` need not report each message that is missing at the end.
        """
        if window.last is not None or window.size is None or isinstance(window.after, str):
            return True
        statement = self._database.statement(
            "further message",
            lambda: (
                select(_messages.position)
                .where(
                    _messages.session_id == bindparam("session"),
                    _messages.position > bindparam("nearest"),
                    _messages.position <= entry_count(),
                )
                .order_by(_messages.position)
                .limit(literal_column("1"))
            ),
        )
        values = {"session": log, "nearest": nearest}
        return bool(self._database.fetch(statement.sql, statement.bind(values)))

    def require_whole(self, log: str, rows: Sequence[Sequence[Any]], first: int, last: int) -> None:
        """Raise if these rows, in order, have not all positions from `first` to `last`."""
        if len(rows) != last - first + 1:
            positions = {row[0] for row in rows}
            missing = next(p for p in count_from(first) if p not in positions)
            raise CorruptRecordError("message", f"#{missing}", self.where(log, missing))

    def lookup(self, log: str, ids: Sequence[str]) -> Found:
        parts = list(chunks(ids)) or [[]]
        for _ in range(_TRIES):
            head, there = self._look_up(log, parts[0])
            for part in parts[1:]:
                now, more = self._look_up(log, part)
                if now.generation != head.generation:
                    break
                # Entries with higher positions were appended after the first statement. Only
                # appends leave the generation as it is.
                there.update({id: found for id, found in more.items() if found[0] <= head.count})
            else:
                return Found(head, there)
        return self._database.write(partial(self._look_up_locked, log=log, ids=ids))

    def _look_up(self, log: str, ids: Sequence[str]) -> tuple[Head, dict[str, tuple[int, Text]]]:
        statement = self._database.statement(("lookup", len(ids)), partial(self._lookup, len(ids)))
        values = {"session": log, **self._database.flavour.sought("ids", ids)}
        head, there = None, {}
        for position, text, name in self._database.fetch(statement.sql, statement.bind(values)):
            if name is None:
                head = Head(-position, text)
            else:
                there[name] = (position, text)
        if head is None:
            raise RecordNotFoundError("session", log)
        return head, there

    def _look_up_locked(self, cursor: Cursor, log: str, ids: Sequence[str]) -> Found:
        state = self._rows.lock_visible(cursor, log)
        there = self._rows.there(cursor, log, ids, state.count)
        return Found(Head(state.count, state.generation), there)

    def head(self, log: str) -> Head:
        statement = self._database.statement(
            "head",
            lambda: select(_sessions.message_count, _sessions.generation).where(*visible()),
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
                    raise CorruptRecordError("message", f"#{count}", self.where(log, count))
                texts: tuple[Text, ...] = () if text is None else (text,)
                found[log] = new(Slice, (texts, count, new(Head, (count, generation))))
        return found

    def where(self, log: str, position: int) -> str:
        place = self._database.flavour.place
        return f"{place}, table agentx_messages, session_id = {log!r}, position = {position}"

    def _newest(self, size: int) -> Select[Any]:
        # The ORDER BY keeps PostgreSQL from reading all messages of the session in the index of ids
        # while it has no statistics of the table.
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
        head = head_row().add_columns(null().label("message_id"))
        if not size:
            return head
        columns = _messages.position, self._text, _messages.message_id
        conditions = (
            _messages.session_id == bindparam("session"),
            unsearched(_messages.position) <= entry_count(),
        )
        flavour = self._database.flavour
        return union_all(
            head, flavour.rows_among(columns, conditions, _messages.message_id, "ids", size)
        )


def expected_places(window: Window, count: int, places: Sequence[int | None] = ()) -> range:
    """Return the positions of the window, without its `size`, in a log with `count` entries.

    :param places: those of the entries that the window names
    :raises RecordNotFoundError: if one of them is not there
    """
    found = iter(places)
    ends: list[int | None] = []
    for end in (window.after, window.before):
        if isinstance(end, str):
            place = next(found)
            if place is None:
                raise RecordNotFoundError("message", end)
            ends.append(place)
        else:
            ends.append(end)
    after, before = ends
    first = max(after or 0, 0) + 1
    last = count if before is None else min(count, before - 1)
    if window.last is not None:
        first = max(first, last - window.last + 1)
    elif window.first is not None:
        last = min(last, first + window.first - 1)
    return range(first, last + 1)
