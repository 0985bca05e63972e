"""Records as rows and back, through the wire form, so that a row gives back exactly its record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from json.encoder import encode_basestring
from typing import Any

from pydantic.alias_generators import to_camel
from pydantic_core import from_json, to_json
from sqlalchemy import Column

from agentx_persistence._sql.mappings import Row
from agentx_persistence.records import Record


def name_digest(name: str) -> str:
    """Return what a name is looked up by."""
    return blake2b(name.encode(), digest_size=16).hexdigest()


class RowFormat:
    """How the records of one class lie in their table."""

    def __init__(self, record: type[Record], row: type[Row]) -> None:
        table = row.__table__
        # `extra` comes first when a row is read: of two spellings of a field the last one counts,
        # and that should be the column, which an operator sees and changes.
        self.columns: list[Column[Any]] = [
            table.c.extra,
            *(table.c[name] for name in record.model_fields),
        ]
        self._fields = [
            (column.name, to_camel(column.name), bool(column.info.get("json")))
            for column in self.columns[1:]
        ]
        self._labels = [
            (f'"{wire_name}":', _renderer(column))
            for column, (_, wire_name, _) in zip(self.columns[1:], self._fields, strict=True)
        ]

    def values(self, record: Record) -> dict[str, Any]:
        """Return the value of each column of `columns`."""
        wire: dict[str, Any] = from_json(record.to_json())
        values: dict[str, Any] = {}
        for column, wire_name, is_json in self._fields:
            value = wire.get(wire_name)
            if is_json and wire_name in wire:
                values[column] = to_json(wire.pop(wire_name)).decode()
            elif value is None or (isinstance(value, str) and "\x00" in value):
                values[column] = None  # PostgreSQL's text holds no NUL; `extra` has it escaped
            else:
                values[column] = wire.pop(wire_name)
        values["extra"] = to_json(wire).decode() if wire else None
        return values

    def wire_form(self, row: Sequence[Any]) -> str:
        """Return the JSON text of a row of `columns`; of a damaged row one that is no JSON."""
        parts = []
        try:
            if row[0] is not None:
                if row[0][:1] + row[0][-1:] != "{}":
                    return ""
                parts.append(row[0][1:-1])
            for (label, render), value in zip(self._labels, row[1:], strict=True):
                if value is not None:
                    parts.append(label + render(value))
        except TypeError:  # SQLite's columns can hold values of any type
            return ""
        return f"{{{','.join(parts)}}}"


def _renderer(column: Column[Any]) -> Callable[[Any], str]:
    if column.info.get("json"):
        return str
    return str if column.type.python_type is int else encode_basestring
