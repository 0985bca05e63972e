"""The mapped classes, for units of work."""

from __future__ import annotations

from sqlalchemy import orm
from sqlalchemy.orm import Mapped

from agentx_persistence._sql import tables


class Row(orm.DeclarativeBase):
    metadata = tables.METADATA


class ContainerRow(Row):
    __table__ = tables.containers

    container_id: Mapped[str]


class ImageRow(Row):
    __table__ = tables.images

    image_id: Mapped[str]
    container_id: Mapped[str]


class SessionRow(Row):
    __table__ = tables.sessions

    session_id: Mapped[str]
    image_id: Mapped[str]
    container_id: Mapped[str]
    message_count: Mapped[int]


class MessageRow(Row):
    __table__ = tables.messages

    session_id: Mapped[str]
    position: Mapped[int]
    message_id: Mapped[str]
