"""The mapped classes."""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import ColumnElement, MetaData, Table, and_, orm
from sqlalchemy.orm import Mapped, foreign, relationship

from agentx_persistence._sql import tables


class Row(orm.DeclarativeBase):
    metadata: ClassVar[MetaData] = tables.METADATA


class ContainerRow(Row):
    __table__: ClassVar[Table] = tables.containers

    container_id: Mapped[str]
    created_at: Mapped[int]
    updated_at: Mapped[int]
    newest: Mapped[int]
    revision: Mapped[str]
    body: Mapped[str]

    images: Mapped[list[ImageRow]] = relationship(
        primaryjoin=lambda: ContainerRow.container_id == foreign(ImageRow.container_id),
        back_populates="container",
        viewonly=True,
    )
    sessions: Mapped[list[SessionRow]] = relationship(
        primaryjoin=lambda: ContainerRow.container_id == foreign(SessionRow.container_id),
        back_populates="container",
        viewonly=True,
    )


class ImageRow(Row):
    __table__: ClassVar[Table] = tables.images

    image_id: Mapped[str]
    container_id: Mapped[str | None]
    session_id: Mapped[str | None]
    name: Mapped[str | None]
    name_digest: Mapped[str | None]
    role_id: Mapped[str | None]
    os_id: Mapped[str | None]
    model: Mapped[str | None]
    thinking: Mapped[str | None]
    prototype_id: Mapped[str | None]
    parent_image_id: Mapped[str | None]
    created_at: Mapped[int]
    updated_at: Mapped[int]
    newest: Mapped[int]
    revision: Mapped[str]
    body: Mapped[str]

    container: Mapped[ContainerRow | None] = relationship(
        primaryjoin=lambda: ContainerRow.container_id == foreign(ImageRow.container_id),
        back_populates="images",
        viewonly=True,
    )
    sessions: Mapped[list[SessionRow]] = relationship(
        primaryjoin=lambda: ImageRow.image_id == foreign(SessionRow.image_id),
        back_populates="image",
        viewonly=True,
    )


class SessionRow(Row):
    __table__: ClassVar[Table] = tables.sessions

    session_id: Mapped[str]
    container_id: Mapped[str | None]
    image_id: Mapped[str | None]
    owners_digest: Mapped[str | None]
    message_count: Mapped[int]
    generation: Mapped[str]
    latest: Mapped[int]
    created_at: Mapped[int]
    updated_at: Mapped[int]
    newest: Mapped[int]
    revision: Mapped[str]
    body: Mapped[str]

    container: Mapped[ContainerRow | None] = relationship(
        primaryjoin=lambda: ContainerRow.container_id == foreign(SessionRow.container_id),
        back_populates="sessions",
        viewonly=True,
    )
    image: Mapped[ImageRow | None] = relationship(
        primaryjoin=lambda: ImageRow.image_id == foreign(SessionRow.image_id),
        back_populates="sessions",
        viewonly=True,
    )
    messages: Mapped[list[MessageRow]] = relationship(
        primaryjoin=lambda: and_(
            SessionRow.session_id == foreign(MessageRow.session_id),
            MessageRow.position <= SessionRow.message_count,
        ),
        order_by=lambda: MessageRow.position,
        back_populates="session",
        viewonly=True,
    )


class MessageRow(Row):
    __table__: ClassVar[Table] = tables.messages

    session_id: Mapped[str]
    position: Mapped[int]
    message_id: Mapped[str]
    role: Mapped[str | None]
    subtype: Mapped[str | None]
    timestamp: Mapped[int | None]
    size: Mapped[int]
    body: Mapped[str]

    session: Mapped[SessionRow] = relationship(
        primaryjoin=lambda: SessionRow.session_id == foreign(MessageRow.session_id),
        back_populates="messages",
        viewonly=True,
    )


class ItemRow(Row):
    __table__: ClassVar[Table] = tables.items

    namespace: Mapped[str]
    key: Mapped[str]
    created_at: Mapped[int]
    updated_at: Mapped[int]
    newest: Mapped[int]
    revision: Mapped[str]
    body: Mapped[str]


def visible(row: Any) -> ColumnElement[bool]:
    """Return the condition for rows that the repositories show.

    :param row: `SessionRow`, `ImageRow`, or an alias of one. For messages, join their session and
        add ``MessageRow.position <= SessionRow.message_count``.
    """
    condition: ColumnElement[bool] = row.revision != ""
    return condition
