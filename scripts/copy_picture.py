"""Draws docs/copy.svg from what the command prints; with --check, only compares it."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

_ROOT = Path(__file__).parents[1]
_FILE = _ROOT / "docs" / "copy.svg"
_COMMANDS = (
    "agentx-persistence copy sqlite:///agentx.db file:backup",
    "agentx-persistence compare sqlite:///agentx.db file:backup",
    "agentx-persistence copy sqlite:///agentx.db file:backup",
)
_STORE = """
from agentx_persistence import ImageRecord, SessionRecord, UserMessage, create_persistence

with create_persistence("sqlite:///agentx.db") as store:
    for user in range(6):
        store.images.save(ImageRecord(container_id=f"user-{user}"))
        for _ in range(3):
            session = SessionRecord(container_id=f"user-{user}")
            talk = [UserMessage(content=text) for text in ("Hello!", "Go on.")]
            store.sessions.add_messages(session.session_id, talk, create=session)
"""


def draw() -> str:
    screen = Console(width=76, record=True, file=io.StringIO(), force_terminal=True)
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPATH": str(_ROOT)}

        def run(*arguments: str) -> str:
            return subprocess.check_output(
                [sys.executable, *arguments],
                cwd=folder,
                env=environment,
                text=True,
                stderr=subprocess.DEVNULL,  # the progress, which the terminal does not keep
            )

        run("-c", _STORE)
        for command in _COMMANDS:
            screen.print(Text(f"$ {command}", style="bold"))
            screen.print(Text(run("-m", *command.replace("-", "_", 1).split()).rstrip()))
    return screen.export_svg(title="agentx-persistence copy", unique_id="copy")


def main(arguments: list[str]) -> str | int:
    new = draw()
    if arguments == ["--check"]:
        return (
            0 if new == _FILE.read_text() else "docs/copy.svg is old: run scripts/copy_picture.py"
        )
    _FILE.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
