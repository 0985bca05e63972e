"""An environment of its own for each framework, made once and kept in a folder."""

from __future__ import annotations

import ast
import fcntl
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from urllib.request import urlopen

BACKEND = "AGENTX_TEST_BACKEND"  # the JSON of the `Backend` on which an inner suite runs
SOURCES = "AGENTX_TEST_SOURCES"  # the folder of the unpacked source distributions
TRIES = "AGENTX_TEST_RACE_TRIES"

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]
FRAMEWORKS = sorted(path.parent.name for path in HERE.glob("*/requirements.txt"))

_VARIABLES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "cert": "SSL_CERT_FILE",
}
_CLIENTS = ("sqlite", "mysql", "postgresql", "redis", "mongodb")


class EnvironmentFailedError(Exception):
    """Something could not be installed or downloaded."""


def environment(framework: str) -> Path:
    """Return the folder of the environment for the framework's inner suite, as `installed` does."""
    wanted = _read(HERE, "requirements.txt") + _read(HERE / framework, "requirements.txt")
    return installed(framework, wanted, _read(HERE / framework, "sources.txt"))


def installed(framework: str, packages: Iterable[str], sources: Sequence[str] = ()) -> Path:
    """Return the folder of an environment with these packages, which is made if it is not there.

    The package itself is not installed in it, but what it needs is: it is imported from the
    checkout.

    :raises EnvironmentFailedError: if it cannot be made, as without a network
    """
    wanted = [*packages, *_own_requirements()]
    digest = hashlib.sha256(repr((sys.version, wanted, sources)).encode()).hexdigest()[:12]
    folder = _cache() / f"{framework}-{digest}"
    folder.mkdir(parents=True, exist_ok=True)
    with open(f"{folder}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = folder / "done"
        if not done.exists():
            shutil.rmtree(folder)
            _uv("venv", "--python", sys.executable, str(folder))
            _uv("pip", "install", "--python", str(folder), *wanted)
            if sources:
                _unpack(sources, folder / "sources")
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


def _unpack(packages: Sequence[str], folder: Path) -> None:
    """Download the source distributions of the packages and unpack them in the folder."""
    listed = _uv("pip", "compile", "--no-deps", "--format", "pylock.toml", "-", given=packages)
    for package in tomllib.loads(listed)["packages"]:
        try:
            with (
                urlopen(package["sdist"]["url"], timeout=60) as stream,
                tarfile.open(fileobj=stream, mode="r|gz") as archive,
            ):
                # CPython 3.11.2, as in Debian 12, has no filters yet.
                archive.extraction_filter = getattr(tarfile, "data_filter", None)
                archive.extractall(folder)
        except OSError as error:
            raise EnvironmentFailedError(f"{package['name']}: {error}") from error


def _uv(*arguments: str, given: Iterable[str] = ()) -> str:
    command = [sys.executable, "-m", "uv", "--quiet", *arguments]
    return _run(command, given="\n".join(given), variables={**_settings(), **os.environ})


@cache
def _settings() -> dict[str, str]:
    """Return the index and the certificates that pip is configured with, as variables of uv."""
    settings = {"UV_INDEX_STRATEGY": "unsafe-best-match", "UV_PYTHON_DOWNLOADS": "never"}
    for line in _run([sys.executable, "-m", "pip", "config", "list"]).splitlines():
        name, _, value = line.partition("=")
        if variable := _VARIABLES.get(name.rpartition(".")[2]):
            settings.setdefault(variable, " ".join(ast.literal_eval(value).split()))
    return settings


def _run(
    command: list[str], given: str | None = None, variables: dict[str, str] | None = None
) -> str:
    try:
        ended = subprocess.run(
            command,
            input=given,
            env=variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
    except subprocess.TimeoutExpired as error:
        raise EnvironmentFailedError(f"{command[2:5]}: not done after 600 s") from error
    if ended.returncode:
        raise EnvironmentFailedError(f"{command[2:5]}: {ended.stderr.strip()[-1000:]}")
    return ended.stdout
