"""What differs between the databases. Each driver module has one, and says why."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable
from typing import Any, ClassVar, NoReturn

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Select,
    Table,
    case,
    func,
    literal_column,
    null,
)
from sqlalchemy.engine.interfaces import DBAPICursor as Cursor
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.base import ReadOnlyColumnCollection
from sqlalchemy.sql.dml import Insert

from agentx_persistence.errors import ConfigurationError


class Flavour(ABC):
    """A `connection` is the driver's own, of any library."""

    backend: ClassVar[str]
    # Whether the database runs in this process, which has waited for its locks when it gives up.
    in_process: ClassVar[bool] = False
    # What SQLAlchemy sets for a migration on the caller's engine, which may be in any mode.
    unit_isolation: ClassVar[str | None] = "READ COMMITTED"

    # Seconds between two transactions of a large deletion.
    rest: ClassVar[float] = 0.0

    def __init__(self, place: str, schema: str | None = None) -> None:
        """:param place: where the data is, as errors name it; holds no password
        :param schema: that of the tables, if not the connection's default
        """
        self.place, self.schema = place, schema

    def check(self, cursor: Any) -> None:  # noqa: B027
        """Look at a connection on opening.

        :raises ConfigurationError: if it cannot carry every character
        """

    def autocommit(self, connection: Any) -> None:  # noqa: B027
        """Make each statement a transaction of its own, if it is not so already."""

    @abstractmethod
    def begin(self, connection: Any, cursor: Cursor) -> None:
        """Open a transaction that will write."""

    def begin_joined(self, connection: Connection) -> None:  # noqa: B027
        """See that the caller's connection has a transaction open before a savepoint is set.

        :raises ConfigurationError: if it commits each statement
        """

    def refuse_autocommit(self) -> NoReturn:
        raise ConfigurationError(
            self.backend,
            "within: the connection is in AUTOCOMMIT, so that nothing could be undone; give one"
            " with another isolation level",
        )

    @abstractmethod
    def upsert(self, table: Table, columns: Collection[str]) -> Insert:
        """Return the statement that inserts a row of these columns, or replaces the one there."""

    def check_size(self, kind: str, id: str, values: Iterable[Any]) -> None:  # noqa: B027
        """Refuse with `RecordTooLargeError` a record whose values no statement can carry."""

    @abstractmethod
    def is_transient(self, error: BaseException) -> bool:
        """Tell whether the database undid the transaction, or refused it, only for the moment."""

    def is_undone(self, error: BaseException) -> bool:
        """Tell whether the transaction has certainly been undone, even if it met this at COMMIT."""
        return self.is_transient(error)

    def is_lost(self, error: BaseException) -> bool:
        """Tell whether the connection cannot be used any more, beyond what SQLAlchemy knows."""
        return False

    @abstractmethod
    def misconfigured(self, error: BaseException) -> str:
        """Return what to change if repeating cannot cure this error, else an empty text."""

    @abstractmethod
    def is_missing_table(self, error: BaseException) -> bool:
        """Tell whether a statement failed because its table does not exist."""

    def comes_after(
        self, columns: list[Column[Any]], values: list[ColumnElement[Any]], *, reverse: bool
    ) -> ColumnElement[bool]:
        """Return the condition for the rows after this place of an ascending order.

        :param reverse: the order is descending
        """
        from sqlalchemy import tuple_

        row, place = tuple_(*columns), tuple_(*values)
        return row < place if reverse else row > place

    def from_index(self, listing: Select[Any], table: Table, index: str) -> Select[Any]:
        """Make the database read the listing's rows from this index, if it might not."""
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
        """Return the expression for `count` with this number more, as appending stores it."""
        return count + number

    def returning_count(self, reserve: Any, count: Column[Any]) -> ClauseElement:
        """Return the updating statement so that `count_after` gives the count."""
        statement: ClauseElement = reserve.returning(count)
        return statement

    def count_after(self, cursor: Any) -> int | None:
        """Return the count after the update, or ``None`` if it met no row."""
        row = cursor.fetchone()
        return None if row is None else int(row[0])

    def prepare_many(self, cursor: Any) -> None:  # noqa: B027
        """Prepare a cursor for `executemany`."""


def replacement(
    table: Table,
    columns: Collection[str],
    inserted: ReadOnlyColumnCollection[str, ColumnElement[Any]],
) -> dict[str, ColumnElement[Any]]:
    """Return what each column becomes where a row is replaced by one of these `columns`."""
    return {
        column.name: _kept(column, inserted)
        if column.name == "generation"
        else inserted[column.name]
        if column.name in columns
        else null()
        for column in table.c
        # Not the key: SQLite writes the index of each column that is set, whatever it is set to.
        # Nor what the database computes, or counts with the messages.
        if not column.primary_key and column.server_default is None
    }


def _kept(
    column: Column[Any], inserted: ReadOnlyColumnCollection[str, ColumnElement[Any]]
) -> ColumnElement[Any]:
    # A log stays as it is, unless its session is being deleted.
    deleted = column == literal_column("''")
    return case((deleted, inserted[column.name]), else_=column)
