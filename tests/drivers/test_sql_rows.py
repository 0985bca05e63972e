"""The mapped classes that applications select from and join with their own."""

from __future__ import annotations

import subprocess
import sys

import pytest
from sqlalchemy import Column, String, create_engine, orm, select

from agentx_persistence import SessionRecord, UserMessage
from agentx_persistence._sql import schema, tables
from agentx_persistence.sql import (
    METADATA,
    ContainerRow,
    ImageRow,
    ItemRow,
    MessageRow,
    SessionRow,
    leave_tables_alone,
    visible,
)
from tests.backends.backend import Backend
from tests.contract.records import container, image


class Base(orm.DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"

    id = Column(String(255), primary_key=True)
    name = Column(String(255))


def test_an_application_joins_its_own_tables_with_ours(sqlite_backend: Backend) -> None:
    engine = create_engine(f"sqlite:///{sqlite_backend.arguments[0]}")
    Base.metadata.create_all(engine)
    with sqlite_backend.open() as persistence:
        persistence.containers.save(container("box"))
        persistence.images.save(image("image", container_id="box"))
        for id in ("one", "two"):
            made = SessionRecord(session_id=id, container_id="box", image_id="image")
            for text in ("first", "second"):
                message = UserMessage(content=text, timestamp=5)
                persistence.sessions.add_message(id, message, create=made)
        persistence.sessions.truncate_after("two", persistence.sessions.get_messages("two")[0].id)
    with orm.Session(engine) as unit, unit.begin():
        unit.add(User(id="box", name="Ada"))
        unit.flush()
        listed = unit.execute(
            select(User.name, SessionRow.session_id, SessionRow.message_count)
            .join(SessionRow, SessionRow.container_id == User.id)
            .where(visible(SessionRow))
            .order_by(SessionRow.session_id)
        ).all()
        assert listed == [("Ada", "one", 2), ("Ada", "two", 1)]
        one = unit.get_one(SessionRow, "one")
        assert [(m.position, m.role, m.subtype, m.timestamp) for m in one.messages] == [
            (1, "user", "user", 5),
            (2, "user", "user", 5),
        ]
        assert one.messages[0].session is one
        assert one.image is not None
        assert one.image.container is one.container is unit.get_one(ContainerRow, "box")
        assert [image.image_id for image in one.container.images] == ["image"]
        assert {found.session_id for found in one.image.sessions} == {"one", "two"}
    engine.dispose()


@pytest.mark.parametrize("row", [ContainerRow, ImageRow, SessionRow, MessageRow, ItemRow])
def test_every_column_has_an_attribute(row: type[orm.DeclarativeBase]) -> None:
    columns = set(row.__table__.columns.keys())
    assert columns <= set(row.__annotations__)
    assert row.__table__.metadata is METADATA is tables.METADATA


def test_the_applications_alembic_leaves_our_tables_alone() -> None:
    for name in (*METADATA.tables, schema.VERSION_TABLE):
        assert not leave_tables_alone(name, "table", {})
    assert leave_tables_alone("users", "table", {})
    assert leave_tables_alone("agentx_sessions", "schema", {})


def test_importing_a_driver_does_not_import_the_orm() -> None:
    drivers = ("sqlite", "mysql", "postgresql")
    code = "".join(f"import agentx_persistence.{name}\n" for name in drivers)
    code += "import sys; assert 'sqlalchemy.orm' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_deletions_do_not_import_the_orm(sqlite_backend: Backend) -> None:
    code = (
        "import sys\n"
        "from agentx_persistence import SessionRecord, create_persistence\n"
        "from agentx_persistence.sqlite import sqlite_driver\n"
        "with create_persistence(sqlite_driver(sys.argv[1])) as persistence:\n"
        "    persistence.sessions.save(SessionRecord(session_id='s'))\n"
        "    assert persistence.containers.delete('default') is False\n"
        "    assert not persistence.sessions.exists('s')\n"
        "assert 'sqlalchemy.orm' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code, sqlite_backend.arguments[0]], check=True)
