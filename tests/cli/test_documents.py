"""The commands that the documents show run."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

_ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("document", ["README.md", "docs/command.md"])
def test_its_commands_run(
    run: Callable[..., Any],
    store: str,
    document: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(store.removeprefix("sqlite:///"), "agentx.db")
    text = (_ROOT / document).read_text("utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    commands = [shlex.split(line)[1:] for line in lines if line.startswith("agentx-persistence ")]
    assert len(commands) > 5
    for command in commands:
        ended = run(*command)
        assert (command, ended.status, ended.err) == (command, 0, ended.err)


def test_the_picture_of_a_copy_is_what_the_command_prints() -> None:
    script = _ROOT / "scripts" / "copy_picture.py"
    subprocess.run([sys.executable, script, "--check"], check=True, timeout=300)
