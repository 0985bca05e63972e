"""What differs between the databases. Each driver module has one, and says why."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable
from typing import Any, ClassVar

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Table,
    bindparam,
    null,
    tuple_,
)
from sqlalchemy.engine.interfaces import DBAPICursor as Cursor
from sqlalchemy.sql.base import ReadOnlyColumnCollection
from sqlalchemy.sql.dml import Insert


class Flavour(ABC):
    """A `connection` is the driver's own, of any library."""

    backend: ClassVar[str]
    # Whether the database runs in this process, which has waited for its locks when it gives up.
    in_process: ClassVar[bool] = False
    # What SQLAlchemy sets for a unit of work on the caller's engine, which may be in any mode.
    unit_isolation: ClassVar[str | None] = "READ COMMITTED"

    def __init__(self, place: str) -> None:
        """:param place: where the data is, as errors name it; holds no password"""
        self.place = place

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
        """See that the caller's connection has a transaction open before a savepoint is set."""

    @abstractmethod
    def upsert(self, table: Table, columns: Collection[str]) -> Insert:
        """Return the statement that inserts a row of these columns, or replaces the one there."""

    def check_size(self, kind: str, id: str, values: Iterable[Any]) -> None:  # noqa: B027
        """Refuse with `RecordTooLargeError` a record whose values no statement can carry."""

    @abstractmethod
    def is_transient(self, error: BaseException) -> bool:
        """Tell whether the database undid the transaction, or refused it, only for the moment."""

    def is_lost(self, error: BaseException) -> bool:
        """Tell whether the connection cannot be used any more, beyond what SQLAlchemy knows."""
        return False

    @abstractmethod
    def misconfigured(self, error: BaseException) -> str:
        """Return what to change if repeating cannot cure this error, else an empty text."""

    @abstractmethod
    def is_missing_table(self, error: BaseException) -> bool:
        """Tell whether a statement failed because its table does not exist."""

    def behind(self, newest: Column[Any], key: Column[Any]) -> ColumnElement[bool]:
        """Return the condition for what a listing has behind the place `newest`, `id`."""
        return tuple_(newest, key) > tuple_(bindparam("newest"), bindparam("id"))

    def body(self, column: Column[Any]) -> ColumnElement[Any]:
        """Return the expression that reads the text of a message."""
        return column


def replacement(
    table: Table,
    columns: Collection[str],
    inserted: ReadOnlyColumnCollection[str, ColumnElement[Any]],
) -> dict[str, ColumnElement[Any]]:
    """Return what each column becomes where a row is replaced by one of these `columns`."""
    return {
        column.name: inserted[column.name] if column.name in columns else null()
        for column in table.c
        # Not the key: SQLite writes the index of each column that is set, whatever it is set to.
        # Nor what the database computes, or counts with the messages.
        if not column.primary_key and column.server_default is None
    }
