"""The documentation's site builds without a warning, its links resolve, it needs no other host."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

_ROOT = Path(__file__).parents[1]


class _Page(HTMLParser):
    """What a page links to, what it loads, and the anchors that it has."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.loads: set[str] = set()
        self.anchors: set[str] = set()
        self.classes: set[str] = set()
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        self.classes |= set(found.get("class", "").split())
        if tag in ("a", "area"):
            self.links.add(found.get("href", ""))
        else:
            self.loads |= {found[name] for name in ("href", "src") if found.get(name)}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, _Page]:
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=_ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return {path: _Page(path) for path in folder.rglob("*.html") if path.name != "404.html"}


def test_every_page_of_the_docs_is_on_the_site(site: dict[Path, _Page]) -> None:
    pages = {path.relative_to(_ROOT / "docs") for path in (_ROOT / "docs").rglob("*.md")}
    root = next(path.parent for path in site if path.name == "tutorial.html")
    assert {path.relative_to(root).with_suffix(".md") for path in site} == pages


def test_every_link_resolves(site: dict[Path, _Page]) -> None:
    lost = []
    for path, page in site.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            there = target.exists() and (
                not anchor or target not in site or anchor in site[target].anchors
            )
            if not there:
                lost.append((path.name, link))
    assert lost == []


def test_no_page_loads_anything_from_another_host(site: dict[Path, _Page]) -> None:
    for path, page in site.items():
        assert [load for load in page.loads if urlsplit(load).netloc] == [], path
        # The theme would load these from elsewhere.
        assert page.classes.isdisjoint({"mermaid", "arithmatex"}), path
    root = next(path.parent for path in site if path.name == "tutorial.html")
    for sheet in root.rglob("*.css"):
        loaded = re.findall(r"(?:url\(|@import)\s*[\"']?(https?:)?//", sheet.read_text("utf-8"))
        assert loaded == [], sheet


def test_the_api_has_every_public_name(site: dict[Path, _Page]) -> None:
    import agentx_persistence

    anchors = set().union(*(page.anchors for page in site.values()))
    ends = {anchor.rpartition(".")[2] for anchor in anchors if anchor.startswith("agentx_")}
    aliases = {"Message", "Part", "ToolOutput", "__version__"}  # unions, and a text
    assert set(agentx_persistence.__all__) - aliases - ends == set()
