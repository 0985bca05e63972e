"""The code of the README and of the pages of docs/ runs, and what they name exists.

The code of docs/integrations/ needs the frameworks, so it runs in tests/integrations/.
"""

from __future__ import annotations

import inspect
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import agentx_persistence
from agentx_persistence import Persistence, create_persistence
from agentx_persistence.fs import fs_driver
from agentx_persistence.mongodb import mongodb_driver
from agentx_persistence.mysql import mysql_driver
from agentx_persistence.postgresql import postgresql_driver
from agentx_persistence.redis import redis_driver
from agentx_persistence.sqlite import sqlite_driver

_ROOT = Path(__file__).parents[1]
_PAGES = sorted(path.relative_to(_ROOT) for path in _ROOT.glob("docs/**/*.md"))
_DOCUMENTS = [Path("README.md"), *_PAGES]


def code_blocks(document: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (_ROOT / document).read_text("utf-8"), re.DOTALL)


WITH_CODE = sorted(
    document
    for document in _DOCUMENTS
    if code_blocks(document) and "integrations" not in document.parts
)


@pytest.mark.parametrize("document", WITH_CODE, ids=str)
def test_its_code_runs(document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    opened: list[Persistence] = []

    def create(*arguments: Any, **options: Any) -> Persistence:
        opened.append(create_persistence(*arguments, **options))
        return opened[-1]

    monkeypatch.setattr(agentx_persistence, "create_persistence", create)
    names: dict[str, Any] = {"__name__": "document"}
    for block in code_blocks(document):
        exec(compile(block, str(document), "exec"), names)
    for persistence in opened:  # a web application leaves its own to the end of the process
        persistence.close()


def test_the_first_example_prints_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(code_blocks(Path("README.md"))[0], "README.md", "exec"), {})
    assert capsys.readouterr().out == "user Hello!\n"
    assert (tmp_path / "agentx.db").exists()


def test_the_quickstart_writes_a_conversation_and_reads_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for action in ("write", "read"):
        monkeypatch.setattr("sys.argv", ["quickstart.py", action, str(tmp_path / "quickstart.db")])
        runpy.run_path(str(_ROOT / "examples" / "quickstart.py"), run_name="__main__")
    assert capsys.readouterr().out.endswith("There are two: LICENSE and README.md.\n")


def test_the_readme_is_short_and_has_no_link_that_dies_on_a_package_index() -> None:
    text = (_ROOT / "README.md").read_text("utf-8")
    assert len(text.splitlines()) <= 250
    assert re.findall(r"\]\((?!https?://)[^)]*\)", text) == []


@pytest.mark.parametrize(
    ("document", "link"),
    [
        (document, link)
        for document in _DOCUMENTS
        for link in re.findall(r"\]\((?!https?://)([^)#]+)", (_ROOT / document).read_text("utf-8"))
    ],
    ids=str,
)
def test_what_it_links_to_is_there(document: Path, link: str) -> None:
    assert (_ROOT / document.parent / link).exists()


_NAMED = [*_DOCUMENTS, Path("CONTRIBUTING.md"), Path("SECURITY.md")]


def test_the_table_of_capabilities_is_that_of_the_tests() -> None:
    subprocess.run([sys.executable, _ROOT / "scripts" / "capabilities.py", "--check"], check=True)


@pytest.mark.parametrize("document", _NAMED, ids=str)
def test_the_files_that_it_names_are_there(document: Path) -> None:
    text = (_ROOT / document).read_text("utf-8")
    folders = "agentx_persistence|docs|tests|examples|benchmarks|scripts|migrations|\\.ci"
    named = set(re.findall(rf"`(?:\./)?((?:{folders})/[\w./-]*)`", text))
    named |= {f"docs/{name}" for name in re.findall(r"`([a-z-]+\.md)`", text)}
    named |= set(re.findall(r"`([A-Z]+\.md)`", text))
    rooms = "repositories|records|storage|_[a-z]+"
    modules = re.findall(rf"`((?:{rooms})/\w+\.py)`", text)
    named |= {f"agentx_persistence/{module}" for module in modules}
    assert [name for name in sorted(named) if not (_ROOT / name).exists()] == []


def test_the_backend_it_shows_is_the_one_that_the_contract_suite_runs_on() -> None:
    example = (_ROOT / "examples" / "custom.py").read_text("utf-8")
    assert f"```python\n{example}```" in (_ROOT / "docs" / "custom-backend.md").read_text("utf-8")


_SECTIONS: dict[str, Callable[..., Any]] = {
    "Filesystem": fs_driver,
    "SQLite": sqlite_driver,
    "PostgreSQL": postgresql_driver,
    "MySQL and MariaDB": mysql_driver,
    "Redis and Valkey": redis_driver,
    "MongoDB": mongodb_driver,
}
_WAITS = {"connect_timeout", "lock_timeout", "patience", "pool_timeout", "retry_seconds", "timeout"}


def _rows_that_name(document: str, section: str, argument: str) -> str:
    text = (_ROOT / "docs" / document).read_text("utf-8").partition(f"\n## {section}\n")[2]
    rows = text.partition("\n## ")[0].splitlines()
    return "\n".join(row for row in rows if row.startswith("|") and f"`{argument}`" in row)


@pytest.mark.parametrize("section", [name for name in _SECTIONS if name != "MySQL and MariaDB"])
def test_the_page_of_backends_has_every_argument_with_its_default(section: str) -> None:
    for name, parameter in inspect.signature(_SECTIONS[section]).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            continue
        rows = _rows_that_name("backends.md", section, name)
        assert rows, name
        if type(parameter.default) in (int, float):
            assert re.search(rf"\b{parameter.default:g}\b", rows), name


def test_mysql_has_the_arguments_of_postgresql_but_two() -> None:
    postgresql = set(inspect.signature(postgresql_driver).parameters)
    assert set(inspect.signature(mysql_driver).parameters) == postgresql - {
        "prepare_threshold",
        "schema",
    }


@pytest.mark.parametrize("section", _SECTIONS)
def test_the_page_of_waits_has_every_time_limit_with_its_default(section: str) -> None:
    for name, parameter in inspect.signature(_SECTIONS[section]).parameters.items():
        if name in _WAITS:
            rows = _rows_that_name("waits.md", section, name)
            assert re.search(rf"\b{parameter.default:g}\b", rows), name
