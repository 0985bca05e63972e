"""The code of the README and of the pages of docs/ runs, and what they name exists."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

_ROOT = Path(__file__).parents[1]
_DOCUMENTS = [path.relative_to(_ROOT) for path in (_ROOT / "README.md", *_ROOT.glob("docs/*.md"))]


def code_blocks(document: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (_ROOT / document).read_text("utf-8"), re.DOTALL)


WITH_CODE = sorted(document for document in _DOCUMENTS if code_blocks(document))


@pytest.mark.parametrize("document", WITH_CODE, ids=str)
def test_its_code_runs(document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in code_blocks(document):
        exec(compile(block, str(document), "exec"), names)


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
        for document in sorted(_DOCUMENTS)
        for link in re.findall(r"\]\((?!https?://)([^)#]+)", (_ROOT / document).read_text("utf-8"))
    ],
    ids=str,
)
def test_what_it_links_to_is_there(document: Path, link: str) -> None:
    assert (_ROOT / document.parent / link).exists()


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "SECURITY.md"])
def test_the_files_that_it_names_are_there(document: str) -> None:
    text = (_ROOT / document).read_text("utf-8")
    folders = "agentx_persistence|docs|tests|examples|benchmarks|scripts|migrations|\\.ci"
    named = set(re.findall(rf"`(?:\./)?((?:{folders})/[\w./-]*)`", text))
    named |= {f"docs/{name}" for name in re.findall(r"`([a-z-]+\.md)`", text)}
    named |= set(re.findall(r"`([A-Z]+\.md)`", text))
    assert named
    assert [name for name in sorted(named) if not (_ROOT / name).exists()] == []


def test_the_backend_it_shows_is_the_one_that_the_contract_suite_runs_on() -> None:
    example = (_ROOT / "examples" / "custom.py").read_text("utf-8")
    assert f"```python\n{example}```" in (_ROOT / "docs" / "custom-backend.md").read_text("utf-8")
