from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from benchmarks.raw.sql import RawSql, latest

_RESERVE = """
WITH session AS (
  UPDATE raw_sessions SET count = count + %s, at = %s, latest = %s WHERE id = %s RETURNING id, count
)"""
_APPEND = """
INSERT INTO raw_messages SELECT id, count, %s, %s FROM session RETURNING position
"""
_APPEND_MANY = """
INSERT INTO raw_messages
SELECT session.id, session.count - %s + new.number, new.id, new.body
FROM session, unnest(%s::text[], %s::text[]) WITH ORDINALITY AS new (id, body, number)
RETURNING position
"""
_POP = """
DELETE FROM raw_messages AS message USING session
WHERE message.session_id = session.id AND message.position = session.count + 1
RETURNING message.body
"""


class RawPostgresql(RawSql):
    """On a connection in autocommit: one statement is one round trip and one transaction."""

    ID = 'varchar(255) COLLATE "C"'

    def _do(self, sql: str, *values: Any) -> Any:
        return self._connection.execute(sql, values, prepare=True)

    def append(self, session_id: str, messages: Sequence[tuple[str, str]], at: int) -> int:
        added = len(messages)
        reserve = added, at, latest(at), session_id
        if added == 1:
            rows = self._do(_RESERVE + _APPEND, *reserve, *messages[0]).fetchall()
        else:
            ids, bodies = [id for id, _ in messages], [body for _, body in messages]
            rows = self._do(_RESERVE + _APPEND_MANY, *reserve, added, ids, bodies).fetchall()
        if not rows:
            raise LookupError(session_id)
        return max(position for (position,) in rows)

    def pop(self, session_id: str, at: int) -> Any:
        (body,) = self._do(_RESERVE + _POP, -1, at, latest(at), session_id).fetchone()
        return json.loads(body)
