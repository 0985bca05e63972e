"""Documents as rows: reading and writing by key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Table,
    and_,
    bindparam,
    insert,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.engine.interfaces import DBAPICursor as Cursor

from agentx_persistence._sql.attempts import Attempts
from agentx_persistence._sql.engine import Database, DuplicateError
from agentx_persistence._sql.statements import Statement, chunks, named, new, numbered
from agentx_persistence._sql.tables import TABLES, latest
from agentx_persistence.storage import IMAGES, ITEMS, SESSIONS, Document, Kind, Stored
from agentx_persistence.storage.kinds import item_key, split_item_key

# How many documents one statement reads. SQLite takes a condition with up to 1,000 parts.
_KEYS = 512
# The `revision` of a session or an image that is being deleted.
DELETED: ColumnElement[str] = literal_column("''")


def digest(*values: str) -> str:
    """Return the digest by which rows with these values are looked up."""
    return blake2b("\x1f".join(values).encode(), digest_size=16).hexdigest()


def search_values(kind: Kind, fields: dict[str, str]) -> dict[str, str]:
    """Return the columns, with their values, by which documents with these fields are found."""
    if kind is IMAGES and "name" in fields:
        fields["name_digest"] = digest(fields.pop("name"))
    elif kind is SESSIONS and len(fields) == 2:
        return {"owners_digest": digest(fields["container_id"], fields["image_id"])}
    return fields


def key_values(kind: Kind, key: str) -> dict[str, str]:
    """Return the columns of the primary key with their values."""
    if kind is not ITEMS:
        return {kind.key: key}
    namespace, own = split_item_key(key)
    return {"namespace": namespace, "key": own}


def is_there(table: Table) -> list[ColumnElement[bool]]:
    """Return the conditions that exclude rows that are being deleted."""
    if table in (TABLES[IMAGES], TABLES[SESSIONS]):
        return [table.c.revision != DELETED]
    return []


def row_of(kind: Kind, document: Document) -> dict[str, Any]:
    """Return the columns that have a value. Binding NULL for each of the others would take time."""
    row: dict[str, Any] = key_values(kind, document.key)
    for field, value in document.fields.items():
        # PostgreSQL's text type holds no NUL. In the body it is escaped, as JSON demands.
        row[field] = value.replace("\x00", "\ufffd")
    if kind is IMAGES and "name" in row:
        row["name_digest"] = digest(document.fields["name"])
    elif kind is SESSIONS:
        row["generation"] = document.revision
        row["latest"] = latest(document.updated_at)
        if "container_id" in row and "image_id" in row:
            row["owners_digest"] = digest(row["container_id"], row["image_id"])
    row["created_at"] = document.created_at
    row["updated_at"] = document.updated_at
    row["revision"] = document.revision
    row["body"] = document.text
    return row


class Documents:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._peeks: dict[Kind, Statement] = {}

    def put(self, kind: Kind, document: Document) -> None:
        row = self._checked(kind, document)
        self._lock_first(kind, document.key)
        statement = self._upsert(kind, row)
        self._database.execute(statement.sql, statement.bind(row))

    def create(self, kind: Kind, document: Document) -> bool:
        row = self._checked(kind, document)
        statement = self._insert(kind, row)
        attempt = Attempts(self._database, statement, row)
        self._lock_first(kind, document.key)
        for _ in range(self._database.attempts):
            try:
                attempt.run()
                return True
            except DuplicateError:
                created = self._database.write(
                    lambda cursor: self._recreate(cursor, kind, document, row)
                )
            if created is False:
                attempt.require_first(f"{kind.noun} {document.key!r}")
            if created is not None:
                return created
        raise self._database.refused(kind.noun, document.key)

    def _recreate(
        self, cursor: Cursor, kind: Kind, document: Document, row: dict[str, Any]
    ) -> bool | None:
        """Create a document whose key was just taken; return ``None`` if the key is free now."""
        revision = self.lock(cursor, kind, document.key)
        if revision == "":
            statement = self._upsert(kind, row)
            cursor.execute(statement.sql, statement.bind(row))
            return True
        # An earlier attempt of this call may have created it.
        return None if revision is None else revision == document.revision

    def insert(self, cursor: Cursor, row: dict[str, Any], *, over: bool = False) -> None:
        """Insert the row of a session.

        :param over: replace the row of a session that is being deleted
        """
        statement = self._upsert(SESSIONS, row) if over else self._insert(SESSIONS, row)
        cursor.execute(statement.sql, statement.bind(row))

    def replace(self, kind: Kind, document: Document, revision: str) -> bool:
        values = dict.fromkeys(kind.fields) | row_of(kind, document)
        values.pop("generation", None)
        if kind is IMAGES:
            values.setdefault("name_digest", None)
        if kind is SESSIONS:
            values.setdefault("owners_digest", None)
        for name in key_values(kind, document.key):
            del values[name]
        return self._replace("replace", kind, document, revision, values)

    def amend(self, kind: Kind, document: Document, revision: str) -> bool:
        # SQLite writes the index entries of each column that is set, even to an equal value.
        values = {
            "updated_at": document.updated_at,
            "revision": document.revision,
            "body": document.text,
        }
        if kind is SESSIONS:
            values["latest"] = latest(document.updated_at)
        return self._replace("amend", kind, document, revision, values)

    def _replace(
        self, verb: str, kind: Kind, document: Document, revision: str, values: dict[str, Any]
    ) -> bool:
        """:param values: the columns to set, always the same ones for this verb and kind"""
        table = TABLES[kind]
        keys = key_values(kind, document.key)
        self._database.flavour.check_size(
            kind.noun, document.key, (*keys.values(), *values.values())
        )
        changed = list(values)
        statement = self._database.statement(
            (kind.name, verb),
            lambda: (
                update(table)
                .where(
                    *(table.c[name] == bindparam(f"old_{name}") for name in keys),
                    table.c.revision == bindparam("old_revision"),
                )
                .values({name: bindparam(name) for name in changed})
            ),
        )
        values |= {f"old_{name}": value for name, value in keys.items()}
        values["old_revision"] = revision
        attempt = Attempts(self._database, statement, values)
        if attempt.run():
            return True
        if attempt.number > 1:
            now = self._database.write(lambda cursor: self.lock(cursor, kind, document.key))
            if now == document.revision:
                return True
            attempt.require_first(f"{kind.noun} {document.key!r}")
        return False

    def get(self, kind: Kind, keys: Sequence[str]) -> dict[str, Stored]:
        found: dict[str, Stored] = {}
        if len(keys) == 1:
            (key,) = keys
            table = TABLES[kind]
            statement = self._database.statement(
                (kind.name, "get"),
                lambda: self._one(kind, [*self.columns(table), table.c.revision]),
            )
            rows = self._database.fetch(statement.sql, statement.bind(key_values(kind, key)))
            if rows:
                found[key] = Stored(key, *rows[0])
            return found
        for chunk in chunks(keys, _KEYS):
            found.update(self._get_many(kind, chunk))
        return found

    def peek(self, kind: Kind, key: str) -> Stored | None:
        statement = self._peeks.get(kind) or self._peek(kind)
        rows = self._database.fetch(statement.sql, statement.bind(key_values(kind, key)))
        if not rows:
            return None
        row = rows[0]
        return new(Stored, (key, row[0], row[1] if kind is SESSIONS else 0, ""))

    def _peek(self, kind: Kind) -> Statement:
        # The times of other kinds are in their texts. PyMySQL takes long to read one more column.
        columns = self.columns(TABLES[kind])[: 2 if kind is SESSIONS else 1]
        statement = self._database.statement((kind.name, "peek"), lambda: self._one(kind, columns))
        self._peeks[kind] = statement
        return statement

    def _one(self, kind: Kind, columns: Sequence[ColumnElement[Any]]) -> Any:
        table = TABLES[kind]
        keys = [column == bindparam(column.name) for column in table.primary_key]
        return select(*columns).where(*keys, *is_there(table))

    def _get_many(self, kind: Kind, keys: list[str]) -> dict[str, Stored]:
        table = TABLES[kind]
        columns: list[Column[Any]] = list(table.primary_key)
        names = [column.name for column in columns]

        def build() -> Any:
            rows = [named(name, len(keys)) for name in names]
            # MariaDB reads the whole index for a row value with IN.
            matches = (
                columns[0].in_(rows[0])
                if len(columns) == 1
                else or_(*(and_(*map(_equal, columns, row)) for row in zip(*rows, strict=True)))
            )
            return select(*columns, *self.columns(table), table.c.revision).where(
                matches, *is_there(table)
            )

        statement = self._database.statement((kind.name, "get", len(keys)), build)
        split = [key_values(kind, key) for key in keys]
        values: dict[str, Any] = {}
        for name in names:
            values |= numbered(name, [parts[name] for parts in split])
        rows = self._database.fetch(statement.sql, statement.bind(values))
        width = len(columns)
        key: Callable[..., str] = item_key if kind is ITEMS else str
        documents = (Stored(key(*row[:width]), *row[width:]) for row in rows)
        return {document.key: document for document in documents}

    def columns(self, table: Table) -> list[ColumnElement[Any]]:
        """Return the text and the time of the last change."""
        return [self._database.flavour.body(table.c.body), table.c.updated_at]

    def lock(self, cursor: Cursor, kind: Kind, key: str) -> str | None:
        """Lock the document until the end of the transaction; return its revision.

        It is empty if the document is being deleted; ``None`` if there is no document to lock.
        """
        statement = self._locking(kind)
        cursor.execute(statement.sql, statement.bind(key_values(kind, key)))
        row = cursor.fetchone()
        return None if row is None else str(row[0])

    def lock_timed(self, cursor: Cursor, kind: Kind, key: str) -> tuple[str | None, int]:
        """Do the same; return the revision, and when the document last changed."""
        statement = self._locking(kind, "updated_at")
        cursor.execute(statement.sql, statement.bind(key_values(kind, key)))
        row = cursor.fetchone()
        return (None, 0) if row is None else (str(row[0]), int(row[1]))

    def _lock_first(self, kind: Kind, key: str) -> None:
        if self._database.locks_first:
            statement = self._locking(kind)
            self._database.fetch(statement.sql, statement.bind(key_values(kind, key)))

    def _locking(self, kind: Kind, *also: str) -> Statement:
        table = TABLES[kind]
        return self._database.statement(
            (kind.name, "lock", *also),
            lambda: (
                select(table.c.revision, *(table.c[name] for name in also))
                .where(*(column == bindparam(column.name) for column in table.primary_key))
                .with_for_update()
            ),
        )

    def _checked(self, kind: Kind, document: Document) -> dict[str, Any]:
        row = row_of(kind, document)
        self._database.flavour.check_size(kind.noun, document.key, row.values())
        return row

    def checked_session(self, document: Document) -> dict[str, Any]:
        return self._checked(SESSIONS, document)

    def _upsert(self, kind: Kind, row: dict[str, Any]) -> Statement:
        return self._database.statement(
            (kind.name, "put", *row), lambda: self._database.flavour.upsert(TABLES[kind], row), row
        )

    def _insert(self, kind: Kind, row: dict[str, Any]) -> Statement:
        return self._database.statement(
            (kind.name, "create", *row), lambda: insert(TABLES[kind]), row
        )


def _equal(column: ColumnElement[Any], value: ColumnElement[Any]) -> ColumnElement[bool]:
    return column == value
