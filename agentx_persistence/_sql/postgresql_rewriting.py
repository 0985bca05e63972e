"""Rewriting on PostgreSQL: the session changes with its messages in one statement."""

from __future__ import annotations

from functools import partial

from sqlalchemy import Integer, bindparam, delete, func, insert, select, true
from sqlalchemy.sql import ClauseElement

from agentx_persistence._sql import tables
from agentx_persistence._sql.connections import Connections
from agentx_persistence._sql.postgresql_appending import (
    TYPES,
    fits,
    in_binary,
    listed_values,
    unnested,
)
from agentx_persistence._sql.rewriting import FirstAttempt, Rewriting, Tail
from agentx_persistence._sql.rows import COLUMNS

_messages = tables.messages.c


class PostgresqlRewriting(Rewriting):
    """Replaces a tail in a single statement: one round trip, and a transaction of its own."""

    def replace_tail(self, tail: Tail, first: FirstAttempt) -> bool:
        if not fits(self.database, tail.entries):
            return super().replace_tail(tail, first)
        statement = self.database.statement(
            ("replace tail", bool(tail.entries)),
            partial(self._replacing, adding=bool(tail.entries)),
        )
        values = {**tail.values(), **listed_values(tail.entries), "kept": tail.kept}
        sql, bound = in_binary(statement.sql), statement.bind(values)

        def run(connections: Connections) -> bool:
            first.begin(tail.generation)
            done = bool(connections.fetch(sql, bound))
            if not done:
                first.end_unchanged()
            return done

        return self.database.attempt(run, first.was_undone)

    def _replacing(self, adding: bool) -> ClauseElement:
        session = self.reserving().returning(tables.sessions.c.session_id).cte("session")
        kept = bindparam("kept", type_=Integer)
        cut = (
            delete(tables.messages)
            .where(
                _messages.session_id == session.c.session_id,
                _messages.position > kept,
                # Leftovers (see `tables`), too, where the new rows are.
                _messages.position <= func.greatest(bindparam("expected"), bindparam("count")),
            )
            .returning(_messages.position)
            .cte("cut")
        )
        done = select(session.c.session_id)
        if not adding:
            return done.add_cte(cut)
        # The insert reads the number of deleted rows, so PostgreSQL deletes all of them first. The
        # new rows can therefore have the ids and positions of deleted ones.
        number = select(func.count().label("number")).select_from(cut).subquery("gone")
        new = unnested()
        rows = (
            select(
                session.c.session_id,
                kept + new.c.ordinal,
                *(new.c[name] for name in TYPES),
            )
            .select_from(session.join(number, true()).join(new, true()))
            .where(number.c.number >= 0)
        )
        added = insert(tables.messages).from_select(COLUMNS, rows).returning(_messages.position)
        return done.add_cte(added.cte("added"))
