"""What differs between the databases. Each driver module has one, and says why."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import Column, ColumnElement, Table, bindparam, tuple_
from sqlalchemy.sql.dml import Insert

if TYPE_CHECKING:
    from agentx_persistence._sql.appending import Appending


class Flavour(ABC):
    backend: ClassVar[str]
    appending: ClassVar[type[Appending]]
    begin: ClassVar[str]  # what opens a transaction that will write
    remote: ClassVar[bool] = True  # whether a connection that fails now may succeed in a moment
    one_writer: ClassVar[bool] = False  # whether this process's writers queue up by themselves

    def __init__(self, place: str) -> None:
        """:param place: where the data is, as errors name it; holds no password"""
        self.place = place

    @abstractmethod
    def upsert(self, table: Table, columns: Sequence[str]) -> Insert:
        """Return the statement that inserts these columns, or replaces those of the same key."""

    @abstractmethod
    def is_transient(self, error: BaseException) -> bool:
        """Tell whether the database undid the transaction, or refused it, only for the moment."""

    @abstractmethod
    def is_missing_table(self, error: BaseException) -> bool:
        """Tell whether a statement failed because its table does not exist."""

    def behind(self, newest: Column[Any], key: Column[Any]) -> ColumnElement[bool]:
        """Return the condition for what a listing has behind the place `newest`, `id`."""
        return tuple_(newest, key) > tuple_(bindparam("newest"), bindparam("id"))

    def body(self, column: Column[Any]) -> ColumnElement[Any]:
        """Return the expression that reads the text of a message."""
        return column
