"""What MkDocs cannot say in `mkdocs.yml`: an entry of `nav` that names a folder gets its pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def on_config(config: Any) -> Any:
    config.nav = _with_folders(config.nav, Path(config.docs_dir))
    return config


def _with_folders(entries: list[Any], docs: Path) -> list[Any]:
    filled = []
    for entry in entries:
        if isinstance(entry, dict):
            ((title, value),) = entry.items()
            if isinstance(value, list):
                entry = {title: _with_folders(value, docs)}
            elif not value.endswith(".md"):
                pages = sorted((docs / value).glob("*.md"))
                if not pages:
                    continue
                entry = {title: [page.relative_to(docs).as_posix() for page in pages]}
        filled.append(entry)
    return filled
