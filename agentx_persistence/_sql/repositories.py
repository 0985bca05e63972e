"""The contract over SQLAlchemy: containers and images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import TypeAdapter
from sqlalchemy import Select, Table, bindparam, literal_column, select, update
from sqlalchemy.engine.interfaces import DBAPICursor as Cursor

from agentx_persistence import records
from agentx_persistence._sql import tables
from agentx_persistence._sql.engine import Database
from agentx_persistence._sql.statements import Statement
from agentx_persistence.arguments import (
    MetadataChange,
    check_count,
    check_filters,
    check_limit,
    check_record,
    decode_cursor,
    encode_cursor,
)
from agentx_persistence.errors import RecordNotFoundError
from agentx_persistence.fields import check_id
from agentx_persistence.loading import load
from agentx_persistence.records import ContainerRecord, ImageRecord, SessionRecord
from agentx_persistence.repositories import ContainerRepository, ImageRepository, Page, Repository

# Which rows a page has: the filters, the place that it comes behind, and how many.
_Page = tuple[dict[str, str], tuple[int, str] | None, int | None]
R = TypeVar("R", ContainerRecord, ImageRecord, SessionRecord)


def name_digest(name: str) -> str:
    """Return what a name is looked up by."""
    return blake2b(name.encode(), digest_size=16).hexdigest()


class SqlRepository(Repository[R], Generic[R]):
    record: ClassVar[type[Any]]
    table: ClassVar[Table]
    many: ClassVar[TypeAdapter[Any]]

    def __init__(self, database: Database) -> None:
        self._database = database
        # Fields with a column of their own; all of them are in the body, too.
        self._fields = [c.name for c in self.table.columns if c.name in self.record.model_fields]
        (self._key,) = self.table.primary_key.columns
        self._body = database.flavour.body(self.table.c.body)

    def save(self, record: R) -> None:
        check_record(self.record, record)
        row = self._row(record)
        self._database.flavour.check_size(
            self.record.record_kind, row[self._key.name], row.values()
        )
        statement = self._save_statement(row)
        self._database.execute(statement.sql, statement.bind(row))

    def get(self, id: str) -> R:
        found = self.find(id)
        if found is None:
            raise RecordNotFoundError(self.record.record_kind, id)
        return found

    def find(self, id: str) -> R | None:
        check_id(self.record.record_kind, id)
        statement = self._database.statement(
            (self.table.name, "find"),
            lambda: self._select().where(self._key == bindparam("id")),
        )
        rows = self._database.fetch(statement.sql, statement.bind({"id": id}))
        return self._load(rows, lambda _: id)[0] if rows else None

    def exists(self, id: str) -> bool:
        check_id(self.record.record_kind, id)
        statement = self._database.statement(
            (self.table.name, "exists"),
            lambda: select(literal_column("1")).where(self._key == bindparam("id")),
        )
        return bool(self._database.fetch(statement.sql, statement.bind({"id": id})))

    def _find_all(self, filters: dict[str, str | None], limit: int | None) -> list[R]:
        given = check_filters(filters)
        check_limit("limit", limit)
        return self._listed(given, limit)

    def _find_page(self, filters: dict[str, str | None], size: int, cursor: str | None) -> Page[R]:
        given = check_filters(filters)
        check_count("size", size, 1)
        page = (given, decode_cursor(cursor), size + 1)
        rows = self._fetch_page(*page)
        items = self._load(rows[:size], self._names(rows, page))
        if len(rows) <= size:
            return Page(items, None)
        last = items[-1]
        return Page(items, encode_cursor((last.created_at, getattr(last, self._key.name))))

    def _listed(self, filters: dict[str, str], limit: int | None) -> list[R]:
        page = (filters, None, limit)
        rows = self._fetch_page(*page)
        return self._load(rows, self._names(rows, page))

    def _names(self, rows: Sequence[Sequence[Any]], page: _Page) -> Callable[[int], str]:
        def name(index: int) -> str:
            # Fetched with each page, the ids would be a tenth of reading it.
            again = self._fetch_page(*page, keyed=True)
            unchanged = index < len(again) and again[index][0] == rows[index][0]
            return str(again[index][-1]) if unchanged else "unknown"

        return name

    def _fetch_page(
        self,
        filters: dict[str, str],
        after: tuple[int, str] | None,
        limit: int | None,
        *,
        keyed: bool = False,
    ) -> list[Sequence[Any]]:
        values: dict[str, Any] = dict(filters)
        if "name" in values:
            values["name_digest"] = name_digest(values.pop("name"))
        fields = tuple(values)
        statement = self._database.statement(
            (self.table.name, "page", fields, after is None, limit is None, keyed),
            lambda: self._page(fields, after is not None, limit is not None, keyed),
        )
        if after is not None:
            values.update(newest=-after[0], id=after[1])
        return self._database.fetch(statement.sql, statement.bind({**values, "limit": limit}))

    def _page(self, fields: Sequence[str], after: bool, limited: bool, keyed: bool = False) -> Any:
        columns = self.table.c
        page = self._select().order_by(columns.newest, self._key)
        if keyed:
            page = page.add_columns(self._key)
        for field in fields:
            page = page.where(columns[field] == bindparam(field))
        if after:
            page = page.where(self._database.flavour.behind(columns.newest, self._key))
        return page.limit(bindparam("limit")) if limited else page

    def _row(self, record: R) -> dict[str, Any]:
        """Return the columns that hold something; binding each of the others has its cost, too."""
        row: dict[str, Any] = {"body": record.to_json()}
        for field in self._fields:
            value = getattr(record, field)
            if isinstance(value, str):
                # PostgreSQL's text holds no NUL. The body has it, escaped.
                row[field] = value.replace("\x00", "\ufffd")
            elif value is not None:
                row[field] = value
        return row

    def _save_statement(self, row: Mapping[str, Any]) -> Statement:
        return self._database.statement(
            (self.table.name, "save", *row),
            lambda: self._database.flavour.upsert(self.table, row),
            row,
        )

    def _select(self) -> Select[Any]:
        return select(self._body)

    def _load(self, rows: Sequence[Sequence[Any]], name: Callable[[int], str]) -> list[R]:
        """:param name: gives the id of the row with this index, if that cannot be read"""

        def describe(index: int) -> tuple[str, str, str]:
            id = name(index)
            place = f"{self._database.flavour.place}, table {self.table.name}, {self._key.name}"
            return self.record.record_kind, id, f"{place} = {id!r}"

        loaded: list[R] = load(self.many, [row[0] for row in rows], describe)
        return loaded


class SqlContainerRepository(SqlRepository[ContainerRecord], ContainerRepository):
    record = ContainerRecord
    table = tables.containers
    many = records.CONTAINERS

    def find_all(self, *, limit: int | None = None) -> list[ContainerRecord]:
        return self._find_all({}, limit)

    def find_page(self, *, size: int = 50, cursor: str | None = None) -> Page[ContainerRecord]:
        return self._find_page({}, size, cursor)

    def delete(self, id: str) -> bool:
        check_id("container", id)
        from agentx_persistence._sql import units

        return self._database.unit(lambda unit: units.delete_container(unit, id))


class SqlImageRepository(SqlRepository[ImageRecord], ImageRepository):
    record = ImageRecord
    table = tables.images
    many = records.IMAGES

    def find_all(
        self,
        *,
        container_id: str | None = None,
        name: str | None = None,
        limit: int | None = None,
    ) -> list[ImageRecord]:
        return self._find_all({"container_id": container_id, "name": name}, limit)

    def find_page(
        self,
        *,
        container_id: str | None = None,
        name: str | None = None,
        size: int = 50,
        cursor: str | None = None,
    ) -> Page[ImageRecord]:
        return self._find_page({"container_id": container_id, "name": name}, size, cursor)

    def update_metadata(self, image_id: str, changes: Mapping[str, Any]) -> ImageRecord:
        check_id("image", image_id)
        change = MetadataChange(changes)
        locked = self._database.statement(
            "image to change",
            lambda: self._select().where(self._key == bindparam("id")).with_for_update(),
        )

        # Metadata has no column of its own, so that no index is touched.
        changed = self._database.statement(
            "change image",
            lambda: (
                update(self.table)
                .where(self._key == bindparam("id"))
                .values(body=bindparam("text"), updated_at=bindparam("at"))
            ),
        )

        def work(cursor: Cursor) -> ImageRecord:
            cursor.execute(locked.sql, locked.bind({"id": image_id}))
            rows = cursor.fetchall()
            if not rows:
                raise RecordNotFoundError("image", image_id)
            image = change.apply(self._load(rows, lambda _: image_id)[0])
            body = image.to_json()
            self._database.flavour.check_size("image", image_id, [body])
            values = {"id": image_id, "text": body, "at": image.updated_at}
            cursor.execute(changed.sql, changed.bind(values))
            return image

        return self._database.write(work)

    def _row(self, record: ImageRecord) -> dict[str, Any]:
        row = super()._row(record)
        if record.name is not None:
            row["name_digest"] = name_digest(record.name)
        return row

    def delete(self, id: str) -> bool:
        check_id("image", id)
        from agentx_persistence._sql import units

        return self._database.unit(lambda unit: units.delete_image(unit, id))
