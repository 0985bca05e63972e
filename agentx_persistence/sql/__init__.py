"""The tables as mapped classes, to select and join them with an application's own.

    from agentx_persistence.sql import MessageRow, SessionRow

    select(User, SessionRow).join(SessionRow, SessionRow.container_id == User.id)

Read them, and change nothing through them: the columns must agree with the text in `body`, which is
the record as JSON. A session or an image with an empty `revision` is being deleted: `visible`
leaves it out. Messages past their session's `message_count` are leftovers: `SessionRow.messages`
leaves them out; elsewhere add ``MessageRow.position <= SessionRow.message_count``.

`METADATA` has these tables and no other. Give it to Alembic beside your own to have them compared,
or have them left alone:

    context.configure(..., include_name=leave_tables_alone)
"""

from __future__ import annotations

from agentx_persistence._sql.tables import METADATA
from agentx_persistence.sql.alembic import leave_tables_alone
from agentx_persistence.sql.rows import (
    ContainerRow,
    ImageRow,
    ItemRow,
    MessageRow,
    SessionRow,
    visible,
)

__all__ = [
    "METADATA",
    "ContainerRow",
    "ImageRow",
    "ItemRow",
    "MessageRow",
    "SessionRow",
    "leave_tables_alone",
    "visible",
]
