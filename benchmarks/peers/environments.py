"""An environment of its own for each peer, and the process that runs in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import venv
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

_CHECKOUT = Path(__file__).parents[2]
_HERE = Path(__file__).parent


class PeerError(Exception):
    """A peer could not be installed, or did not do what it was asked to do."""


@dataclass(frozen=True)
class Peer:
    name: str
    environment: str
    packages: tuple[str, ...]
    script: str
    backends: tuple[str, ...]
    variant: str = ""
    """Which of the peer's classes, where one script has several."""
    integration: str = ""
    """Our class under the peer's framework, in the same script; otherwise ours runs without it."""

    def command(self) -> list[str]:
        """Return the command that runs it, once its environment is there."""
        return [str(self._python()), str(_HERE / self.script), self.variant]

    def our_command(self) -> list[str]:
        """Return the command that runs this package beside it."""
        if self.integration:
            return [str(self._python()), str(_HERE / self.script), self.integration]
        return our_command()

    def _python(self) -> Path:
        folder = _CHECKOUT / ".venv" / "peers" / self.environment
        python = folder / "bin" / "python"
        done = folder / "installed"
        wanted = "\n".join(self.packages)
        if not done.exists() or done.read_text() != wanted:
            venv.create(folder, with_pip=True, clear=True)  # one that was cut off lacks packages
            pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            made = subprocess.run(
                [*pip, "--upgrade", *self.packages], capture_output=True, text=True, timeout=900
            )
            if made.returncode:
                raise PeerError(f"cannot be installed: {made.stderr.strip()[-300:]}")
            done.write_text(wanted)
        return python


def our_command() -> list[str]:
    return [sys.executable, "-m", "benchmarks.peers.ours"]


class Worker:
    """A process that answers one JSON line with one JSON line."""

    def __init__(self, command: list[str], folder: Path) -> None:
        handle, name = tempfile.mkstemp(dir=folder)
        self._log = Path(name)
        with open(handle, "wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=_CHECKOUT,
                env={**os.environ, "PYTHONPATH": str(_CHECKOUT)},
                bufsize=1,
            )

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):  # then there is no answer, either
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise PeerError(f"it ended: {self._log.read_text(errors='replace').strip()[-300:]}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise PeerError(answer["error"])
        return answer

    def time(self, do: str, arguments: list[str]) -> list[float]:
        """Do this once for each argument; return the seconds that each took."""
        seconds: list[float] = self.ask(do, arguments=arguments)["seconds"]
        return seconds

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self._process.communicate(timeout=10)  # it ends when there is no more to read
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
