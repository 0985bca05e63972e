"""Draws docs/schema.svg from the tables; with --check, only compares it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Column, Table, orm

from agentx_persistence.sql import METADATA, ContainerRow

_FILE = Path(__file__).parents[1] / "docs" / "schema.svg"
_WIDTH, _GAP, _ROW, _MARGIN = 225, 45, 20, 10
# From left to right; the items, which belong to a container by a prefix, are below the containers.
_PLACES = {
    "agentx_containers": (0, 0),
    "agentx_images": (1, 0),
    "agentx_sessions": (2, 0),
    "agentx_messages": (3, 0),
    "agentx_items": (0, 9),
}


def _corner(table: Table) -> tuple[int, int]:
    column, row = _PLACES[table.name]
    return _MARGIN + column * (_WIDTH + _GAP), _MARGIN + row * _ROW


def _middle(column: Column[object]) -> int:
    return _corner(column.table)[1] + (list(column.table.columns).index(column) + 1) * _ROW + 10


def _lines() -> Iterator[str]:
    for mapper in sorted(ContainerRow.registry.mappers, key=lambda each: str(each.local_table)):
        for relation in mapper.relationships:
            if relation.direction is orm.interfaces.ONETOMANY:
                (one,) = mapper.primary_key
                many = relation.mapper.local_table.c[one.name]
                start, end = _corner(one.table)[0] + _WIDTH, _corner(many.table)[0]
                bend = end - _GAP // 2
                path = f"M{start} {_middle(one)} H{bend} V{_middle(many)} H{end}"
                yield f'<path d="{path}" fill="none" stroke="#888"/>'
                yield f'<circle cx="{end}" cy="{_middle(many)}" r="4" fill="#888"/>'


def _boxes() -> Iterator[str]:
    for table in METADATA.sorted_tables:
        left, top = _corner(table)
        height = (len(table.columns) + 1) * _ROW
        box = f'x="{left}" y="{top}" width="{_WIDTH}"'
        yield f'<rect {box} height="{height}" fill="#fff" stroke="#3f51b5"/>'
        yield f'<rect {box} height="{_ROW}" fill="#3f51b5"/>'
        yield f'<text x="{left + 8}" y="{top + 14}" fill="#fff">{table.name}</text>'
        for column in table.columns:
            kind = str(column.type).partition("(")[0].lower()
            bold = ' font-weight="bold"' if column.primary_key else ""
            y = _middle(column) + 4
            yield f'<text x="{left + 8}" y="{y}"{bold}>{column.name}</text>'
            yield f'<text x="{left + _WIDTH - 8}" y="{y}" text-anchor="end">{kind}</text>'


def main() -> int | str:
    size = f"{2 * _MARGIN + 4 * _WIDTH + 3 * _GAP} {2 * _MARGIN + 17 * _ROW}"
    drawn = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" font-family="monospace"'
            ' font-size="13" fill="#222">'
        ),
        '<rect width="100%" height="100%" fill="#fff"/>',
        *_lines(),
        *_boxes(),
        "</svg>",
        "",
    ]
    new = "\n".join(drawn)
    if "--check" in sys.argv:
        old = _FILE.read_text("utf-8")
        return 0 if new == old else "docs/schema.svg is old: run scripts/schema_diagram.py"
    _FILE.write_text(new, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
