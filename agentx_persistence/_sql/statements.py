"""SQL statements: built from the tables, compiled once, run on the client library's cursor.

Running a cached statement through SQLAlchemy's connection takes longer than inserting a message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, Dialect, bindparam, literal_column
from sqlalchemy.sql import ClauseElement

# The class of a NamedTuple calls this from a Python function, and takes twice as long. That matters
# where it is called for each row.
new = tuple.__new__
# How many keys one statement names; SQLite takes 32,766 parameters.
_KEYS = 4096


class Statement:
    """The SQL text of a construct for one dialect, and its parameters in the driver's style."""

    __slots__ = ("_constants", "_names", "_pick", "sql")

    _pick: Callable[[dict[str, Any]], tuple[Any, ...]] | None

    def __init__(
        self,
        construct: ClauseElement,
        dialect: Dialect,
        columns: Iterable[str] | None = None,
        schema: str | None = None,
    ) -> None:
        """:param columns: for an insert, the columns that get a value
        :param schema: the schema of the tables, if not the connection's default
        """
        names = list(columns) if columns else None
        options: dict[str, Any] = {}
        if schema is not None:
            options["schema_translate_map"] = {None: schema}
            options["render_schema_translate"] = True
        compiled = construct.compile(dialect=dialect, column_keys=names, **options)
        self.sql = str(compiled)
        positions: list[str] | None = getattr(compiled, "positiontup", None)
        # The names of an insert's columns; ``None`` if the driver takes the values in their order.
        self._names = None if positions and positions == names else names
        # Values that the construct itself contains, such as the 0 in SQLite's "OFFSET 0".
        self._constants = {k: v for k, v in compiled.params.items() if v is not None}
        if not positions:
            self._pick = None
        elif len(positions) == 1:
            (only,) = positions  # an itemgetter of one key returns the value, not a tuple
            self._pick = lambda values: (values[only],)
        else:
            self._pick = itemgetter(*positions)

    def bind(self, values: dict[str, Any]) -> Any:
        """Return the parameters as the cursor takes them."""
        if self._constants:
            values = {**self._constants, **values}
        return self._pick(values) if self._pick else values

    def row(self, values: tuple[Any, ...]) -> Any:
        """Return the parameters of an insert whose columns get these values."""
        if self._names is None:
            return values
        return self.bind(dict(zip(self._names, values, strict=True)))


def chunks(keys: Sequence[str], most: int = _KEYS) -> Iterator[list[str]]:
    """Yield the keys in lists of certain lengths, the last key repeated up to the next length.

    So a few compiled statements serve any number of keys. The lengths are 1 to 8, then 10, 12, 14,
    16, then 20, 24, 28, 32, and so on: less than a fourth of the keys are repetitions.
    """
    for start in range(0, len(keys), most):
        chunk = list(keys[start : start + most])
        step = 1 << max(0, (len(chunk) - 1).bit_length() - 3)
        yield chunk + chunk[-1:] * (-len(chunk) % step)


def named(prefix: str, size: int) -> list[BindParameter[Any]]:
    """Return `size` parameters, whose names are the prefix and a number."""
    return [bindparam(name) for name in _names(prefix, size)]


def numbered(prefix: str, keys: Sequence[str]) -> dict[str, Any]:
    """Return the values of `named` parameters."""
    return dict(zip(_names(prefix, len(keys)), keys, strict=True))


@lru_cache
def _names(prefix: str, size: int) -> tuple[str, ...]:
    return tuple(f"{prefix}{number}" for number in range(size))


def unsearched(column: ColumnElement[int]) -> ColumnElement[int]:
    """Return the column as an expression that no index has.

    A search by message ids then uses the index of ids: PostgreSQL may otherwise take all positions
    of a session that it thinks short.
    """
    return column + literal_column("0")
