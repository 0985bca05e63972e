"""Writes the diagram of docs/schema.md from the tables; with --check, only compares them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import orm

from agentx_persistence.sql import METADATA, ContainerRow

_PAGE = Path(__file__).parents[1] / "docs" / "schema.md"
_BEGIN, _END = "<!-- diagram: written by scripts/schema_diagram.py -->\n", "<!-- end of diagram -->"


def _lines() -> Iterator[str]:
    yield "erDiagram"
    for mapper in sorted(ContainerRow.registry.mappers, key=lambda each: str(each.local_table)):
        for relation in mapper.relationships:
            if relation.direction is orm.interfaces.ONETOMANY:
                one, many = mapper.local_table, relation.mapper.local_table
                (key,) = relation.remote_side & set(many.columns) - {many.c.get("position")}
                yield f"    {one} {'|o' if key.nullable else '||'}--o{{ {many} : {relation.key}"
    for table in METADATA.sorted_tables:
        yield f"    {table.name} {{"
        unique = {
            column.name
            for constraint in table.constraints
            if constraint.__visit_name__ == "unique_constraint"
            for column in constraint.columns
        }
        for column in table.columns:
            kind = str(column.type).partition("(")[0].lower()
            keys = ["PK"] * column.primary_key + ["UK"] * (column.name in unique)
            yield f"        {kind} {column.name} {', '.join(keys)}".rstrip()
        yield "    }"


def main() -> int | str:
    text = _PAGE.read_text("utf-8")
    before, _, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    diagram = "\n".join(["```mermaid", *_lines(), "```", ""])
    new = before + _BEGIN + diagram + end + after
    if "--check" in sys.argv:
        return 0 if new == text else "docs/schema.md is old: run scripts/schema_diagram.py"
    _PAGE.write_text(new, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
