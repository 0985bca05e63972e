"""What MkDocs cannot say in `mkdocs.yml`: an entry of `nav` with a `*` is the pages that match."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def on_config(config: Any) -> Any:
    config.nav = _with_matches(config.nav, Path(config.docs_dir))
    return config


def _with_matches(entries: list[Any], docs: Path) -> list[Any]:
    filled = []
    for entry in entries:
        ((title, value),) = entry.items()
        if isinstance(value, list):
            value = _with_matches(value, docs)
        elif "*" in value:
            value = [page.relative_to(docs).as_posix() for page in sorted(docs.glob(value))]
            if len(value) == 1:
                value = value[0]
        if value:
            filled.append({title: value})
    return filled
