"""The units of work: deletions, each of which is one transaction.

They alone need SQLAlchemy's ORM, whose import takes longer than opening a file and reading from it.
So the repositories import this module when the first deletion comes.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, CursorResult, delete, orm, select, update

from agentx_persistence._sql.mappings import ContainerRow, ImageRow, MessageRow, Row, SessionRow
from agentx_persistence.errors import RecordNotFoundError

# How many ids one statement names; SQLite takes 32,766 parameters, older ones 999.
_CHUNK = 500


def delete_container(unit: orm.Session, id: str) -> bool:
    images = unit.scalars(select(ImageRow.image_id).where(ImageRow.container_id == id)).all()
    for start in range(0, len(images), _CHUNK):
        _delete(unit, SessionRow, SessionRow.image_id.in_(images[start : start + _CHUNK]))
    _delete(unit, SessionRow, SessionRow.container_id == id)
    _delete(unit, ImageRow, ImageRow.container_id == id)
    return _delete(unit, ContainerRow, ContainerRow.container_id == id)


def delete_image(unit: orm.Session, id: str) -> bool:
    _delete(unit, SessionRow, SessionRow.image_id == id)
    return _delete(unit, ImageRow, ImageRow.image_id == id)


def delete_session(unit: orm.Session, id: str) -> bool:
    return _delete(unit, SessionRow, SessionRow.session_id == id)


def truncate(unit: orm.Session, session_id: str, message_id: str | None) -> int:
    """Delete the messages behind this one, or all; return how many."""
    # Appending takes the same lock on the session first, so that neither meets the other half-way.
    count = unit.scalar(
        select(SessionRow.message_count)
        .where(SessionRow.session_id == session_id)
        .with_for_update()
    )
    if count is None:
        raise RecordNotFoundError("session", session_id)
    kept = 0
    if message_id is not None:
        position = unit.scalar(
            select(MessageRow.position).where(
                MessageRow.session_id == session_id, MessageRow.message_id == message_id
            )
        )
        if position is None:
            raise RecordNotFoundError("message", message_id)
        kept = position
    unit.execute(
        delete(MessageRow).where(MessageRow.session_id == session_id, MessageRow.position > kept)
    )
    unit.execute(
        update(SessionRow).where(SessionRow.session_id == session_id).values(message_count=kept)
    )
    return count - kept


def _delete(unit: orm.Session, row: type[Row], condition: ColumnElement[bool]) -> bool:
    """Delete the rows of this condition; a foreign key takes a session's messages with it."""
    deleted = unit.execute(delete(row).where(condition))
    return isinstance(deleted, CursorResult) and deleted.rowcount > 0
