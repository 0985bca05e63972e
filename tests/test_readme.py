from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

_README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")


def test_the_tour_is_true(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tour = _README.partition("## A tour in five minutes")[2].partition("\n## ")[0]
    blocks = re.findall(r"```python\n(.*?)```", tour, re.DOTALL)
    assert len(blocks) > 5
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    assert capsys.readouterr().out == "user Hello!\n"
    assert (tmp_path / "data" / "agentx.db").exists()


@pytest.mark.parametrize("link", re.findall(r"\]\((?!http)([^)#]+)", _README))
def test_what_it_links_to_is_there(link: str) -> None:
    assert (Path(__file__).parents[1] / link).exists()


def test_the_backend_it_shows_is_the_one_that_the_contract_suite_runs_on() -> None:
    example = (Path(__file__).parents[1] / "examples" / "custom.py").read_text("utf-8")
    assert f"```python\n{example}```" in _README
