"""An environment of its own for each framework, made once and kept in a folder."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shlex
import subprocess
import sys
import tarfile
import tomllib
import venv
from pathlib import Path

BACKEND = "AGENTX_TEST_BACKEND"  # the JSON of the `Backend` on which an inner suite runs
SOURCES = "AGENTX_TEST_SOURCES"  # the folder of the unpacked source distributions
TRIES = "AGENTX_TEST_RACE_TRIES"

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]
FRAMEWORKS = sorted(path.parent.name for path in HERE.glob("*/requirements.txt"))

_CLIENTS = ("sqlite", "mysql", "postgresql", "redis", "mongodb")


class EnvironmentFailedError(Exception):
    """pip could not install or download something."""


def environment(framework: str) -> Path:
    """Return the folder of the framework's environment, which is made if it is not there.

    The package itself is not installed in it: it is imported from the checkout.

    :raises EnvironmentFailedError: if it cannot be made, as without a network
    """
    wanted = _read(HERE, "requirements.txt") + _read(HERE / framework, "requirements.txt")
    wanted += _own_requirements()
    sources = _read(HERE / framework, "sources.txt")
    digest = hashlib.sha256(repr((sys.version, wanted, sources)).encode()).hexdigest()[:12]
    folder = _cache() / f"{framework}-{digest}"
    folder.mkdir(parents=True, exist_ok=True)
    with open(f"{folder}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = folder / "done"
        if not done.exists():
            venv.create(folder, with_pip=True, clear=True)
            _pip(folder, "install", "--no-compile", "--prefer-binary", *wanted)
            for source in sources:
                _pip(folder, "download", "--no-deps", "--no-binary=:all:", "-d", "sources", source)
            for archive in folder.glob("sources/*.tar.gz"):
                with tarfile.open(archive) as opened:
                    opened.extractall(archive.parent, filter="data")
            done.touch()
    return folder


def inner_pytest(framework: str, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run the framework's inner suite in its environment, with these variables."""
    folder = environment(framework)
    command = [folder / "bin" / "python", "-m", "pytest", HERE / framework]
    command += ["-c", HERE / "inner.ini", "--confcutdir", HERE]
    command += shlex.split(os.environ.get("AGENTX_TEST_INNER", ""))
    variables = {"PYTHONPATH": str(CHECKOUT), SOURCES: str(folder / "sources"), **variables}
    return subprocess.run(
        command,
        cwd=CHECKOUT,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=int(os.environ.get("AGENTX_TEST_INNER_SECONDS", "3600")),
    )


def _cache() -> Path:
    given = os.environ.get("AGENTX_TEST_ENVIRONMENTS_FOLDER")
    return Path(given or Path.home() / ".cache" / "agentx-persistence" / "environments")


def _own_requirements() -> list[str]:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    return sorted({*project["dependencies"], *(line for name in _CLIENTS for line in extras[name])})


def _read(folder: Path, name: str) -> list[str]:
    file = folder / name
    lines = file.read_text("utf-8").splitlines() if file.exists() else []
    return [line for line in map(str.strip, lines) if line and not line.startswith("#")]


def _pip(folder: Path, *arguments: str) -> None:
    command = [folder / "bin" / "python", "-m", "pip", "--quiet", "--disable-pip-version-check"]
    try:
        made = subprocess.run(
            [*command, *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=1200,
        )
    except subprocess.TimeoutExpired as error:
        raise EnvironmentFailedError(f"pip {arguments[0]}: not done after 1,200 s") from error
    if made.returncode:
        raise EnvironmentFailedError(f"pip {arguments[0]}: {made.stderr.strip()[-1000:]}")
