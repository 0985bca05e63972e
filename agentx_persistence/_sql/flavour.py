"""What differs between the databases. Each driver module has a subclass of `Flavour`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import Any, ClassVar, NoReturn

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    FromClause,
    Select,
    Table,
    case,
    delete,
    func,
    literal_column,
    null,
    select,
)
from sqlalchemy.engine.interfaces import DBAPICursor as Cursor
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.base import ReadOnlyColumnCollection
from sqlalchemy.sql.dml import Delete, Insert

from agentx_persistence._sql.statements import named, numbered
from agentx_persistence.errors import ConfigurationError, RecordTooLargeError

# About how many bytes a row has besides its texts.
_ROW = 500


class Flavour(ABC):
    """The differences of one database. An argument `connection` is one of the client library,
    unless it is annotated as SQLAlchemy's `Connection`."""

    backend: ClassVar[str]
    # Whether the database runs in this process. Its errors come after it has waited for its locks,
    # so that calls are not repeated.
    in_process: ClassVar[bool] = False
    # The isolation level of migrations and of calls on the caller's engine, which may have another.
    unit_isolation: ClassVar[str | None] = "READ COMMITTED"
    # Whether a listing can lock its rows. If not, they are locked in the order of their keys.
    locks_as_it_lists: ClassVar[bool] = True
    # Whether reading a row reads its text from the disk, even where the statement does not use it.
    reads_whole_rows: ClassVar[bool] = False
    # Whether a range of an index can only begin or end at a value that a join finds. The value of a
    # subquery is compared with every row.
    finds_bounds_by_join: ClassVar[bool] = False
    # Whether only one of several upper bounds ends a range of an index. The others are compared
    # with every row. If True, `earlier` must return NULL if one of its arguments is NULL.
    takes_one_bound: ClassVar[bool] = False
    # Whether the client library takes so long to read a value that a listing joins those of a row.
    joins_values: ClassVar[bool] = False
    # Page sizes that are written into the SQL. As parameters, they make the server plan each call.
    planned_sizes: ClassVar[frozenset[int]] = frozenset()
    # Whether a transaction that changes a row sees its latest form from then on, while its snapshot
    # still hides the other rows that others have written (see `mysql_joined`).
    shows_changes_in_snapshots: ClassVar[bool] = False
    # Whether a transaction can insert a row that others have deleted since its snapshot began, and
    # then sees both.
    shows_deleted_in_snapshots: ClassVar[bool] = False
    # The largest row in bytes: SQLite's limit (https://www.sqlite.org/limits.html), and somewhat
    # less than a gibibyte, which a statement or an answer of PostgreSQL must be below.
    row_limit: ClassVar[int] = 1_000_000_000
    # Seconds between two transactions of a large deletion, in which others can write.
    rest: ClassVar[float] = 0.0

    def __init__(self, place: str, schema: str | None = None) -> None:
        """:param place: where the data is, for error messages; contains no password
        :param schema: the schema of the tables, if not the connection's default
        """
        self.place, self.schema = place, schema

    def check(self, cursor: Any) -> None:  # noqa: B027
        """Check a connection when the storage is opened.

        :raises ConfigurationError: if its character set lacks some characters
        """

    def autocommit(self, connection: Any) -> None:  # noqa: B027
        """Make each statement on this connection a transaction of its own."""

    @abstractmethod
    def begin(self, connection: Any, cursor: Cursor) -> None:
        """Open a transaction that will write."""

    def begin_joined(self, connection: Connection) -> None:  # noqa: B027
        """Make sure that the caller's connection has an open transaction before a savepoint is set.

        :raises ConfigurationError: if the connection commits each statement
        """

    def cut(self, connection: Any) -> None:
        """End the connection, or ``None``, without a goodbye to the server."""
        if connection is not None:
            connection.close()

    def refuse_autocommit(self) -> NoReturn:
        raise ConfigurationError(
            self.backend,
            "within: the connection is in AUTOCOMMIT and cannot roll back; give a connection with"
            " another isolation level",
        )

    @abstractmethod
    def upsert(self, table: Table, columns: Collection[str]) -> Insert:
        """Return the statement that inserts a row of these columns, or replaces the one there."""

    def check_size(self, kind: str, id: str, values: Collection[Any]) -> None:
        """Refuse with `RecordTooLargeError` a record whose values no statement can carry."""
        # An upper bound, with 4 bytes a character, saves computing the exact size of nearly all.
        length = 0
        for value in values:
            if isinstance(value, str):
                length += len(value)
        if _ROW + 4 * length <= self.row_limit:
            return
        size = _ROW + sum(len(value.encode()) for value in values if isinstance(value, str))
        if size > self.row_limit:
            raise RecordTooLargeError(kind, id, size, self.row_limit)

    @abstractmethod
    def is_transient(self, error: BaseException) -> bool:
        """Return whether the database undid or refused a transaction for a reason that may pass."""

    def is_undone(self, error: BaseException) -> bool:
        """Return whether the transaction is certainly undone, even if COMMIT raised this error."""
        return self.is_transient(error)

    def is_lost(self, error: BaseException) -> bool:
        """Return whether the connection is unusable after an error that SQLAlchemy does not know to
        mean that."""
        return False

    @abstractmethod
    def misconfigured(self, error: BaseException) -> str:
        """Return what the user has to correct if repeating cannot help, else an empty text."""

    @abstractmethod
    def is_missing_table(self, error: BaseException) -> bool:
        """Return whether a statement failed because its table does not exist."""

    def comes_after(
        self, columns: list[Column[Any]], values: list[ColumnElement[Any]], *, reverse: bool
    ) -> ColumnElement[bool]:
        """Return the condition for the rows after this place of an ascending order.

        :param reverse: the order is descending
        """
        from sqlalchemy import tuple_

        row, place = tuple_(*columns), tuple_(*values)
        return row < place if reverse else row > place

    def among(self, column: ColumnElement[Any], name: str, size: int) -> ColumnElement[bool]:
        """Return the condition that the column has one of `size` values, which `listed` gives."""
        return column.in_(named(name, size))

    def listed(self, name: str, values: Sequence[str]) -> dict[str, Any]:
        """Return the parameters of the condition `among`."""
        return numbered(name, values)

    def rows_among(
        self,
        columns: Sequence[ColumnElement[Any]],
        conditions: Sequence[ColumnElement[bool]],
        column: ColumnElement[Any],
        name: str,
        size: int,
    ) -> Select[Any]:
        """Return the query of rows that meet these conditions and have one of `size` ids in the
        column. `sought` gives those."""
        return select(*columns).where(*conditions, column.in_(named(name, size)))

    def deletion_among(
        self,
        table: Table,
        conditions: Sequence[ColumnElement[bool]],
        column: ColumnElement[Any],
        name: str,
        size: int,
    ) -> Delete:
        """Return the statement that deletes the rows of `rows_among`."""
        return delete(table).where(*conditions, column.in_(named(name, size)))

    def sought(self, name: str, ids: Sequence[str]) -> dict[str, Any]:
        """Return the parameters of `rows_among` and `deletion_among`."""
        return numbered(name, ids)

    def from_index(self, listing: Select[Any], table: FromClause, index: str) -> Select[Any]:
        """Make the listing use this index, on MySQL and MariaDB, which may choose a slower way."""
        return listing

    def body(self, column: Column[Any]) -> ColumnElement[Any]:
        """Return the expression that reads a text."""
        return column

    def later(self, one: ColumnElement[Any], other: ColumnElement[Any]) -> ColumnElement[Any]:
        """Return the expression for the later of two times."""
        return func.greatest(one, other)

    def earlier(self, one: ColumnElement[Any], other: ColumnElement[Any]) -> ColumnElement[Any]:
        """Return the expression for the smaller of two numbers."""
        return func.least(one, other)

    def added(self, count: Column[Any], number: ColumnElement[Any]) -> ColumnElement[Any]:
        """Return the expression for the sum, in the form from which `count_after` can read it."""
        return count + number

    def returning_count(self, reserve: Any, count: Column[Any]) -> ClauseElement:
        """Return the UPDATE, extended so that `count_after` can read the count."""
        statement: ClauseElement = reserve.returning(count)
        return statement

    def count_after(self, cursor: Any) -> int | None:
        """Return the count after the UPDATE, or ``None`` if it matched no row."""
        row = cursor.fetchone()
        return None if row is None else int(row[0])

    def prepare_many(self, cursor: Any) -> None:  # noqa: B027
        """Prepare a cursor for `executemany`."""


def replacement(
    table: Table,
    columns: Collection[str],
    inserted: ReadOnlyColumnCollection[str, ColumnElement[Any]],
) -> dict[str, ColumnElement[Any]]:
    """Return the new value of each column for an upsert that replaces a row.

    :param columns: those that the new row has; the others become NULL
    """
    return {
        column.name: _kept(column, inserted)
        if column.name == "generation"
        else inserted[column.name]
        if column.name in columns
        else null()
        for column in table.c
        # The key is left out, as SQLite writes the index of each column that is set, even to an
        # equal value. Columns with a server default are computed, or count the messages.
        if not column.primary_key and column.server_default is None
    }


def _kept(
    column: Column[Any], inserted: ReadOnlyColumnCollection[str, ColumnElement[Any]]
) -> ColumnElement[Any]:
    # A session that is saved again keeps its log, and so its generation. One that is being deleted
    # begins with a new log.
    deleted = column == literal_column("''")
    return case((deleted, inserted[column.name]), else_=column)
